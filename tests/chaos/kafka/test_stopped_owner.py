"""An owner process is stopped around a request to the broker, another one takes over, the first wakes up.

It is stopped at a counted moment: before a request is sent, when it is sent, when its answer is there. While it sleeps
another process claims the ledger, decides what there is and what comes, and ends. What is effective then must be the
same after the first has woken up and done whatever it still wants to do, and an outsider must find each input decided
once. In half of the cases the first sleeps longer than its requests may last.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass

import pytest

from kernel.clock import SystemClock
from kernel.domain.owner import OwnerClaimed
from kernel.log.envelope import Message
from kernel.log.kafka.log import KafkaLog
from kernel.log.port import EventLog, Record
from tests.support.components import kafka_nodes, needs_kafka
from tests.support.crash_points import EXPECTED, inputs
from tests.support.kafka_topics import TopicSets
from tests.support.owner_processes import OwnerProcesses, PickleCodec, owner_of, run_until_idle
from tests.support.processing import by_key, by_sequence, by_watermark, decisions
from tests.support.toy_decider import FACTS, LEDGER, NUDGES, TOPICS, ObjectCodec

pytestmark = needs_kafka

SHARES = 4
"""So many tests share the moments, and workers may run them side by side."""
STRIDE = 1 if kafka_nodes() == 1 else 3
"""Every moment is tried on one node; on more, where each costs more, the seed says at which the strides begin."""
HASTY_SECONDS = 0.25
SLEEP_SECONDS = 0.3


@pytest.fixture(scope="module")
def processes() -> Iterator[OwnerProcesses]:
    with OwnerProcesses() as started:
        yield started


@pytest.fixture
def seed(pytestconfig: pytest.Config) -> int:
    """`TOWPATH_SEED`, or what pytest drew for this run."""
    return int(os.environ.get("TOWPATH_SEED") or pytestconfig.getoption("randomly_seed"))


@pytest.fixture
async def sets() -> AsyncIterator[TopicSets]:
    made = TopicSets(dict.fromkeys(TOPICS, 1))
    yield made
    await made.delete()


def all_inputs() -> list[Record]:
    """The inputs of the crash points, as bytes."""
    objects, codec = ObjectCodec(), PickleCodec()
    found = []
    for record in inputs(objects):
        event, envelope = objects._messages[int(record.value)]
        found.append(codec.encode(event, topic=record.topic, key=record.key, envelope=envelope, partition=0))
    return found


@dataclass(frozen=True, slots=True)
class Outside:
    """What an outsider sees."""

    ledger: list[Message]
    facts: list[Message]
    nudges: list[Message]


async def seen(log: EventLog) -> Outside:
    codec = PickleCodec()

    async def read(topic: str) -> list[Message]:
        return [codec.decode(stored) for stored in await log.read(topic, 0, 0, max_records=100_000)]

    return Outside(await read(LEDGER), await read(FACTS), await read(NUDGES))


def told(messages: Iterable[Message]) -> list[tuple[int, str, object]]:
    return [(message.offset, message.key, message.event) for message in messages]


async def count_moments(processes: OwnerProcesses, sets: TopicSets) -> int:
    settings = await sets.take()
    log = await KafkaLog.open(settings, SystemClock(), topics=TOPICS)
    await log.append(all_inputs())
    ended = await processes.wait(await processes.start(settings))
    await log.close()
    assert ended.startswith("ended idle"), ended
    return int(ended.split()[2])


async def stop_at(moment: int, processes: OwnerProcesses, sets: TopicSets, *, hasty: bool) -> str:
    """One case; how the stopped owner ended. One that is hasty sleeps past the time of its requests."""
    settings = await sets.take()
    log = await KafkaLog.open(settings, SystemClock(), topics=TOPICS)
    given = all_inputs()
    await log.append(given[:9])
    sleeper = await processes.start(settings, stop_at=moment, seconds=HASTY_SECONDS if hasty else 5.0)
    if (first := await processes.wait(sleeper)) == "stopped":
        await log.append(given[9:])
        other = await processes.wait(await processes.start(settings))
        assert other.startswith("ended idle"), other
        before = await seen(log)
        if hasty:
            await asyncio.sleep(SLEEP_SECONDS)
        await processes.wake(sleeper)
        first = await processes.wait(sleeper)
        after = await seen(log)
        kept, known = told(decisions(after.ledger)), told(decisions(before.ledger))
        assert kept == known[len(known) - len(kept) :], "a claim of its own may only have cut the ledger"
        assert by_sequence(after.facts) == by_sequence(before.facts)
    else:
        await log.append(given[9:])
    assert first.startswith("ended"), first
    await run_until_idle(owner_of(log))
    check(await seen(log))
    await log.close()
    return first.split()[1]


def check(outside: Outside) -> None:
    assert by_sequence(outside.facts) == EXPECTED
    wanted = sorted((did for dids in EXPECTED.values() for did in dids), key=repr)
    assert sorted(by_watermark(outside.nudges), key=repr) == wanted
    for key, kept in by_key(decisions(outside.ledger)).items():
        assert kept == EXPECTED[key][len(EXPECTED[key]) - len(kept) :], key
    assert any(isinstance(message.event, OwnerClaimed) for message in outside.ledger)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("share", range(SHARES))
async def test_an_owner_that_is_stopped_past_a_takeover_changes_nothing_when_it_wakes(
    processes: OwnerProcesses, sets: TopicSets, seed: int, share: int
) -> None:
    moments = range(share + SHARES * (seed % STRIDE), await count_moments(processes, sets), SHARES * STRIDE)
    ends = [
        await stop_at(moment, processes, sets, hasty=(number + seed // STRIDE) % 2 == 1)
        for number, moment in enumerate(moments)
    ]
    assert "superseded" in ends
