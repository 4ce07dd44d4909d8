"""Runs on the cluster form as a client sees them, beside the same number of bare hops chained on the same broker.

Every figure of an embedded run has its like here, with the prefix `kafka_` and bare aiokafka as its baseline.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from time import perf_counter

from api_gateway.announcing import CHANNEL
from kernel.clock import SystemClock
from kernel.log.kafka.log import KafkaLog
from kernel.log.kafka.settings import KafkaSettings
from kernel.log.topics import Topic
from kernel.sql.postgres.signals import PostgresSignals
from tests.bench.figures import Figure, figure, quantile
from tests.bench.kafka.cluster import Cluster, running_cluster
from tests.bench.kafka.raw import raw_kafka
from tests.bench.platform import create_workflow
from tests.bench.processes import cpu_ms
from tests.bench.runs import CALLERS, START, W1_STEPS, Effort, no_op_steps, run_once, storm

CHAIN_HOPS = 8
"""Appends, each of which waits for the one before, until a run has ended: request, decided, asked for, assigned, given,
reported, decided, told. Until its runner has started it is as many."""
POST_HOPS = 3
"""Of these until a POST is answered: request, decided, told."""
_ROUNDS = 5
_HOP_NAME = "a bare hop (aiokafka, produce to consume)"
_HOPS_NAME = "{} bare hops (aiokafka, produce to consume), chained"


async def kafka_w1(folder: Path, effort: Effort) -> AsyncIterator[Figure]:
    """Three durable no-op steps, one run at a time, and POST with read-your-writes on the way."""
    async with running_cluster(folder) as cluster, raw_kafka(cluster.bootstrap, CHAIN_HOPS) as raw:
        workflow_id = await create_workflow(cluster.platform, no_op_steps(W1_STEPS), "w1")
        connection = await cluster.platform.connect()
        for _ in range(effort.of(200)):
            await run_once(connection, workflow_id)
        await raw.chains_ms(effort.of(50))
        took, chains, shorts = [], [], []
        spent: dict[str, float] = {}
        for _ in range(_ROUNDS):
            before = cluster.cpu_ms()
            took += [await run_once(connection, workflow_id) for _ in range(effort.of(60))]
            spent = _plus(spent, _minus(cluster.cpu_ms(), before))
            chains += await raw.chains_ms(effort.of(60))
            shorts += await raw.chains_ms(effort.of(60), POST_HOPS)
    ended, answered = [one.ended for one in took], [one.answered for one in took]
    detail = _cpu_detail(spent, len(took))
    for share, title in ((0.5, "p50"), (0.99, "p99")):
        baseline = (_HOPS_NAME.format(CHAIN_HOPS), quantile(chains, share))
        yield figure(f"kafka_w1_{title}_ms", quantile(ended, share), "ms", baseline, len(ended), **detail)
        detail = {}
    baseline = (_HOPS_NAME.format(POST_HOPS), quantile(shorts, 0.5))
    p99 = quantile(answered, 0.99)
    yield figure("kafka_post_p50_ms", quantile(answered, 0.5), "ms", baseline, len(answered), p99_ms=p99)


async def kafka_start(folder: Path, effort: Effort) -> AsyncIterator[Figure]:
    """From sending the POST to seeing that a runner has started, one run at a time."""
    async with running_cluster(folder) as cluster, raw_kafka(cluster.bootstrap, CHAIN_HOPS) as raw:
        workflow_id = await create_workflow(cluster.platform, no_op_steps(1), "start")
        connection = await cluster.platform.connect()
        for _ in range(effort.of(200)):
            await run_once(connection, workflow_id, START)
        await raw.chains_ms(effort.of(50))
        took: list[float] = []
        chains: list[float] = []
        for _ in range(_ROUNDS):
            took += [(await run_once(connection, workflow_id, START)).ended for _ in range(effort.of(60))]
            chains += await raw.chains_ms(effort.of(60))
    for share, title in ((0.5, "p50"), (0.99, "p99")):
        baseline = (_HOPS_NAME.format(CHAIN_HOPS), quantile(chains, share))
        yield figure(f"kafka_start_{title}_ms", quantile(took, share), "ms", baseline, len(took))


async def kafka_w1_c100(folder: Path, effort: Effort) -> AsyncIterator[Figure]:
    """The same with a hundred callers: runs a second, CPU of all processes with the servers, lag of the projections."""
    async with running_cluster(folder) as cluster:
        workflow_id = await create_workflow(cluster.platform, no_op_steps(W1_STEPS), "w1")
        callers = [await cluster.platform.connect() for _ in range(CALLERS)]
        await storm(callers, workflow_id, effort.of(10))
        each = effort.of(50)
        async with AsyncExitStack() as stack:
            lag = await _Lag.watch(cluster, stack)
            before, began = cluster.cpu_ms(), perf_counter()
            took = await storm(callers, workflow_id, each)
            seconds, spent = perf_counter() - began, _minus(cluster.cpu_ms(), before)
            lags = await lag.found_ms()
        async with raw_kafka(cluster.bootstrap, CHAIN_HOPS) as raw:
            await raw.storm(CALLERS, effort.of(10))
            broker = cpu_ms(cluster.parts["kafka"])
            rate = await raw.storm(CALLERS, each)
            raw_cpu = rate.cpu_ms + (cpu_ms(cluster.parts["kafka"]) - broker) / (CALLERS * each)
            hops = await raw.chains_ms(effort.of(100), 1)
    runs, ended = len(took), [one.ended for one in took]
    name = f"{_HOPS_NAME.format(CHAIN_HOPS)}, a hundred at once"
    detail = {"p50_ms": quantile(ended, 0.5), "p99_ms": quantile(ended, 0.99)}
    yield figure("kafka_w1_c100_runs_per_s", runs / seconds, "runs/s", (name, rate.per_s), runs, **detail)
    detail = _cpu_detail(spent, runs)
    yield figure("kafka_w1_c100_cpu_ms_per_run", sum(spent.values()) / runs, "ms", (name, raw_cpu), runs, **detail)
    baseline = (_HOP_NAME, quantile(hops, 0.5))
    p99 = quantile(lags, 0.99)
    yield figure("kafka_projection_lag_ms", quantile(lags, 0.5), "ms", baseline, len(lags), p99_ms=p99)


class _Lag:
    """How long a public fact takes from its append to the commit of its row, as told to all gateways."""

    def __init__(self, log: KafkaLog, began: dict[int, int]) -> None:
        self._log = log
        self._began = began
        self._heard: dict[int, list[tuple[int, int]]] = {partition: [] for partition in began}

    @classmethod
    async def watch(cls, cluster: Cluster, stack: AsyncExitStack) -> _Lag:
        """Listen from now on. The facts themselves are read afterwards, so that watching costs next to nothing."""
        log = await KafkaLog.open(KafkaSettings(cluster.bootstrap), SystemClock())
        stack.push_async_callback(log.close)
        partitions = range(log.partitions(Topic.JOB_RUNS))
        self = cls(log, {partition: await log.end_offset(Topic.JOB_RUNS, partition) for partition in partitions})
        listening = asyncio.create_task(PostgresSignals(cluster.postgres).listen(CHANNEL, self._told))
        stack.callback(listening.cancel)
        return self

    def _told(self, payload: str) -> None:
        topic, _, rest = payload.partition("/")
        if topic == Topic.JOB_RUNS:
            partition, _, next_offset = rest.partition("/")
            self._heard[int(partition)].append((int(next_offset), SystemClock().now_ms()))

    async def found_ms(self) -> list[float]:
        """Of every fact since the beginning whose projection was told."""
        found: list[float] = []
        for partition, heard in self._heard.items():
            offset, ends = self._began[partition], [next_offset for next_offset, _ in heard]
            while ends and offset < ends[-1]:
                for stored in await self._log.read(Topic.JOB_RUNS, partition, offset):
                    offset = stored.offset + 1
                    place = bisect_right(ends, stored.offset)
                    if place < len(ends):
                        found.append(heard[place][1] - stored.appended_ms)
        return found


def _minus(after: dict[str, float], before: dict[str, float]) -> dict[str, float]:
    return {name: value - before[name] for name, value in after.items()}


def _plus(some: dict[str, float], more: dict[str, float]) -> dict[str, float]:
    return {name: value + some.get(name, 0.0) for name, value in more.items()}


def _cpu_detail(spent: dict[str, float], runs: int) -> dict[str, float]:
    """CPU for a run, by the part that spent it."""
    return {f"cpu_ms_{name.removesuffix('-1').replace('-', '_')}": value / runs for name, value in spent.items()}
