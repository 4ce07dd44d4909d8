"""From inputs to the record batches of a ledger. No effects: the codec and the entropy are arguments.

Each input is decided on the state that all before it have left. Its decisions are staged and applied whole, so that a
decider that fails in the middle leaves the state as it was. What one input decides is never cut into two batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from msgspec import Struct

from kernel.domain.decider import Context, Decider, Decision, Derived, Input, State, TakenOver, Wake
from kernel.ids import derived_id
from kernel.log.envelope import Cause, Envelope, Message
from kernel.log.limits import BATCH_BYTES_MAX, DECISION_BYTES_MAX, record_bytes
from kernel.log.port import Record
from kernel.processor.ports import Codec


class Undecidable(Exception):
    """The input cannot be decided; `__cause__` says why."""


class Decided(Struct, frozen=True):
    """A decision that is not in the ledger yet, with its record and what it will derive."""

    decision: Decision
    record: Record
    derived: tuple[Derived, ...]
    id: str
    time_ms: int
    traceparent: str
    tracestate: str = ""


class Transition(Struct, frozen=True):
    """One cause with its decisions; `size` in bytes."""

    decided: tuple[Decided, ...]
    size: int


_NOTHING = Transition((), 0)


@dataclass(frozen=True, slots=True)
class Batch:
    """The decisions of `transitions` causes, to be appended as one."""

    decided: tuple[Decided, ...]
    transitions: int


class Trigger(Struct, frozen=True):
    """What is decided: the cause as the decider sees it, its place, a text that no other cause has, its trace."""

    what: Input | Wake | TakenOver
    cause: Cause
    identity: str
    causation_id: str = ""
    traceparent: str = ""
    organization_id: str = ""
    correlation_id: str = ""
    tracestate: str = ""


class Deciding:
    """Decides causes for one decider and partition under one claim."""

    def __init__(
        self,
        decider: Decider,
        partition: int,
        codec: Codec,
        nonce: Callable[[], str],
        *,
        claim: str,
        partitions: Callable[[str], int],
    ) -> None:
        """`partitions` tells how many a topic has."""
        self._decider = decider
        self._partition = partition
        self._codec = codec
        self._nonce = nonce
        self._claim = claim
        self._partitions = partitions

    def decide(self, state: State, trigger: Trigger, now_ms: int) -> Transition:
        """Decide and evolve `state`. Raises `Undecidable` and leaves `state` alone when the decider or codec fails."""
        context = Context(now_ms, partial(derived_id, trigger.identity), self._nonce)
        try:
            decisions = [_inherit(item, trigger) for item in self._decider.decide(state, trigger.what, context)]
            if not decisions:
                return _NOTHING
            staged = self._evolve(state, decisions)
            transition = self._record(trigger, decisions, now_ms)
        except Exception as error:  # the edge of foreign code: one bad input must not stop the partition
            raise Undecidable(type(error).__name__) from error
        for key, value in staged.items():
            state.put(key, value)
        return transition

    def _evolve(self, state: State, decisions: Sequence[Decision]) -> dict[str, Any]:
        staged: dict[str, Any] = {}
        for decision in decisions:
            for key in self._decider.touches(decision):
                old = staged[key] if key in staged else state.get(key)
                staged[key] = self._decider.evolve(key, old, decision)
        return staged

    def _record(self, trigger: Trigger, decisions: Sequence[Decision], now_ms: int) -> Transition:
        decided = tuple(self._decided(trigger, index, item, now_ms) for index, item in enumerate(decisions))
        sizes = [record_bytes(item.record) for item in decided]
        if max(sizes) > DECISION_BYTES_MAX:
            raise ValueError("a decision, or what is derived from it, is longer than 64 KiB")
        if sum(sizes) > BATCH_BYTES_MAX:
            raise ValueError("the decisions of one input are longer than 1 MiB")
        return Transition(decided, sum(sizes))

    def _decided(self, trigger: Trigger, index: int, decision: Decision, now_ms: int) -> Decided:
        id_ = derived_id(trigger.identity, "decision", str(index))
        envelope = Envelope(
            id=id_,
            time_ms=now_ms,
            subject=decision.subject,
            sequence=decision.sequence,
            organization_id=decision.organization_id,
            correlation_id=decision.correlation_id,
            causation_id=trigger.causation_id,
            traceparent=trigger.traceparent,
            claim=self._claim,
            cause=trigger.cause,
            tracestate=trigger.tracestate,
        )
        record = self._codec.encode(
            decision.event, topic=self._decider.ledger, key=decision.key, envelope=envelope, partition=self._partition
        )
        derived = tuple(self._decider.derive(decision))
        self._check(derived)
        return Decided(decision, record, derived, id_, now_ms, trigger.traceparent, trigger.tracestate)

    def _check(self, derived: Sequence[Derived]) -> None:
        """What the log refuses to take once it is decided would stop the partition for ever."""
        for item in derived:
            if item.partition is not None and not 0 <= item.partition < self._partitions(item.topic):
                raise ValueError(f"{item.topic} has no partition {item.partition}")


def _inherit(decision: Decision, trigger: Trigger) -> Decision:
    """The decision as its record will tell it: organization and correlation default to those of the cause."""
    organization_id = decision.organization_id or trigger.organization_id
    correlation_id = decision.correlation_id or trigger.correlation_id
    if organization_id == decision.organization_id and correlation_id == decision.correlation_id:
        return decision
    return Decision(decision.event, decision.key, decision.sequence, decision.subject, organization_id, correlation_id)


def input_trigger(message: Message, topic_id: str) -> Trigger:
    """The trigger of an input record of the topic with that identity."""
    envelope = message.envelope
    return Trigger(
        Input(
            message.topic,
            message.key,
            message.event,
            envelope.organization_id,
            envelope.correlation_id,
            message.appended_ms,
        ),
        Cause(message.topic, message.partition, message.offset),
        f"{topic_id}/{message.partition}/{message.offset}",
        envelope.id,
        envelope.traceparent,
        envelope.organization_id,
        envelope.correlation_id,
        envelope.tracestate,
    )


def batches(transitions: Iterable[Transition], records_max: int, bytes_max: int) -> list[Batch]:
    """Transitions in as few batches as the bounds allow; a transition beyond them is a batch of its own."""
    made: list[Batch] = []
    pending: list[Decided] = []
    count = size = 0
    for transition in transitions:
        if not transition.decided:
            continue
        if pending and (len(pending) + len(transition.decided) > records_max or size + transition.size > bytes_max):
            made.append(Batch(tuple(pending), count))
            pending, count, size = [], 0, 0
        pending += transition.decided
        count += 1
        size += transition.size
    if pending:
        made.append(Batch(tuple(pending), count))
    return made
