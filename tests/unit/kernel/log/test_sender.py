"""What becomes of appends when something breaks that nobody has thought of: each gets an outcome, and the next goes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from aiokafka.protocol.transaction import InitProducerIdRequest
from structlog.testing import capture_logs

from kernel.clock import SystemClock
from kernel.errors import LogUnavailable, UnknownOutcome
from kernel.log.kafka.brokers import Stream
from kernel.log.kafka.records import batch_bytes
from kernel.log.kafka.sending import Sender
from kernel.log.kafka.settings import KafkaSettings
from kernel.log.kafka.wire import Code, ProduceRequest
from kernel.log.limits import record_bytes
from kernel.log.port import Record
from tests.support.eventually import PATIENCE_SECONDS

A, B = ("facts", 0), ("facts", 1)
HASTY_SECONDS = 0.5
"""For an append whose time is to be over."""


class Broken(Exception):
    """None of those that the sender knows."""


class _Brokers:
    """One broker, which gives out offsets. What `breaks` names raises as often as it says."""

    def __init__(self) -> None:
        self.breaks: dict[str, int] = {}
        self.leads: dict[Stream, int | None] = {A: 1, B: 1}
        self.moved: set[Stream] = set()
        self.ends = dict.fromkeys(self.leads, 0)
        self.held: Callable[[], Any] | None = None

    def _maybe(self, name: str) -> None:
        if self.breaks.get(name, 0) > 0:
            self.breaks[name] -= 1
            raise Broken(name)

    def leader(self, stream: Stream) -> int | None:
        return self.leads[stream]

    def nodes(self) -> list[int]:
        return [1]

    def opened_id(self, _topic: str) -> UUID:
        self._maybe("opened_id")
        return UUID(int=1)

    def is_recreated(self, _topic: str, _topic_id: UUID) -> bool:
        return False

    def is_gone(self, _topic: str) -> bool:
        return False

    def jitter(self, seconds: float) -> float:
        return seconds / 10

    async def refresh(self) -> None:
        if self.held is not None:
            await self.held()
        self._maybe("refresh")

    async def ask(self, _node: int, request: Any, _lane: str) -> Any:
        await asyncio.sleep(0)
        if isinstance(request, InitProducerIdRequest):
            self._maybe("producer")
            return SimpleNamespace(error_code=Code.NONE, producer_id=7)
        assert isinstance(request, ProduceRequest)
        self._maybe("produce")
        ((_, parts),) = request._batches.items()
        return SimpleNamespace(topics=[("facts", [self._landed(number) for number, _ in parts])])

    def _landed(self, number: int) -> tuple[int, int, int]:
        if ("facts", number) in self.moved:
            return number, Code.NOT_LEADER, -1
        offset = self.ends["facts", number]
        self.ends["facts", number] += 1
        return number, Code.NONE, offset


@pytest.fixture(autouse=True)
def told() -> Iterator[list[Any]]:
    """What is logged, which nobody renders: that would take longer than an append may."""
    with capture_logs() as lines:
        yield lines


@pytest.fixture
def brokers() -> _Brokers:
    return _Brokers()


def sender_of(brokers: Any, append_seconds: float = PATIENCE_SECONDS) -> Sender:
    return Sender(brokers, KafkaSettings("nowhere:1", append_seconds=append_seconds), SystemClock())


def put(sender: Sender, stream: Stream, keys: str = "k") -> asyncio.Future[int]:
    records = [Record(*stream, key, (), b"v") for key in keys]
    return sender.put(stream, records, sum(map(record_bytes, records)))


async def outcome(answer: asyncio.Future[int]) -> int | BaseException:
    """In what an append may take, and a little more."""
    (found,) = await asyncio.wait_for(asyncio.gather(answer, return_exceptions=True), PATIENCE_SECONDS + 5)
    return found


@pytest.mark.parametrize("place", ["opened_id", "producer"])
async def test_what_was_not_sent_is_tried_again_while_it_has_time(brokers: _Brokers, place: str) -> None:
    brokers.breaks[place] = 1
    sender = sender_of(brokers)
    assert await outcome(put(sender, A)) == 0
    await sender.close()


@pytest.mark.parametrize("place", ["opened_id", "producer"])
async def test_what_cannot_be_sent_at_all_ends_when_its_time_is_over_and_nothing_is_written(
    brokers: _Brokers, place: str
) -> None:
    brokers.breaks[place] = 1_000_000
    sender = sender_of(brokers, HASTY_SECONDS)
    answers = [put(sender, A), put(sender, B)]
    found = [await outcome(answer) for answer in answers]
    assert [type(one) for one in found] == [LogUnavailable] * 2
    brokers.breaks.clear()
    assert await outcome(put(sender, A)) == 0
    await sender.close()


async def test_a_batch_that_cannot_be_made_ends_and_the_next_one_goes(
    brokers: _Brokers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(given: Sequence[Record], *more: Any) -> bytes:
        if given[0].key == "x":
            raise Broken
        return batch_bytes(given, *more)

    monkeypatch.setattr("kernel.log.kafka.sending.batch_bytes", broken)
    sender = sender_of(brokers)
    answers = [put(sender, A, "x"), put(sender, B)]
    assert isinstance(await outcome(answers[0]), LogUnavailable)
    assert await outcome(answers[1]) == 0
    assert await outcome(put(sender, A)) == 0
    await sender.close()


async def test_where_nobody_leads_an_append_ends_though_looking_for_a_leader_breaks(brokers: _Brokers) -> None:
    brokers.leads[A] = None
    brokers.breaks["refresh"] = 1_000_000
    sender = sender_of(brokers, HASTY_SECONDS)
    assert isinstance(await outcome(put(sender, A)), LogUnavailable)
    brokers.leads[A] = 1
    assert await outcome(put(sender, A)) == 0
    await sender.close()


async def test_what_was_sent_has_an_unknown_outcome_and_the_next_one_goes(brokers: _Brokers) -> None:
    brokers.breaks["produce"] = 1
    sender = sender_of(brokers)
    answers = [put(sender, A), put(sender, B)]
    assert [type(await outcome(answer)) for answer in answers] == [UnknownOutcome] * 2
    assert await outcome(put(sender, A)) == 0
    await sender.close()


async def test_a_partition_that_has_gone_on_meanwhile_is_left_alone_by_what_breaks_for_another(
    brokers: _Brokers,
) -> None:
    """Both were in one request. One landed, and its next append is in flight while the other one's leader is sought."""
    sender = sender_of(brokers)
    later: list[asyncio.Future[int]] = []

    async def go_on_with_the_other() -> None:
        later.append(put(sender, B))
        assert await later[0] == 1
        later.append(put(sender, B))
        await asyncio.sleep(0)

    brokers.held, brokers.moved, brokers.breaks["refresh"] = go_on_with_the_other, {A}, 1
    answers = [put(sender, A), put(sender, B)]
    assert await outcome(answers[1]) == 0
    assert isinstance(await outcome(answers[0]), UnknownOutcome)
    assert await outcome(later[1]) == 2
    await sender.close()
