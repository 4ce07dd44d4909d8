"""One root run on a bench of `advance`, with whoever has its newest attempt."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from kernel.domain.job_run import JobRunRequested
from kernel.domain.plan import RunOptions
from kernel.domain.task import TaskRequested
from scheduler.advance import Advance
from tests.support.deciding import Bench
from tests.support.runs import Attempt, assigned, job_run_requested, workflow_run_requested

T = TypeVar("T")


def only(events: list[Any], kind: type[T]) -> T:
    found = [event for event in events if isinstance(event, kind)]
    assert len(found) == 1, f"{kind.__name__} in {[type(event).__name__ for event in events]}"
    return found[0]


def kinds(events: list[Any]) -> list[type]:
    return [type(event) for event in events]


class Run:
    """One root run on the bench."""

    def __init__(self, workflows: int = 2, *, job: bool = True, stop_after_step: str = "") -> None:
        self.bench = Bench(Advance())
        request = job_run_requested("r1", workflows) if job else workflow_run_requested("r1")
        if stop_after_step and isinstance(request, JobRunRequested):
            options = RunOptions(test_mode=True, stop_after_step=stop_after_step)
            request = replace(request, plan=tuple(replace(workflow, options=options) for workflow in request.plan))
        self.first = self.bench.when("r1", request)
        self.attempt = Attempt(only(self.first, TaskRequested))

    def when(self, event: Any) -> list[Any]:
        return self.bench.when("r1", event)

    def takes(self) -> list[Any]:
        """The newest attempt is assigned and begins."""
        return self.when(assigned(self.attempt.task)) + self.when(self.attempt.started())

    def follows(self, events: list[Any]) -> Attempt:
        """The next attempt that `events` ask for."""
        self.attempt = Attempt(only(events, TaskRequested))
        return self.attempt
