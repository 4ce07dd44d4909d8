"""The walked platform: the real deciders and the real fold of the fence, two model runners, one login, the outside.

One move is one input of a decider, one landing of a derived record, one action of a runner, one fault, or a tick that
anyone may sleep through. A decider is one atomic step (the walk over the owning loop shows that this is what its ledger
gives); what it derives comes later, record by record in order for each target. Some things need no moves of their own:

* Inboxes and the input of `dispatch` have one reader, so the reader takes from each writer's queue: whether a record
  lands late or is read late is the same to everyone. A heartbeat lands as it is read.
* `advance` reads a record at once when nobody but itself can tell when it did: it sends nothing, and no time and no
  person can come in between.

A runner appends the read that follows the `once` step together with its end.

The watermarks of deciders drop what a former owner derives again, so the input of `dispatch` has no repeats. Inboxes
and `task_reports` have, and there `advance` reads them, too, as if it had no watermark: more than can happen.

Broken is what raises: a second act, an act after the end was decided, a second live session, a report that counts
behind its lapse or is lost before it, a gap in the facts, two assigned tasks of one workflow run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from kernel.domain.ids import ConnectionId
from kernel.domain.job_run import RunCancelRequested
from kernel.domain.task import Report, TaskAssigned, TaskEnded, TaskLeaseLapsed
from scheduler.advance.state import LiveRun
from tests.support.runs import answer_submitted, cancel_requested, died, planned, workflow_run_requested
from tests.support.walk.fences import LAPSED, OPEN, Fences
from tests.support.walk.runner import RunnerMoves, Script
from tests.support.walk.search import Broken, Label, Move
from tests.support.walk.state import (
    Inbox,
    Instance,
    Pc,
    Platform,
    Rules,
    Run,
    Runner,
    put,
    put_inbox,
    put_runner,
)
from tests.support.walk.tables import AdvanceTable, DispatchTable, Names, Outcome, has_ended

ROOTS = ("run", "second")


class PlatformSpace:
    """What `search` walks."""

    def __init__(self, instance: Instance, rules: Rules | None = None) -> None:
        self.instance = instance
        self.rules = rules or Rules()
        self.names = Names()
        self.advance = AdvanceTable(self.names)
        self.dispatch = DispatchTable(self.names)
        self.fences = Fences(self.names)
        self.script = Script(self.names, instance)
        self._runner_moves = RunnerMoves(self)
        self._ended: dict[int, bool] = {}

    # ------------------------------------------------------------ the search asks

    def initial(self) -> Platform:
        """One run is asked for, and one runner is known; the other one shows up when it likes."""
        asked = [self._start(0)]
        if self.instance.second:
            asked.append(self._start(1))
        if self.instance.cancel:
            asked.append(self.names.number(cancel_requested(ROOTS[0])))
        roots = 2 if self.instance.second else 1
        state = Platform(
            runs=(Run(),) * roots, dispatch=self.names.number(()), to_dispatch=(), inboxes=(Inbox(),) * 2,
            runners=(Runner(),) * 2, asked=tuple(asked), faults=self.instance.faults,
        )  # fmt: skip
        known = self.dispatch.read(state.dispatch, self.script.heartbeat(0, state.runners[0]))
        return state._replace(dispatch=known.value)

    def moves(self, state: Platform) -> Iterator[Move]:
        """Everything that may happen next."""
        if self._is_over(state):
            return
        for root in range(len(state.runs)):
            yield from self._moves_of_run(state, root)
        yield from self._moves_of_people(state)
        yield from self._moves_of_dispatch(state)
        for place in range(2):
            yield from self._runner_moves.moves(state, place)
        later = self._tick(state)
        if later != state:
            yield ("a tick",), later, False

    def is_end(self, state: Platform) -> bool:
        """Whether every run that was asked for has ended."""
        return all(self.has_ended(run.value) for run in state.runs)

    def tell(self, label: Label) -> str:
        """A label, its numbers spelled out."""
        return " ".join(self._told(part) for part in label)

    def has_ended(self, run: int) -> bool:
        """Whether this value of a run is an ended one."""
        known = self._ended.get(run)
        if known is None:
            known = self._ended[run] = has_ended(self.names[run])
        return known

    def _told(self, part: Any) -> str:
        if not isinstance(part, int):
            return str(part)
        event = self.names[part]
        token = getattr(event, "token", None)
        return f"{type(event).__name__}({getattr(event, 'task_id', '')}{f' {token.attempt}' if token else ''})"

    # ------------------------------------------------------------ what is asked

    def _start(self, number: int) -> int:
        root = ROOTS[number]
        request = workflow_run_requested(root)
        workflow = replace(
            planned(root, 0, connection="login"),
            workflow_run_id=request.workflow.workflow_run_id,
            connection_id=ConnectionId("login"),
            name=("visit" if number else self.instance.program),
        )
        return self.names.number(replace(request, workflow=workflow))

    def _is_asked_of(self, state: Platform, root: int) -> bool:
        return any(self._root_of(request) == root for request in state.asked)

    def _root_of(self, request: int) -> int:
        """A start names its run by its workflow run."""
        event = self.names[request]
        return ROOTS.index(
            event.root_run_id if isinstance(event, RunCancelRequested) else event.workflow.workflow_run_id
        )

    def _moves_of_people(self, state: Platform) -> Iterator[Move]:
        if state.asked:
            request = state.asked[0]
            after = self._advance_reads(state._replace(asked=state.asked[1:]), self._root_of(request), request)
            yield ("advance reads", request), after, False
        run = self.names[state.runs[0].value]
        current = run.current if isinstance(run, LiveRun) else None
        if current is not None and current.question is not None and current.ending is None:
            asked = current.question.input_request_id
            answer = self.names.number(answer_submitted(ROOTS[0], asked, f"answer to {asked}"))
            yield ("a person answers:", answer), self._advance_reads(state, 0, answer), False

    # ------------------------------------------------------------ advance

    def _moves_of_run(self, state: Platform, root: int) -> Iterator[Move]:
        run = state.runs[root]
        if run.unread:
            record, before = run.unread[0]
            read = put(state, root, run._replace(unread=run.unread[1:]))
            yield ("advance reads", record), self._advance_reads(read, root, record, before), False
        if run.from_advance:
            record = run.from_advance[0]
            rest = put(state, root, run._replace(from_advance=run.from_advance[1:]))
            yield ("lands, derived by advance:", record), self.land(rest, root, record), False
        if run.from_dispatch:
            record = run.from_dispatch[0]
            rest = put(state, root, run._replace(from_dispatch=run.from_dispatch[1:]))
            yield ("lands, derived by dispatch:", record), self.land(rest, root, record), False
        if self.advance.is_due(run.value):
            outcome = self.advance.wake(ROOTS[root], run.value)
            yield ("advance finds something due",), self._read_ahead(self._sent(state, root, outcome), root), False
        for at, record in enumerate(run.late):
            rest = put(state, root, run._replace(late=run.late[:at] + run.late[at + 1 :]))
            yield ("lands again:", record), self.land(rest, root, record), False
        if state.faults and "repeat" in self.instance.kinds:
            fewer = state._replace(faults=state.faults - 1)
            for record in run.landed:
                yield ("a late former owner repeats", record), self.land(fewer, root, record), True

    def _advance_reads(self, state: Platform, root: int, record: int, before: int = OPEN) -> Platform:
        return self._read_ahead(self._read(state, root, record, before), root)

    def _read(self, state: Platform, root: int, record: int, before: int) -> Platform:
        value = state.runs[root].value
        outcome = self.advance.read(ROOTS[root], value, record)
        event = self.names[record]
        if isinstance(event, Report):
            self._check_report(event, before, outcome)
        return self._sent(state, root, outcome)

    def _check_report(self, report: Any, before: int, outcome: Outcome) -> None:
        """What stands before the lapse counts, what stands after it does not; a settled run may have succeeded."""
        counts = outcome.decided and not outcome.reasons
        if counts and (before == LAPSED or (before != OPEN and not isinstance(report, TaskEnded))):
            raise Broken(f"{type(report).__name__} of a closed token was accepted")
        if "lapsed" in outcome.reasons and before == OPEN:
            raise Broken(f"{type(report).__name__} stands before the lapse and is lost from the journal")

    def _sent(self, state: Platform, root: int, outcome: Outcome) -> Platform:
        """What a decision of `advance` leaves and sends."""
        run = state.runs[root]
        records = tuple(record for _, record in outcome.reports)
        run = run._replace(value=outcome.value, from_advance=run.from_advance + records)
        if self.has_ended(run.value):
            # Nothing that an ended run reads changes anything, but for an assignment.
            run = run._replace(unread=tuple(x for x in run.unread if isinstance(self.names[x[0]], TaskAssigned)))
        state = put(state, root, run)
        if outcome.dispatch:
            state = state._replace(to_dispatch=state.to_dispatch + outcome.dispatch)
        for place, message in outcome.inboxes:
            inbox = state.inboxes[place]
            state = put_inbox(state, place, inbox._replace(advance=(*inbox.advance, message)))
        return state

    def land(self, state: Platform, root: int, record: int) -> Platform:
        """A record stands in the reports of a run from now on."""
        run = state.runs[root]
        event = self.names[record]
        before = self.fences.before(run.landed, record) if isinstance(event, Report) else OPEN
        run = run._replace(landed=self.fences.land(run.landed, record))
        if not self.has_ended(run.value) or isinstance(event, TaskAssigned):
            is_known = isinstance(event, TaskLeaseLapsed) and not self.rules.advance_reads_lapses
            if not is_known:
                run = run._replace(unread=(*run.unread, (record, before)))
        return self._read_ahead(put(state, root, run), root)

    def _read_ahead(self, state: Platform, root: int) -> Platform:
        """Read what can be read now as well as later."""
        while not self._is_asked_of(state, root) and (unread := state.runs[root].unread):
            record, before = unread[0]
            run = state.runs[root]
            outcome = self.advance.read(ROOTS[root], run.value, record)
            sends = outcome.reports or outcome.dispatch or outcome.inboxes
            waits = self.advance.waits(run.value) or self.advance.waits(outcome.value)
            if sends or waits or isinstance(self.names[record], TaskLeaseLapsed):
                break
            state = self._read(put(state, root, run._replace(unread=unread[1:])), root, record, before)
        return state

    # ------------------------------------------------------------ dispatch

    def _moves_of_dispatch(self, state: Platform) -> Iterator[Move]:
        if state.to_dispatch:
            record = state.to_dispatch[0]
            outcome = self.dispatch.read(state.dispatch, record)
            rest = state._replace(to_dispatch=state.to_dispatch[1:])
            yield ("dispatch reads", record), self._dispatched(rest, outcome), False
        if "silence" in self.instance.kinds and self.dispatch.is_due(state.dispatch):
            outcome = self.dispatch.wake(state.dispatch)
            yield ("dispatch lets leases lapse",), self._dispatched(state, outcome), False
        for place, runner in enumerate(state.runners):
            if not runner.is_death_told:
                word = self.names.number(died(self.script.incarnation(place, runner.life), host=f"host-{place}"))
                outcome = self.dispatch.read(state.dispatch, word)
                fresh = put_runner(state, place, Runner(life=runner.life + 1))
                yield (
                    ("dispatch reads that", f"R{place} is dead; it begins anew"),
                    self._dispatched(fresh, outcome),
                    False,
                )
            elif runner.pc is not Pc.DEAD:
                outcome = self.dispatch.read(state.dispatch, self.script.heartbeat(place, runner))
                beaten = self._dispatched(state, outcome)
                if not self.rules.reads_fence and runner.task:
                    beaten = put_runner(beaten, place, runner._replace(fence=self.instance.fence))
                    self.check_sessions(beaten)
                if beaten != state:
                    yield (f"R{place}'s heartbeat is read",), beaten, False
        if state.faults and "takeover" in self.instance.kinds:
            outcome = self.dispatch.take_over(state.dispatch)
            if outcome.value != state.dispatch:
                fewer = state._replace(faults=state.faults - 1)
                yield ("dispatch is taken over",), self._dispatched(fewer, outcome), True

    def _dispatched(self, state: Platform, outcome: Outcome) -> Platform:
        state = state._replace(dispatch=outcome.value)
        for key, record in outcome.reports:
            root = ROOTS.index(key)
            run = state.runs[root]
            state = put(state, root, run._replace(from_dispatch=(*run.from_dispatch, record)))
            if isinstance(self.names[record], TaskLeaseLapsed) and not self.rules.advance_reads_lapses:
                state = self._advance_reads(state, root, record)
        for place, message in outcome.inboxes:
            inbox = state.inboxes[place]
            state = put_inbox(state, place, inbox._replace(dispatch=(*inbox.dispatch, message)))
        return state

    # ------------------------------------------------------------ time, and what must hold

    def _tick(self, state: Platform) -> Platform:
        return state._replace(
            runs=tuple(run._replace(value=self.advance.tick(run.value)) for run in state.runs),
            dispatch=self.dispatch.tick(state.dispatch),
            runners=tuple(
                runner._replace(fence=runner.fence - 1) if runner.fence else runner for runner in state.runners
            ),
        )

    def check_sessions(self, state: Platform) -> None:
        """At most one attempt could reach the outside now: all of them use one login."""
        live = [runner for runner in state.runners if runner.fence and runner.pc >= Pc.CHECK]
        if len(live) > 1 and not self.instance.acts_only:
            raise Broken("two live sessions of one login")

    def check_act(self, state: Platform, task: int) -> None:
        """The outside is not touched for a run that has ended."""
        if self.instance.acts_only:
            return
        if self.has_ended(state.runs[ROOTS.index(self.names[task].root_run_id)].value):
            raise Broken("an act after the run has ended")

    def _is_over(self, state: Platform) -> bool:
        """Everything has ended, and no token that is out can ever open again: nothing that follows can matter."""
        if state.asked or state.to_dispatch or not self.is_end(state):
            return False
        if any(runner.fence for runner in state.runners):
            return False
        tasks = [runner.task for runner in state.runners if runner.task]
        for inbox in state.inboxes:
            tasks += (*inbox.dispatch, *inbox.late)
        landed = {root: run.landed for root, run in zip(ROOTS, state.runs, strict=False)}
        return not self.dispatch.has_queued(state.dispatch) and all(
            self.fences.is_over(landed[self.names[task].root_run_id], task) for task in tasks
        )
