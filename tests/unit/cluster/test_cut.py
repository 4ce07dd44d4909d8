"""A cut through partitions that grow while their ends are read: what it keeps is whole, and nothing old is left out.

A small model plays two deciders that feed each other: inputs, ledgers, derived records, checkpoints, in random order.
The ends are read one by one while it goes on. What every partition held at the moment between the two readings must be
in the cut, and the cut must be a state that the model could have been in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.backup.cut import Partition, Tail, Window, greatest_cut

OTHER = {"a": "b", "b": "a"}


@dataclass
class Entry:
    """One record of the model."""

    tail: Tail
    group: int = -1
    """Decisions of one input belong together."""


@dataclass
class Model:
    """Partitions as lists of entries, and what the owners know."""

    partitions: dict[Partition, list[Entry]] = field(
        default_factory=lambda: {(f"{kind} {name}", 0): [] for name in "ab" for kind in ("inputs", "ledger", "facts")}
    )
    decided: dict[str, int] = field(default_factory=lambda: {"a": 0, "b": 0})
    derived: dict[str, int] = field(default_factory=lambda: {"a": 0, "b": 0})

    def add(self, where: Partition, tail: Callable[[int], Tail], group: int = -1) -> None:
        self.partitions[where].append(Entry(tail(len(self.partitions[where])), group))

    def ask(self, name: str, _: int) -> None:
        """Somebody outside appends an input."""
        self.add((f"inputs {name}", 0), Tail)

    def decide(self, name: str, count: int) -> None:
        """The next input is decided: one batch of decisions."""
        inputs, ledger = (f"inputs {name}", 0), (f"ledger {name}", 0)
        if self.decided[name] == len(self.partitions[inputs]):
            return
        cause = self.decided[name]
        self.decided[name] += 1
        for number in range(count):
            self.add(
                ledger,
                lambda offset, cause=cause, number=number: Tail(  # type: ignore[misc]  # bound now
                    offset, {inputs: cause + 1}, joins_last=number > 0
                ),
                group=cause,
            )

    def derive(self, name: str, count: int) -> None:
        """What the next decisions bring about, in facts and in the inputs of the other one."""
        ledger = (f"ledger {name}", 0)
        for _ in range(count):
            if self.derived[name] == len(self.partitions[ledger]):
                return
            source = self.derived[name]
            self.derived[name] += 1
            if self.partitions[ledger][source].group < 0:
                continue
            targets = [(f"facts {name}", 0)] + ([(f"inputs {OTHER[name]}", 0)] if source % 3 == 0 else [])
            for target in targets:
                self.add(
                    target,
                    lambda offset, source=source: Tail(  # type: ignore[misc]  # bound now
                        offset, {ledger: source + 1}, source=(ledger, source)
                    ),
                )

    def checkpoint(self, name: str, _: int) -> None:
        """The owner states how far it has come."""
        inputs, ledger = (f"inputs {name}", 0), (f"ledger {name}", 0)
        below, decided = self.derived[name], self.decided[name]
        self.add(ledger, lambda offset: Tail(offset, {inputs: decided}, derived_below=(ledger, below)))

    def ends(self) -> dict[Partition, int]:
        return {where: len(entries) for where, entries in self.partitions.items()}


def broken_rule(model: Model, cut: dict[Partition, int]) -> str:
    """The first rule that the cut breaks, looking at all records; empty when it keeps them."""
    for where, entries in model.partitions.items():
        kept = entries[: cut[where]]
        for entry in kept:
            if any(cut[needed] < least for needed, least in entry.tail.needs.items()):
                return f"{where} {entry.tail}: a need is not met"
            if entry.tail.derived_below is not None:
                ledger, below = entry.tail.derived_below
                for target, others in model.partitions.items():
                    for other in others[cut[target] :]:
                        source = other.tail.source
                        if source is not None and source[0] == ledger and source[1] < below:
                            return f"{where} {entry.tail}: {target} {other.tail} is lost"
        if 0 < len(kept) < len(entries) and kept[-1].group >= 0 and kept[-1].group == entries[len(kept)].group:
            return f"{where} is cut between decisions of one input"
    return ""


moves = st.tuples(st.sampled_from(["ask", "decide", "derive", "checkpoint"]), st.sampled_from("ab"), st.integers(1, 3))
phase = st.lists(moves, max_size=25)


@settings(max_examples=400, deadline=None)
@given(before=phase, readings=st.lists(st.lists(moves, max_size=4), min_size=12, max_size=12), data=st.randoms())
def test_the_cut_is_whole_and_holds_all_that_was_there_between_the_two_readings(
    before: list[tuple[str, str, int]], readings: list[list[tuple[str, str, int]]], data: object
) -> None:
    model = Model()

    def play(some: list[tuple[str, str, int]]) -> None:
        for name, owner, count in some:
            getattr(model, name)(owner, count)

    play(before)
    places = list(model.partitions)
    data.shuffle(places)  # type: ignore[attr-defined]  # a seeded Random
    begins, ends = dict.fromkeys(places, 0), dict.fromkeys(places, 0)
    for where, meanwhile in zip(places, readings[:6], strict=True):
        begins[where] = len(model.partitions[where])
        play(meanwhile)
    between = model.ends()
    ledgers_first = sorted(places, key=lambda where: not where[0].startswith("ledger"))
    for where, meanwhile in zip(ledgers_first, readings[6:], strict=True):
        ends[where] = len(model.partitions[where])
        play(meanwhile)
    windows = {
        where: Window(begins[where], ends[where], [entry.tail for entry in entries[begins[where] : ends[where]]])
        for where, entries in model.partitions.items()
    }
    cut = greatest_cut(windows)
    assert all(between[where] <= cut[where] <= ends[where] for where in cut)
    assert broken_rule(model, cut) == ""


def test_an_effect_whose_cause_is_left_out_is_left_out() -> None:
    inputs, ledger = ("inputs", 0), ("ledger", 0)
    windows = {
        inputs: Window(5, 6, [Tail(5)]),
        ledger: Window(9, 12, [Tail(9, {inputs: 6}), Tail(10, {inputs: 7}), Tail(11, {inputs: 7}, joins_last=True)]),
    }
    assert greatest_cut(windows) == {inputs: 6, ledger: 10}


def test_decisions_of_one_input_are_left_out_together() -> None:
    ledger, facts = ("ledger", 0), ("facts", 0)
    windows = {
        ledger: Window(0, 2, [Tail(0), Tail(1, {facts: 1}, joins_last=True)]),
        facts: Window(0, 0, []),
    }
    assert greatest_cut(windows) == {ledger: 0, facts: 0}


def test_a_checkpoint_whose_derived_records_are_left_out_is_left_out() -> None:
    ledger, facts = ("ledger", 0), ("facts", 0)
    windows = {
        ledger: Window(1, 2, [Tail(1, derived_below=(ledger, 1))]),
        facts: Window(0, 2, [Tail(0, {("other", 0): 4}), Tail(1, {ledger: 1}, source=(ledger, 0))]),
        ("other", 0): Window(3, 3, []),
    }
    assert greatest_cut(windows) == {ledger: 1, facts: 0, ("other", 0): 3}
