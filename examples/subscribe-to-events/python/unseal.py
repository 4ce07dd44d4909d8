"""Opens sealed values: who the end customer of each job run is.

    TOWPATH_API_KEY=…   a key of level `events`
    python unseal.py    prints id of the job run and the caller's own id of its customer

A box is: version byte 0x01, nonce of 12 bytes, AES-256-GCM ciphertext with its tag. Associated data are
"towpath/sealed/1", the subject id and the purpose ("text" for Sealed, "json" for SealedBody), joined by U+001F.
"""

import base64
import json
import os
import urllib.request

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from contracts.v1.job_run_pb2 import JobRunCreated


def unseal(box, key, subject_id, purpose):
    """The plaintext of a box, as bytes; raises `cryptography.exceptions.InvalidTag` when it does not open."""
    if box[:1] != b"\x01":
        raise ValueError("no sealed box of a known version")
    associated = f"towpath/sealed/1\x1f{subject_id}\x1f{purpose}".encode()
    return AESGCM(key).decrypt(box[1:13], box[13:], associated)


def subject_keys(subject_ids):
    """Keys by subject, at most a hundred at once; a subject that was erased is missing."""
    url = os.environ.get("TOWPATH_URL", "http://127.0.0.1:8700")
    query = "&".join(f"subjectId={subject_id}" for subject_id in subject_ids)
    authorization = {"Authorization": f"Bearer {os.environ['TOWPATH_API_KEY']}"}
    request = urllib.request.Request(f"{url}/api/v2/subject-keys?{query}", headers=authorization)
    with urllib.request.urlopen(request) as answer:
        return {one["subjectId"]: base64.b64decode(one["key"]) for one in json.load(answer)["data"]}


def created_job_runs():
    """The first fact of every job run, up to the present end of the topic."""
    consumer = Consumer(
        {
            "bootstrap.servers": os.environ.get("TOWPATH_KAFKA", "localhost:9092"),
            "group.id": "unseal-example",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    topic = f"{os.environ.get('TOWPATH_TOPIC_PREFIX', 'towpath')}.job_runs.g1"
    unfinished = set(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in unfinished])
    while unfinished:
        for record in consumer.consume(500, 0.5):
            if record.error() is None:
                if (b"towpath.job_run.created.v1") in dict(record.headers()).values():
                    yield JobRunCreated.FromString(record.value())
            elif record.error().code() == KafkaError._PARTITION_EOF:
                unfinished.discard(record.partition())
    consumer.close()


def main():
    """Ask for each key once."""
    keys = {}
    for run in created_job_runs():
        sealed = run.external_id
        if not sealed.box:
            continue
        if sealed.subject_id not in keys:
            keys.update(subject_keys([sealed.subject_id]))
        key = keys.get(sealed.subject_id)
        text = unseal(sealed.box, key, sealed.subject_id, "text").decode() if key else "(erased)"
        print(run.job_run_id, text)


if __name__ == "__main__":
    main()
