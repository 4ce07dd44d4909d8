"""A partition in the memory of its owner: the map, how far the inputs are, and the time. No log, no waiting.

It runs ahead of the ledger: what is decided here counts only once it is read back, and when it turns out not to count
the whole of it is thrown away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from kernel.clock import Clock
from kernel.domain.decider import Decider, State, TakenOver, Wake
from kernel.domain.owner import InputPosition, Watermark
from kernel.log.envelope import Cause, Message
from kernel.log.port import Stored
from kernel.processor.deciding import Deciding, Transition, Trigger, Undecidable, input_trigger
from kernel.processor.deriving import Ledger
from kernel.processor.ledger import Mark, MarkKey, Restored, is_new, raise_mark
from kernel.processor.ports import Parked, Ports
from kernel.processor.turns import InTurns, ends_turn


def filled_state(decider: Decider, values: Mapping[str, Any]) -> InTurns[State]:
    """The state map of `decider` with these values, indexes included."""
    state = decider.empty()
    for number, (key, value) in enumerate(values.items(), 1):
        state.put(key, value)
        if ends_turn(number):
            yield
    return state


class Partition:
    """What `restored` says, under a claim; `state` holds its values, `marks` are its watermarks, `topic_ids` name
    ledger and inputs.
    """

    def __init__(
        self,
        decider: Decider,
        ports: Ports,
        ledger: Ledger,
        *,
        topic_ids: dict[str, str],
        restored: Restored,
        state: State,
        marks: dict[MarkKey, Mark],
    ) -> None:
        self.state = state
        self.positions = {topic: restored.positions.get(topic, 0) for topic in decider.inputs}
        self._marks = marks
        self._decider = decider
        self._ports = ports
        self._ledger = ledger
        self._topic_ids = topic_ids
        self._clock = MonotonicNow(ports.clock, restored.now_ms)
        self._timeless = 0

    @property
    def behind_ms(self) -> int:
        """How far the wall clock was behind the last decision at the takeover; over a second is an outage."""
        return self._clock.behind_ms

    def now_ms(self) -> int:
        """The time to decide at; never falls, not below the last decision before a takeover either."""
        return self._clock.now_ms()

    def use_claim(self, claim: str) -> None:
        """Decisions from here on name `claim`."""
        self._claim = claim
        ports = self._ports
        self._deciding = Deciding(
            self._decider,
            self._ledger.partition,
            ports.codec,
            ports.entropy.nonce,
            claim=claim,
            partitions=ports.log.partitions,
        )

    def decide_inputs(self, taken: Iterable[Stored], now_ms: int) -> list[Transition]:
        """Decide records of the input topics, each topic in order. What cannot be decided is parked."""
        transitions = [self._decide_input(stored, now_ms) for stored in taken]
        return [transition for transition in transitions if transition is not None]

    def decide_timeless(self, what: Wake | TakenOver, now_ms: int) -> Transition | None:
        """Decide what no record asks for; None when the decider fails, which is told to the observer."""
        self._timeless += 1
        ledger = self._ledger
        identity = f"{ledger.topic_id}/{ledger.partition}/{self._claim}/{self._timeless}"
        try:
            return self._deciding.decide(
                self.state, Trigger(what, Cause("", ledger.partition, now_ms), identity), now_ms
            )
        except Undecidable as error:
            name = type(what).__name__
            self._ports.observer.failed(self._decider.name, ledger.partition, f"{name} is not decided", str(error))
            return None

    def progress(self, derived_below: int) -> tuple[tuple[InputPosition, ...], tuple[Watermark, ...], int]:
        """Positions, watermarks and now, as checkpoints and snapshots carry them; the ledger's own identity beside."""
        positions = [InputPosition(topic, self._topic_ids[topic], offset) for topic, offset in self.positions.items()]
        positions.append(InputPosition(self._ledger.topic, self._ledger.topic_id, derived_below))
        marks = [Watermark(*key, *mark) for key, mark in sorted(self._marks.items())]
        return tuple(positions), tuple(marks), self.now_ms()

    def _decide_input(self, stored: Stored, now_ms: int) -> Transition | None:
        topic = stored.record.topic
        if stored.offset < self.positions[topic]:
            return None
        self.positions[topic] = stored.offset + 1
        try:
            message = self._ports.codec.decode(stored)
        except Exception as error:  # noqa: BLE001 (the edge of foreign bytes: they must not stop the partition)
            return self._park(stored, type(error).__name__)
        if not self._accepts(message):
            return None
        try:
            return self._deciding.decide(self.state, input_trigger(message, self._topic_ids[topic]), now_ms)
        except Undecidable as error:
            return self._park(stored, str(error))

    def _accepts(self, message: Message) -> bool:
        """Whether an input is no repetition of a derived record; if so it is remembered."""
        source = message.envelope.source
        if source is None:
            return True
        key = (message.topic, source.topic_id, source.partition)
        if not is_new(source, self._marks.get(key)):
            return False
        raise_mark(self._marks, key, (source.offset, source.index))
        return True

    def _park(self, stored: Stored, error: str) -> Transition | None:
        record = stored.record
        digest = hashlib.sha256(record.value).hexdigest()
        wire_type = dict(record.headers).get("ce_type", "")
        parked = Parked(record.topic, record.partition, stored.offset, digest, error, wire_type)
        self._ports.observer.parked(self._decider.name, self._ledger.partition, parked)
        return None


class MonotonicNow:
    """Wall time at the takeover, carried forward by the boot clock, and never below `floor_ms`."""

    def __init__(self, clock: Clock, floor_ms: int) -> None:
        self._clock = clock
        wall_ms = clock.now_ms()
        self.behind_ms = max(floor_ms - wall_ms, 0)
        self._start_ms = max(wall_ms, floor_ms)
        self._start_boot_ms = clock.boot_ms()

    def now_ms(self) -> int:
        return self._start_ms + int(self._clock.boot_ms() - self._start_boot_ms)
