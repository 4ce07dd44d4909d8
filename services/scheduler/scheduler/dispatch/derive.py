"""What runners and `advance` are told about a decision of `dispatch`. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from kernel.building import replace
from kernel.domain.decider import Decision, Derived
from kernel.domain.plan import PlannedWorkflow
from kernel.domain.task import Journal, TaskAssigned, TaskLeaseLapsed
from kernel.domain.values import SealedBody
from kernel.log.topics import Topic

_NO_JOURNAL = Journal(SealedBody(), (), ())


def derive(decision: Decision) -> Sequence[Derived]:
    """The records for other topics: first what fences, then the work."""
    event = decision.event
    match event:
        case TaskAssigned():
            return (
                Derived(Topic.TASK_REPORTS, event.root_run_id, without_work(event)),
                Derived(Topic.RUNNER_INBOX, event.incarnation, event, partition=event.inbox_partition),
            )
        case TaskLeaseLapsed():
            return (Derived(Topic.TASK_REPORTS, event.root_run_id, event),)
        case _:
            return ()


def without_work(assigned: TaskAssigned) -> TaskAssigned:
    """Who has which token, and nothing of the work."""
    request = replace(
        assigned.request, workflow=PlannedWorkflow(pool=assigned.request.pool), journal=_NO_JOURNAL, answers=()
    )
    return replace(assigned, request=request)
