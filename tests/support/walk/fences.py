"""What the fences of runners see in `task_reports`, folded by the real fence.

Only assignments, lapses and settlings matter, and only which of them have landed: the fold takes away and never gives
back. So what has landed is a sorted tuple of numbers.
"""

from __future__ import annotations

from kernel.domain.task import TaskAssigned, TaskLeaseLapsed, TaskSettled
from kernel.fence import _Run
from tests.support.walk.tables import Names

Landed = tuple[int, ...]
FENCING = (TaskAssigned, TaskLeaseLapsed, TaskSettled)
OPEN, SETTLED, LAPSED = 0, 1, 2
"""What stood in the reports of a run before a report of some token: nothing, its settling only, its lapse."""


class Fences:
    """Answers by table."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._folded: dict[Landed, _Run] = {}
        self._before: dict[tuple[Landed, int], int] = {}

    def land(self, landed: Landed, record: int) -> Landed:
        """`landed` with one more record; reports and repeats change nothing."""
        if record in landed or not isinstance(self._names[record], FENCING):
            return landed
        return tuple(sorted((*landed, record)))

    def is_open(self, landed: Landed, task: int) -> bool:
        """What a read to the end says about the token of `task`."""
        assigned = self._names[task]
        return self._fold(landed).is_assigned(assigned.workflow_run_id, assigned.token)

    def is_over(self, landed: Landed, task: int) -> bool:
        """Whether its token can never open again."""
        return self._fold(landed).is_over(self._names[task].token)

    def before(self, landed: Landed, report: int) -> int:
        """`OPEN`, `SETTLED` or `LAPSED`: what a record that lands now has before it."""
        known = self._before.get((landed, report))
        if known is None:
            token = self._names[report].token
            closing = [self._names[record] for record in landed if self._names[record].token == token]
            known = OPEN
            if any(isinstance(record, TaskSettled) for record in closing):
                known = SETTLED
            if any(isinstance(record, TaskLeaseLapsed) for record in closing):
                known = LAPSED
            self._before[landed, report] = known
        return known

    def _fold(self, landed: Landed) -> _Run:
        run = self._folded.get(landed)
        if run is None:
            run = self._folded[landed] = _Run(partition=0, since_ms=0, from_offset=0, asked_ms=0.0)
            for offset, record in enumerate(landed):
                run.fold(self._names[record], offset)
        return run
