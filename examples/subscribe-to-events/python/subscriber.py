"""Follows the public topic `job_runs` with a plain Kafka client and keeps the read model of job runs.

    python subscriber.py                          from where it was, for ever; tells each change
    python subscriber.py --until-end              up to the present end, then prints the model as JSON

Model and offsets are saved together, in one file, so that they never disagree: what was folded after the last save is
delivered again and dropped by its number. No consumer group is needed for that; with several processes, use one group
and keep the model of each partition together with its offset, in one transaction of your database.
"""

import argparse
import json
import os
import sys
from pathlib import Path

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from job_runs import JobRuns

BATCH, WAIT_SECONDS = 500, 0.5


def main():
    """Read, fold, save."""
    parser = argparse.ArgumentParser(description="Keep the read model of job runs.")
    parser.add_argument("--kafka", default=os.environ.get("TOWPATH_KAFKA", "localhost:9092"))
    parser.add_argument("--prefix", default=os.environ.get("TOWPATH_TOPIC_PREFIX", "towpath"))
    parser.add_argument("--state", type=Path, help="where model and offsets are kept; without it in memory")
    parser.add_argument("--until-end", action="store_true")
    given = parser.parse_args()

    saved = json.loads(given.state.read_text()) if given.state and given.state.exists() else {}
    model = JobRuns(saved.get("runs"), saved.get("seen"))
    offsets = saved.get("offsets", {})

    consumer = Consumer(
        {
            "bootstrap.servers": given.kafka,
            "group.id": "job-runs-example",  # librdkafka asks for one; nothing is committed to it
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
        }
    )
    topic = f"{given.prefix}.job_runs.g1"
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, p, offsets.get(str(p), OFFSET_BEGINNING)) for p in partitions])
    unfinished = set(partitions)
    while unfinished or not given.until_end:
        for record in consumer.consume(BATCH, WAIT_SECONDS):
            if record.error() is None:
                take(model, record, tell=not given.until_end)
                offsets[str(record.partition())] = record.offset() + 1
            elif record.error().code() == KafkaError._PARTITION_EOF:
                unfinished.discard(record.partition())
            elif not record.error().retriable():
                raise KafkaException(record.error())
        if given.state:
            save(given.state, {"offsets": offsets, "runs": model.runs, "seen": model.seen})
    consumer.close()
    json.dump({"runs": model.runs, "repeated": model.repeated}, sys.stdout)


def take(model, record, *, tell):
    """Fold one record; `tell` prints what changed."""
    headers = {name: value.decode() for name, value in record.headers() or []}
    key = record.key().decode()
    if model.take(key, headers, record.value()) and tell:
        print(headers["ce_time"], headers["ce_type"], key, model.runs[key]["status"], flush=True)


def save(path, state):
    """Write all of it or nothing."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(state))
    fresh.replace(path)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
