"""The topic of public facts is deleted and made anew under load: who writes or follows it refuses in one line.

Nobody begins anew in it: it stays empty, and the read models keep what they told. A process that is started again by
whoever overlooked the line refuses, too. This ends a cluster, so it has one of its own.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from random import Random  # noqa: TID251 (the moment is drawn by the seed)

from confluent_kafka import Consumer, TopicPartition

from cluster.parts import Service
from kernel.log.kafka.settings import KafkaSettings
from kernel.log.topics import Topic
from kernel.refusing import REFUSED_EXIT_CODE
from kernel.sql.postgres import PostgresDatabase
from tests.support.cluster_load import ClusterLoad
from tests.support.fault_cycles import RECREATE, TOPICS, Cycle
from tests.support.faulty_cluster import FaultyCluster
from tests.support.kafka_topics import KafkaTopics
from tests.support.public_watch import PublicWatch

_REFUSE_SECONDS = 60.0


def recreate_topic(folder: Path, browser: str, seed: int) -> Cycle:
    """One cycle in a cluster in `folder`. `AssertionError` when a promise is broken.

    `all_ended` is how long it took until every service had refused, while callers went on calling them.
    """
    with FaultyCluster(folder, browser=browser, brokers=1) as cluster:
        with (
            PublicWatch(cluster.kafka.bootstrap, TOPICS) as watch,
            ClusterLoad(
                cluster.gateways, cluster.key, watch, cluster.site_url, light=6, ordering=0, accept_seconds=20
            ) as load,
        ):
            watch.until(lambda fold: sum(run.ended for run in fold.runs.values()) > 10, 60, "runs that end")
            time.sleep(Random(seed).random())
            live = watch.until(lambda fold: _several(load.unfinished(fold)), 60, "live work")
            partitions = watch.partitions(TOPICS[0])
            began = time.monotonic()
            asyncio.run(_recreate(cluster, partitions))
            services = cluster.services
            stopped = (*services.gateway_processes, *services.schedulers, services.health, *services.stores)
            for one in stopped:
                _await_refusal(one, "was recreated")
            refused = time.monotonic() - began
        assert watch.fold.problems == []
        _check_remains(cluster, partitions, ended=sum(run.ended for run in watch.fold.runs.values()))
        return Cycle(RECREATE, seed, 0, len(live), 0, 0.0, refused, len(load.book.accepted))


def _several(live: list[str]) -> list[str]:
    return live if len(live) > 2 else []


def _check_remains(cluster: FaultyCluster, partitions: int, *, ended: int) -> None:
    """Read models tell all that had ended, also after a gateway was started again; the new topic is empty."""
    rows = asyncio.run(_rows(cluster))
    assert rows >= ended, f"{rows} runs are told, {ended} had ended"
    for store in cluster.services.stores:
        store.start()  # it keeps what it has, and a gateway asks for it first
    gateway = cluster.services.gateway_processes[0]
    gateway.start()
    _await_refusal(gateway, "job_runs was recreated: the read models follow")
    assert asyncio.run(_rows(cluster)) == rows
    assert _records(cluster, partitions) == 0, "somebody began anew"


async def _recreate(cluster: FaultyCluster, partitions: int) -> None:
    await KafkaTopics(KafkaSettings(cluster.kafka.bootstrap)).recreate({Topic.JOB_RUNS: partitions})


def _await_refusal(one: Service, why: str) -> None:
    """It ends with the code of a refusal, and its last word begins a line of its own that says why."""
    deadline = time.monotonic() + _REFUSE_SECONDS
    while one.exit_code != REFUSED_EXIT_CODE or why not in one.last_word():
        assert time.monotonic() < deadline, f"{one.name}: code {one.exit_code}: {one.last_word()}"
        time.sleep(0.1)
    assert one.last_word().startswith("towpath "), one.last_word()
    assert not [line for line in one.log.read_text().splitlines() if line.startswith("Traceback")]


async def _rows(cluster: FaultyCluster) -> int:
    db = await PostgresDatabase.open(cluster.postgres.url)
    try:
        row = await db.fetch_one("SELECT count(*) FROM job_runs")
    finally:
        await db.close()
    return int(row[0]) if row else 0


def _records(cluster: FaultyCluster, partitions: int) -> int:
    """How many stand in the topic that was made anew."""
    consumer = Consumer({"bootstrap.servers": cluster.kafka.bootstrap, "group.id": "whoever-looks", "log_level": 0})
    try:
        ends = [consumer.get_watermark_offsets(TopicPartition(TOPICS[0], at), timeout=10) for at in range(partitions)]
    finally:
        consumer.close()
    return sum(end[1] for end in ends if end)
