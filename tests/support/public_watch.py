"""An outside subscriber beside a cluster under test: librdkafka, names of public topics, and the fold of an outsider.

It reads without a group, from the first record on, in a thread of its own, and rides through brokers that come and go.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from tests.support.outside_fold import OutsideFold

_POLL_SECONDS = 0.05
_PATIENCE_SECONDS = 30.0


class Silences:
    """How long each partition of one topic told nothing. Times by the monotonic clock."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self._last: dict[int, float] = {}
        self._longest = 0.0

    def begin(self) -> None:
        """Count from now on."""
        self._longest = 0.0
        self._last = dict.fromkeys(self._last, time.monotonic())

    def told(self, partition: int) -> None:
        """A fact has come."""
        now = time.monotonic()
        self._longest = max(self._longest, now - self._last.get(partition, now))
        self._last[partition] = now

    def longest(self) -> float:
        """Of all partitions that have ever told something, up to their last fact."""
        return self._longest


class PublicWatch:
    """Follows `topics` (names on the broker) into `fold`; `silences` are those of the first. A context manager."""

    def __init__(self, bootstrap: str, topics: Sequence[str]) -> None:
        self.fold = OutsideFold()
        self.lock = threading.Lock()
        """Held while `fold` changes; hold it to look at more than one thing."""
        self.silences = Silences(topics[0])
        self._bootstrap = bootstrap
        self._topics = topics
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "outside-observer",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "allow.auto.create.topics": False,
                "reconnect.backoff.max.ms": 500,
                "log_level": 0,
            }
        )
        self._next: dict[tuple[str, int], int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="public-watch", daemon=True)
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        for topic in self._topics:
            partitions = self._consumer.list_topics(topic, timeout=_PATIENCE_SECONDS).topics[topic].partitions
            self._next.update({(topic, partition): 0 for partition in partitions})
        self._consumer.assign([TopicPartition(topic, partition, 0) for topic, partition in self._next])
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(_PATIENCE_SECONDS)
        self._consumer.close()

    def until(self, seen: Callable[[OutsideFold], Any], seconds: float, what: str) -> Any:
        """What `seen` finds once that is true; `AssertionError` naming `what` after `seconds`."""
        deadline = time.monotonic() + seconds
        while True:
            with self.lock:
                found = seen(self.fold)
            if found:
                return found
            assert self._failure is None, f"the observer failed: {self._failure!r}"
            assert time.monotonic() < deadline, f"in {seconds:.0f} s nothing was seen of: {what}"
            time.sleep(_POLL_SECONDS)

    def partitions(self, topic: str) -> int:
        """How many `topic` has."""
        return sum(1 for name, _ in self._next if name == topic)

    def read_to_end(self, seconds: float = _PATIENCE_SECONDS) -> None:
        """Wait until everything that stands in the topics now is folded."""
        # By a client of its own: one that is read from at the same time may never answer.
        asking = Consumer({"bootstrap.servers": self._bootstrap, "group.id": "outside-observer", "log_level": 0})
        try:
            ends = {place: _high_watermark(asking, place, seconds) for place in self._next}
        finally:
            asking.close()
        self.until(
            lambda _: all(self._next[place] >= end for place, end in ends.items()), seconds, f"records to {ends}"
        )

    def _follow(self) -> None:
        try:
            while not self._stop.is_set():
                messages = self._consumer.consume(500, _POLL_SECONDS)
                with self.lock:
                    for message in messages:
                        self._take(message)
        except BaseException as error:  # noqa: BLE001 (the edge of the thread: `until` tells it)
            self._failure = error

    def _take(self, message: Message) -> None:
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF or error.retriable():
                return
            raise KafkaException(error)
        topic, partition, offset = str(message.topic()), int(message.partition() or 0), int(message.offset() or 0)
        if offset < self._next[topic, partition]:
            return
        self._next[topic, partition] = offset + 1
        pairs: Any = message.headers() or ()
        headers = {name: _text(value) for name, value in pairs}
        key, value = message.key(), message.value()
        if topic == self.silences.topic:
            self.silences.told(partition)
        self.fold.take(topic, partition, _text(key or b""), headers, value if isinstance(value, bytes) else b"")


def _high_watermark(asking: Consumer, place: tuple[str, int], seconds: float) -> int:
    deadline = time.monotonic() + seconds
    while True:
        with suppress(KafkaException):
            if found := asking.get_watermark_offsets(TopicPartition(*place), timeout=2.0):
                return int(found[1])
        assert time.monotonic() < deadline, f"no broker tells the end of {place}"
        time.sleep(_POLL_SECONDS)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
