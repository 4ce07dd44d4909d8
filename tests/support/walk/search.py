"""Breadth-first search of a state space, so that every trace shown is a shortest one.

The space says what may follow a state and raises `Broken` where an invariant does not hold. With `live`, every state
that was reached must be able to reach an end by moves that are no faults (AG EF end).
"""

from __future__ import annotations

import gc
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

Label = tuple[Any, ...]
Move = tuple[Label, Any, bool]
"""What happens, the state that it leads to, and whether it is a fault."""


class Broken(AssertionError):
    """An invariant does not hold after the move `label`."""

    def __init__(self, text: str, label: Label = ()) -> None:
        super().__init__(text)
        self.text = text
        self.label = label


class Space(Protocol):
    """What is searched. States are immutable and hashable."""

    def initial(self) -> Hashable:
        """The state in which everything begins."""
        ...

    def moves(self, state: Any) -> Iterable[Move]:
        """Everything that may happen next. Raises `Broken`."""
        ...

    def is_end(self, state: Any) -> bool:
        """Whether everything that was asked for has ended."""
        ...

    def tell(self, label: Label) -> str:
        """One line of a story."""
        ...


@dataclass(frozen=True, slots=True)
class Walked:
    """What a search saw. `broken` is empty when everything holds; `story` is a shortest way to what does not."""

    states: int
    edges: int
    broken: str = ""
    story: tuple[str, ...] = ()
    complete: bool = True


class _Search:
    def __init__(self, space: Space, *, live: bool) -> None:
        self.space = space
        self.live = live
        self.states: list[Any] = [space.initial()]
        self.numbers: dict[Any, int] = {self.states[0]: 0}
        self.parents: list[int] = [-1]
        self.before: list[list[int]] = [[]]
        """Of each state, those that lead to it without a fault; kept when `live`."""
        self.edges = 0

    def run(self, states_max: int) -> Walked:
        at = 0
        while at < len(self.states):
            try:
                self._expand(at)
            except Broken as broken:
                return self._told(broken.text, at, broken.label)
            at += 1
            if len(self.states) > states_max:
                return Walked(len(self.states), self.edges, complete=False)
        if self.live and (stuck := self._stuck()) is not None:
            return self._told("STUCK: no end can be reached any more", stuck)
        return Walked(len(self.states), self.edges)

    def _expand(self, at: int) -> None:
        numbers, states = self.numbers, self.states
        for _, state, is_fault in self.space.moves(states[at]):
            self.edges += 1
            number = numbers.setdefault(state, len(states))
            if number == len(states):
                states.append(state)
                self.parents.append(at)
                if self.live:
                    self.before.append([])
            if self.live and not is_fault:
                self.before[number].append(at)

    def _stuck(self) -> int | None:
        todo = [number for number, state in enumerate(self.states) if self.space.is_end(state)]
        good = set(todo)
        while todo:
            fresh = [number for number in self.before[todo.pop()] if number not in good]
            good.update(fresh)
            todo += fresh
        return next((number for number in range(len(self.states)) if number not in good), None)

    def _told(self, text: str, at: int, last: Label = ()) -> Walked:
        story = [self.space.tell(label) for label in self._way(at)]
        if last:
            story.append(self.space.tell(last))
        return Walked(len(self.states), self.edges, text, tuple(story))

    def _way(self, at: int) -> Iterator[Label]:
        path = [at]
        while self.parents[path[-1]] >= 0:
            path.append(self.parents[path[-1]])
        path.reverse()
        for before, after in pairwise(path):
            yield self._label(self.states[before], self.states[after])

    def _label(self, before: Any, after: Any) -> Label:
        for label, state, _ in self.space.moves(before):
            if state == after:
                return label
        raise AssertionError("the space is not the same twice")


def search(space: Space, *, live: bool = False, states_max: int = 5_000_000) -> Walked:
    """Walk everything that can be reached, or until something is broken or `states_max` is passed."""
    was_enabled = gc.isenabled()
    gc.disable()  # states are tuples without cycles, and looking through millions of them takes a third of the time
    try:
        return _Search(space, live=live).run(states_max)
    finally:
        if was_enabled:
            gc.enable()
