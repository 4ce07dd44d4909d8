"""`dispatch`, given inputs, then decisions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kernel.domain.ids import ConnectionId, OrganizationId, ProviderSlug, TaskId, WorkflowRunId
from kernel.domain.task import (
    ConnectionReleased,
    HeldTask,
    Journal,
    TaskAssigned,
    TaskLeaseLapsed,
    TaskRequested,
    TaskSettled,
    TaskWithdrawn,
)
from kernel.domain.values import Pool, SealedBody, Token
from kernel.log.topics import TYPES, Topic
from scheduler.dispatch import Dispatch
from scheduler.dispatch.state import ORGANIZATIONS_REMEMBERED_MAX, DispatchState, Task, task_key
from scheduler.timers import ECHO_MS, LEASE_MS, RUNNER_FORGET_MS, RUNNER_SILENT_MS
from tests.support.deciding import Bench
from tests.support.runs import SUBJECT, Attempt, died, heartbeat, planned

KEY = "browser/0"


def requested(
    root: str, *, organization: str = "org-1", login: str = "", priority: int = 0, at_ms: int = 0, attempt: int = 1,
    provider: str = "", limit: int = 0,
) -> TaskRequested:  # fmt: skip
    workflow = replace(planned(root, 0, connection=login), provider=ProviderSlug(provider), concurrency=limit)
    return TaskRequested(
        task_id=TaskId(f"{root}/{attempt}"),
        root_run_id=root,
        workflow_run_id=WorkflowRunId(root),
        organization_id=OrganizationId(organization),
        subject_id=SUBJECT,
        token=Token(attempt, f"nonce-{root}-{attempt}"),
        pool=Pool.BROWSER,
        priority=priority,
        workflow=workflow,
        journal=Journal(SealedBody(), (), ()),
        answers=(),
        deadline_ms=0,
        requested_ms=at_ms,
    )


@pytest.fixture
def bench() -> Bench:
    return Bench(Dispatch())


def assigned(events: list[Any]) -> list[str]:
    return [event.root_run_id for event in events if isinstance(event, TaskAssigned)]


def lapses(events: list[Any]) -> list[tuple[str, str]]:
    return [(event.root_run_id, event.proof) for event in events if isinstance(event, TaskLeaseLapsed)]


def settled(task: TaskRequested) -> TaskSettled:
    return TaskSettled(task.task_id, task.root_run_id, task.token, task.pool)


# ---------------------------------------------------------------- matching


def test_a_waiting_runner_gets_a_task_at_once(bench: Bench) -> None:
    bench.when(KEY, heartbeat())
    assert assigned(bench.when(KEY, requested("a"))) == ["a"]


def test_a_waiting_task_goes_to_the_first_free_runner(bench: Bench) -> None:
    assert assigned(bench.when(KEY, requested("a"))) == []
    assert assigned(bench.when(KEY, heartbeat())) == ["a"]


def test_a_runner_never_gets_more_than_its_slots(bench: Bench) -> None:
    for name in "abc":
        bench.when(KEY, requested(name))
    assert assigned(bench.when(KEY, heartbeat(slots=2))) == ["a", "b"]
    assert assigned(bench.when(KEY, heartbeat(slots=2))) == []
    assert assigned(bench.when(KEY, settled(requested("a")))) == ["c"]


def test_a_page_that_waits_for_a_person_takes_no_slot(bench: Bench) -> None:
    task = requested("a")
    bench.given((KEY, task), (KEY, heartbeat()), (KEY, requested("b")))
    assert assigned(bench.when(KEY, heartbeat(held=(Attempt(task).held(waiting=True),)))) == ["b"]


def test_the_work_goes_to_the_inbox_and_only_the_token_to_the_reports(bench: Bench) -> None:
    bench.given((KEY, heartbeat(inbox=3)), (KEY, requested("a", login="l")))
    records = {record.topic: record for record in bench.derived()}
    assert records[Topic.RUNNER_INBOX].partition == 3
    assert records[Topic.RUNNER_INBOX].event.request.workflow.connection_id == "l"
    assert records[Topic.TASK_REPORTS].event.request.workflow.connection_id == ""
    assert records[Topic.TASK_REPORTS].key == "a"
    for record in bench.derived():
        assert record.topic in TYPES[type(record.event)].topics


def test_a_draining_runner_gets_nothing(bench: Bench) -> None:
    bench.when(KEY, requested("a"))
    assert assigned(bench.when(KEY, heartbeat(draining=True))) == []


def test_priority_comes_first_then_age(bench: Bench) -> None:
    bench.given(
        (KEY, requested("old", at_ms=1)),
        (KEY, requested("new", at_ms=2)),
        (KEY, requested("urgent", priority=1, at_ms=3)),
    )
    assert assigned(bench.when(KEY, heartbeat(slots=3))) == ["urgent", "old", "new"]


def test_organizations_take_turns_however_much_one_of_them_asks(bench: Bench) -> None:
    for number in range(20):
        bench.when(KEY, requested(f"greedy-{number:02}", organization="greedy", at_ms=number))
    bench.given((KEY, requested("small-1", organization="small", at_ms=90)))
    bench.given((KEY, requested("small-2", organization="small", at_ms=91)))
    first = assigned(bench.when(KEY, heartbeat(slots=4)))
    assert sorted(first) == ["greedy-00", "greedy-01", "small-1", "small-2"]


def test_long_runs_of_one_organization_leave_as_many_slots_to_another_as_short_ones(bench: Bench) -> None:
    bench.given((KEY, heartbeat(slots=4)))
    long = [requested(f"long-{number}", organization="slow", at_ms=number) for number in range(8)]
    short = [requested(f"short-{number}", organization="quick", at_ms=100 + number) for number in range(8)]
    bench.given(*((KEY, task) for task in (*long, *short)))
    bench.given((KEY, settled(long[0])), (KEY, settled(long[1])))
    # Two slots each now. Every end of a short run is followed by a short one, however often it was the turn of one.
    for number in range(4):
        assert assigned(bench.when(KEY, settled(short[number]))) == [f"short-{number + 2}"]


def test_the_last_slots_of_a_large_pool_are_left_to_organizations_that_have_none(bench: Bench) -> None:
    bench.given((KEY, heartbeat(slots=32)))
    flood = [requested(f"x{number:02}", organization="x", at_ms=number) for number in range(40)]
    bench.given(*((KEY, task) for task in flood))
    mine = [requested(f"y{number}", organization="y", at_ms=100 + number) for number in range(3)]
    assert [assigned(bench.when(KEY, task)) for task in mine] == [["y0"], ["y1"], []]
    assert assigned(bench.when(KEY, settled(flood[0]))) == [], "the spare slot waits for somebody else"
    assert assigned(bench.when(KEY, settled(flood[1]))) == []
    assert assigned(bench.when(KEY, settled(flood[2]))) == ["y2"]


def test_ten_thousand_queued_runs_of_one_organization_cost_another_one_end_of_a_run(bench: Bench) -> None:
    bench.given((KEY, heartbeat(slots=2)))
    flood = [requested(f"x{number:05}", organization="x", at_ms=number) for number in range(10_000)]
    bench.given((KEY, flood[0]), (KEY, flood[1]))
    for task in flood[2:]:
        bench.state.put(task_key(task.task_id), Task(task))
    for asked, ended in enumerate(flood[:20]):
        mine = requested(f"y{asked}", organization="y", at_ms=20_000 + asked)
        assert assigned(bench.when(KEY, mine)) == []
        assert assigned(bench.when(KEY, settled(ended)))[:1] == [f"y{asked}"]
        assert len(assigned(bench.when(KEY, settled(mine)))) == 1, "and the slot goes back to who waits"


def test_a_repeated_request_is_one_task(bench: Bench) -> None:
    bench.when(KEY, requested("a"))
    assert bench.when(KEY, requested("a")) == []


def test_each_token_is_assigned_at_most_once(bench: Bench) -> None:
    task = requested("a")
    bench.given((KEY, heartbeat(slots=5)), (KEY, task))
    assert assigned(bench.when(KEY, task)) == []
    assert assigned(bench.when(KEY, heartbeat(slots=5))) == []


# ---------------------------------------------------------------- one live session per login


def test_two_runs_of_one_login_never_run_together(bench: Bench) -> None:
    bench.given((KEY, requested("a", login="l")), (KEY, requested("b", login="l", at_ms=1)))
    assert assigned(bench.when(KEY, heartbeat(slots=5))) == ["a"]
    assert assigned(bench.when(KEY, settled(requested("a", login="l")))) == []
    released = ConnectionReleased(ConnectionId("l"), "a", Pool.BROWSER)
    assert assigned(bench.when(KEY, released)) == ["b"]


def test_the_holder_of_a_login_gets_its_next_workflow_before_others(bench: Bench) -> None:
    bench.given((KEY, heartbeat(slots=5)), (KEY, requested("a", login="l")), (KEY, requested("b", login="l")))
    bench.when(KEY, settled(requested("a", login="l")))
    assert assigned(bench.when(KEY, requested("a", login="l", attempt=2))) == ["a"]


def test_a_login_stays_held_after_a_lapse(bench: Bench) -> None:
    bench.given((KEY, heartbeat(slots=5)), (KEY, requested("a", login="l")), (KEY, requested("b", login="l")))
    assert lapses(bench.passes(ECHO_MS)) == [("a", "not_echoed")]
    assert assigned(bench.when(KEY, heartbeat(slots=5))) == []


def test_a_release_by_a_run_that_does_not_hold_the_login_frees_nothing(bench: Bench) -> None:
    bench.given((KEY, heartbeat(slots=5)), (KEY, requested("a", login="l")), (KEY, requested("b", login="l")))
    assert bench.when(KEY, ConnectionReleased(ConnectionId("l"), "b", Pool.BROWSER)) == []


def test_a_thousand_runs_of_one_login_do_not_delay_another_customer(bench: Bench) -> None:
    for number in range(1000):
        bench.when(KEY, requested(f"l-{number:04}", login="l", at_ms=number))
    bench.when(KEY, requested("other", login="m", at_ms=5000))
    assert assigned(bench.when(KEY, heartbeat(slots=3))) == ["l-0000", "other"]


# ---------------------------------------------------------------- so many at once at one provider


def of_bank(root: str, at_ms: int = 0, **more: Any) -> TaskRequested:
    return requested(root, provider="bank", limit=1, at_ms=at_ms, **more)


def test_a_provider_gets_no_more_runs_at_once_than_it_takes(bench: Bench) -> None:
    bench.given((KEY, of_bank("a")), (KEY, of_bank("b", 1)))
    assert assigned(bench.when(KEY, heartbeat(slots=5))) == ["a"]
    assert assigned(bench.when(KEY, settled(of_bank("a")))) == ["b"]


def test_a_full_provider_holds_nobody_else_back(bench: Bench) -> None:
    for number in range(100):
        bench.when(KEY, of_bank(f"b-{number:03}", number, priority=1))
    bench.given((KEY, requested("shop", provider="shop", limit=1, at_ms=500)), (KEY, requested("free", at_ms=501)))
    assert assigned(bench.when(KEY, heartbeat(slots=5))) == ["b-000", "shop", "free"]


def test_each_organization_has_its_own_share_of_a_provider(bench: Bench) -> None:
    bench.given((KEY, of_bank("a")), (KEY, of_bank("b", 1, organization="org-2")))
    assert assigned(bench.when(KEY, heartbeat(slots=5))) == ["a", "b"]


def test_who_waits_for_a_person_leaves_the_place_at_the_provider_to_others(bench: Bench) -> None:
    bench.given((KEY, of_bank("a")), (KEY, of_bank("b", 1)), (KEY, heartbeat(slots=5)))
    waiting = HeldTask(TaskId("a/1"), Token(1, "nonce-a-1"), waiting=True)
    assert assigned(bench.when(KEY, heartbeat(slots=5, held=(waiting,)))) == ["b"]


def test_a_lapse_gives_its_place_at_the_provider_back(bench: Bench) -> None:
    bench.given((KEY, of_bank("a")), (KEY, of_bank("b", 1)), (KEY, heartbeat(slots=5)))
    bench.passes(ECHO_MS)
    assert assigned(bench.when(KEY, heartbeat(slots=5))) == ["b"]


def test_a_limit_that_was_taken_away_frees_those_that_were_planned_later(bench: Bench) -> None:
    bench.given((KEY, of_bank("a")), (KEY, of_bank("b", 1)), (KEY, requested("c", provider="bank", at_ms=2)))
    assert assigned(bench.when(KEY, heartbeat(slots=5))) == ["a", "c"]


# ---------------------------------------------------------------- leases


def test_an_assignment_that_is_not_echoed_lapses(bench: Bench) -> None:
    bench.given((KEY, heartbeat()), (KEY, requested("a")))
    assert bench.passes(ECHO_MS - 1) == []
    assert lapses(bench.passes(1)) == [("a", "not_echoed")]


def test_a_heartbeat_renews_exactly_what_it_names(bench: Bench) -> None:
    named, other = requested("a"), requested("b")
    bench.given((KEY, heartbeat(slots=2)), (KEY, named), (KEY, other))
    bench.when(KEY, heartbeat(slots=2, held=(Attempt(named).held(),)))
    assert lapses(bench.passes(ECHO_MS)) == [("b", "not_echoed")]
    assert lapses(bench.passes(LEASE_MS)) == [("a", "expired")]


def test_a_heartbeat_with_another_token_renews_nothing(bench: Bench) -> None:
    task = requested("a")
    bench.given((KEY, heartbeat()), (KEY, task))
    stale = replace(task, token=Token(1, "stale"))
    bench.when(KEY, heartbeat(held=(Attempt(stale).held(),)))
    assert lapses(bench.passes(ECHO_MS)) == [("a", "not_echoed")]


def test_a_new_owner_grants_one_full_lease_of_grace(bench: Bench) -> None:
    bench.given((KEY, heartbeat()), (KEY, requested("a")))
    bench.now_ms += LEASE_MS
    bench.takes_over()
    assert bench.passes(LEASE_MS - 1) == []
    assert lapses(bench.passes(1)) == [("a", "not_echoed")]


def test_what_a_new_owner_assigns_itself_needs_no_grace(bench: Bench) -> None:
    bench.given((KEY, heartbeat(slots=2)), (KEY, requested("a")))
    bench.takes_over()
    bench.passes(1)
    bench.when(KEY, requested("b"))
    assert lapses(bench.passes(ECHO_MS)) == [("b", "not_echoed")]
    assert lapses(bench.passes(LEASE_MS - ECHO_MS)) == [("a", "not_echoed")]


def test_a_runner_that_went_silent_is_given_nothing_until_it_is_heard_of_again(bench: Bench) -> None:
    bench.given((KEY, heartbeat("gone", slots=9)), (KEY, heartbeat("here", slots=2)))
    bench.passes(RUNNER_SILENT_MS)
    bench.when(KEY, heartbeat("here", slots=2))
    bench.passes(1)
    for name in ("a", "b", "c"):
        bench.when(KEY, requested(name))
    assert given_to(bench) == {"a": "here", "b": "here"}
    assert assigned(bench.when(KEY, heartbeat("gone", slots=9))) == ["c"]
    assert given_to(bench) == {"a": "here", "b": "here", "c": "gone"}


def given_to(bench: Bench) -> dict[str, str]:
    state = bench.state
    assert isinstance(state, DispatchState)
    tasks = [value for _, value in state.items() if isinstance(value, Task)]
    return {task.request.root_run_id: task.incarnation for task in tasks if task.incarnation}


def test_death_lapses_at_once_and_the_dead_get_nothing_more(bench: Bench) -> None:
    bench.given((KEY, heartbeat()), (KEY, requested("a")))
    assert lapses(bench.when(KEY, died("runner-1"))) == [("a", "died")]
    assert assigned(bench.when(KEY, heartbeat())) == [], "a heartbeat that was still in flight"
    assert assigned(bench.when(KEY, requested("b"))) == []


def test_a_host_speaks_for_all_its_earlier_incarnations(bench: Bench) -> None:
    bench.given(
        (KEY, heartbeat("old-1", slots=1)), (KEY, requested("a")), (KEY, heartbeat("old-2")), (KEY, requested("b"))
    )
    bench.when(KEY, heartbeat("elsewhere", host="host-2"))
    bench.when(KEY, requested("c"))
    events = bench.when(KEY, died(host="host-1", survivor="new"))
    assert sorted(lapses(events)) == [("a", "died"), ("b", "died")]


def test_a_silent_runner_is_forgotten(bench: Bench) -> None:
    bench.when(KEY, heartbeat())
    assert len(bench.passes(RUNNER_FORGET_MS)) >= 1
    assert assigned(bench.when(KEY, requested("a"))) == []


def test_withdrawing_a_queued_task_proves_that_nobody_has_it(bench: Bench) -> None:
    task = requested("a")
    bench.when(KEY, task)
    assert lapses(bench.when(KEY, TaskWithdrawn(task.task_id, "a", task.pool))) == [("a", "withdrawn")]
    assert assigned(bench.when(KEY, heartbeat())) == []


def test_withdrawing_an_assigned_task_changes_nothing(bench: Bench) -> None:
    task = requested("a")
    bench.given((KEY, heartbeat()), (KEY, task))
    assert bench.when(KEY, TaskWithdrawn(task.task_id, "a", task.pool)) == []


def test_fold_of_the_history_is_the_state(bench: Bench) -> None:
    for number in range(6):
        bench.when(KEY, requested(f"r{number}", login=f"l{number % 2}", organization=f"org-{number % 3}", at_ms=number))
    bench.given((KEY, heartbeat(slots=2)), (KEY, heartbeat("runner-2", slots=2)))
    bench.passes(ECHO_MS)
    assert bench.replayed() == dict(bench.state.items())
    assert isinstance(bench.state.get(task_key("r5/1")), Task)


# ---------------------------------------------------------------- what is forgotten


def test_organizations_and_runners_of_the_past_leave_nothing_behind(bench: Bench) -> None:
    state = bench.state
    assert isinstance(state, DispatchState)
    for number in range(3000):
        task = requested(f"a{number}", organization=f"org-{number}", at_ms=number)
        name = f"runner-{number}"
        bench.given((KEY, heartbeat(name)), (KEY, task), (KEY, settled(task)), (KEY, died(name)))
        bench.passes(2 * RUNNER_FORGET_MS if number % 10 == 0 else 0)
        bench.history.clear()
    assert sum(len(queue.served) for queue in state.queues.values()) <= ORGANIZATIONS_REMEMBERED_MAX
    assert not state.assigned
