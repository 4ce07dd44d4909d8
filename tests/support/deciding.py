"""Drives a pure decider as its owner would, without a log: given inputs, then decisions; the clock is a number."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import Any

from kernel.domain.decider import Context, Decider, Decision, Derived, Input, State, TakenOver, Wake
from kernel.ids import derived_id


@dataclass
class Bench:
    """A decider with its state; every decision is folded as it is made, and the fold is checked by replay."""

    decider: Decider
    now_ms: int = 1_000_000
    history: list[Decision] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state: State = self.decider.empty()
        self._inputs = count()
        self._nonces = count(1)

    def given(self, *events: tuple[str, Any]) -> None:
        """Inputs whose outcome is not looked at."""
        for key, event in events:
            self.when(key, event)

    def when(self, key: str, event: Any, topic: str = "") -> list[Any]:
        """Decide one input; the events that were decided."""
        cause = Input(topic, key, event, "org-1", "", self.now_ms)
        return self._decide(cause)

    def takes_over(self) -> list[Any]:
        """A new owner begins."""
        return self._decide(TakenOver())

    def wakes(self) -> list[Any]:
        """Everything that is due now."""
        events: list[Any] = []
        while (due := self.state.due_ms()) is not None and due <= self.now_ms:
            events += self._decide(Wake())
        return events

    def passes(self, milliseconds: int) -> list[Any]:
        """Time passes, wake-up by wake-up."""
        end, events = self.now_ms + milliseconds, []
        while (due := self.state.due_ms()) is not None and due <= end:
            self.now_ms = max(self.now_ms, due)
            events += self.wakes()
        self.now_ms = end
        return events

    def derived(self, decisions: list[Any] | None = None) -> list[Derived]:
        """Everything that was derived so far."""
        return [record for decision in self.history for record in self.decider.derive(decision)]

    def public(self, topic: str) -> list[tuple[int, Any]]:
        """(sequence, event) of what was derived to `topic`."""
        return [
            (decision.sequence, record.event)
            for decision in self.history
            for record in self.decider.derive(decision)
            if record.topic == topic
        ]

    def _decide(self, cause: Input | Wake | TakenOver) -> list[Any]:
        number = next(self._inputs)
        before = dict(self.state.items())
        context = Context(
            self.now_ms, lambda *parts: derived_id(str(number), *parts), lambda: f"{next(self._nonces):032x}"
        )
        decisions = list(self.decider.decide(self.state, cause, context))
        assert dict(self.state.items()) == before, "decide changed the state"
        for decision in decisions:
            fold(self.decider, self.state, decision)
        self.history += decisions
        return [decision.event for decision in decisions]

    def replayed(self) -> dict[str, Any]:
        """The state as a fresh fold of the history tells it."""
        state = self.decider.empty()
        for decision in self.history:
            fold(self.decider, state, decision)
        return dict(state.items())


def fold(decider: Decider, state: State, decision: Decision) -> None:
    """Fold one decision into the map."""
    for key in decider.touches(decision):
        state.put(key, decider.evolve(key, state.get(key), decision))
