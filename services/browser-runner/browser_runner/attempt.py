"""One attempt of one workflow run: opens what it needs, walks, answers to orders, says how it ended.

    started -> walk (again after a lost browser) -> finally -> ended | parked | released | stopped
                                                               or silence, when the token is over

Whatever is said goes through one `Reporter`. Nothing is said after the token's end is known, and an attempt that is
cancelled from outside (no heartbeat got through, process ends) says nothing at all: the lapse speaks for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from browser_runner.assignment import Assignment
from browser_runner.deadline import Deadline
from browser_runner.diagnosing import diagnosed
from browser_runner.ends import End, Fenced, Finished, HandBack, Why
from browser_runner.files import FileRef
from browser_runner.journal import Resume, may_ask_again, plan_resume, rejections_of
from browser_runner.kept_pages import KeptPages
from browser_runner.login import LoginSession
from browser_runner.orders import Orders
from browser_runner.outcome import Outcome, Question
from browser_runner.output import with_output
from browser_runner.pages import PageDesk
from browser_runner.ports import BrowserLost, Page, StepFailed
from browser_runner.prepared import Prepared, prepare
from browser_runner.questions import Questions
from browser_runner.record import Record
from browser_runner.reporting import Ticket
from browser_runner.secret_desk import SecretDesk
from browser_runner.services import Services
from browser_runner.staging import LEAVE_SECONDS, Staging
from browser_runner.steps.trying import Kept
from browser_runner.timing import within
from browser_runner.walk import Walk
from kernel.domain.artifact import StagedArtifact
from kernel.domain.plan import WorkflowType
from kernel.domain.task import (
    JournalEntry,
    TaskAssigned,
    TaskEnded,
    TaskParked,
    TaskReleased,
    TaskStarted,
    TaskStopped,
)
from kernel.domain.values import Effect, Failure, FailureKind, SealedBody
from kernel.domain.workflow_run import ENDED_WELL, WorkflowRunStatus
from kernel.egress.policy import is_allowed_host
from kernel.errors import Permanent, Rejected, SecretUnavailable, Temporary, TowpathError
from kernel.steps.document import Step, name_of
from kernel.store.secret import Secret

STOP_SECONDS = 4.5
"""A stopped step is cut after this, so that closing its page still lies within the 5 s that a cancel may take."""
FINALLY_SECONDS = 30.0
RELAUNCHES_MAX = 3

_TELLS_NOTHING = frozenset({"browser_unavailable", "navigation_failed", "navigation_blocked", "step_timeout"})
"""Failures of a session check that say nothing of the session: the site was not seen."""


class Attempt:
    """Carries out one assignment. `run` is called once; orders come through `orders`. It is its walk's desk."""

    def __init__(
        self, services: Services, assigned: TaskAssigned, on_change: Callable[[], None], kept: KeptPages
    ) -> None:
        """`on_change` is called when it begins or ends to wait for a person. `kept`: for the page of a test run."""
        request = assigned.request
        self.assigned = assigned
        self.clock = services.clock
        self.orders = Orders(answers={answer.path: answer for answer in request.answers})
        self.prepared: Prepared
        self._services = services
        self._workflow = request.workflow
        self._assignment = Assignment(services, assigned)
        self._reporter = self._assignment.reporter
        self._pages = PageDesk(services, assigned)
        self._secrets = SecretDesk(services, self._workflow, self._assignment.opener)
        self._login = LoginSession(services, self._workflow, request.subject_id, self._assignment.opener)
        self._record = Record(self._assignment, self._pages, self._login)
        self._staging = Staging(self._assignment, self._secrets, self._pages)
        self._deadline = Deadline(services.clock, request)
        self._questions = Questions(self._assignment, self.orders, self._pages, self._deadline, on_change)
        self._kept = kept
        self._cut: Why | None = None
        self._timed_out = False
        self._closing = False

    @property
    def waiting(self) -> bool:
        """Whether it holds a page for a person and takes no slot."""
        return self._questions.waiting

    # ------------------------------------------------------------ life

    async def run(self) -> None:
        """Do the work and say the end. Raises nothing but `CancelledError`; returns when the end is durable."""
        services, assigned = self._services, self.assigned
        services.fence.watch(assigned.root_run_id, assigned.token, since_ms=assigned.request.requested_ms)
        try:
            await self._work()
            await self._reporter.acknowledged()
        except Fenced:
            pass  # Somebody else has the run; a word from here would only be ignored.
        finally:
            await self._pages.close()
            await self._reporter.close()
            self._secrets.forget()
            services.fence.forget(assigned.root_run_id, assigned.token)

    async def _work(self) -> None:
        assignment = self._assignment
        try:
            text = await assignment.patiently(assignment.document_text)
            self.prepared = prepare(text)
            scope = {"inputs": await assignment.patiently(assignment.inputs), "steps": {}}
            await self._record.read()
        except (Permanent, SecretUnavailable, Rejected, Temporary, msgspec.MsgspecError) as error:
            self._say_started("")
            await self._end(End(WorkflowRunStatus.FAILED, None, "task_unreadable", str(error)))
            return
        self._say_started(name_of(self.prepared.document.steps[0]))
        try:
            end = await self._guarded(scope)
            await self._end(end)
        except HandBack as back:
            await self._hand_back(back)

    async def _guarded(self, scope: dict[str, Any]) -> End:
        """The walk to its end, cut short by the deadline or by an order that waited too long."""
        if not self.prepared.with_page:
            return await self._to_end(scope)
        walk = asyncio.ensure_future(self._to_end(scope))
        guard = asyncio.ensure_future(self._watch(walk))
        try:
            return await asyncio.shield(walk)
        except asyncio.CancelledError:
            walk.cancel()
            await asyncio.wait((walk,))
            if self._cut is None and not self._timed_out:
                raise
            return await self._after_cut(scope)
        finally:
            guard.cancel()

    async def _watch(self, walk: asyncio.Future[End]) -> None:
        ordered = asyncio.ensure_future(self.orders.wait(lambda: self.orders.stop))
        try:
            while not ordered.done():
                left = self._deadline.left_ms()
                if left <= 0:
                    self._timed_out = True
                    walk.cancel()
                    return
                alarm = asyncio.ensure_future(self.clock.sleep(left / 1000))
                await asyncio.wait((ordered, alarm), return_when=asyncio.FIRST_COMPLETED)
                alarm.cancel()
            await self.clock.sleep(STOP_SECONDS)
            self._cut = Why.STOP
            walk.cancel()
        finally:
            ordered.cancel()

    async def _after_cut(self, scope: dict[str, Any]) -> End:
        if self._cut is Why.STOP:
            raise HandBack(Why.STOP)
        await self._finally(scope)
        return End(WorkflowRunStatus.TIMED_OUT, None, "timed_out", "the run took longer than it may")

    async def _to_end(self, scope: dict[str, Any]) -> End:
        end = await self._walk_to_end(scope)
        await self._finally(scope)
        return end

    async def _walk_to_end(self, scope: dict[str, Any]) -> End:
        for _ in range(RELAUNCHES_MAX):
            try:
                return await self._walk(scope)
            except BrowserLost:
                await self._pages.close()
            except StepFailed as failure:
                return self._failed(failure)
            except (SecretUnavailable, Permanent, Rejected, Temporary) as error:
                return End(WorkflowRunStatus.FAILED, None, "task_unreadable", str(error))
        return self._failed(StepFailed("browser_lost", "the browser was lost again and again", FailureKind.TEMPORARY))

    async def _walk(self, scope: dict[str, Any]) -> End:
        document, entries = self.prepared.document, self._record.entries
        if self._workflow.type is WorkflowType.LOGIN and not entries and await self._is_logged_in(scope):
            return End(WorkflowRunStatus.COMPLETED_WITH_NO_ACTION_TAKEN)
        resume = plan_resume(document, entries, tuple(self._record.unknown), with_page=self.prepared.with_page)
        scope["steps"] = {}
        assignment = self._assignment
        url = await assignment.patiently(lambda: assignment.sealer.open_text(resume.url))
        self._pages.enter_at(url, await self._state())
        try:
            await Walk(self, resume, scope, stop_after=self._workflow.options.stop_after_step).steps(document.steps)
            end = End(WorkflowRunStatus.COMPLETED)
        except Finished as finished:
            end = finished.end
        if end.status not in ENDED_WELL:
            return end
        if self._workflow.type is WorkflowType.LOGIN and not end.stopped_after:
            await self._keep_login(scope)
        return with_output(end, document, scope["steps"])

    async def _finally(self, scope: dict[str, Any]) -> None:
        """The author's last steps; whatever goes wrong here changes nothing."""
        if not self.prepared.document.finally_:
            return
        self._closing = True
        resume = plan_resume(self.prepared.document, self._record.entries, (), with_page=False)
        last = Walk(self, Resume(resume.taken), scope)
        with suppress(StepFailed, BrowserLost, Finished, TimeoutError, HandBack, TowpathError):
            await within(self.clock, FINALLY_SECONDS, last.steps(self.prepared.document.finally_))

    # ------------------------------------------------------------ login

    async def _state(self) -> bytes | None:
        if not self.prepared.with_page:
            return None
        return await self._assignment.patiently(lambda: self._login.load_after(self._record.entries))

    async def _is_logged_in(self, scope: dict[str, Any]) -> bool:
        """Whether the saved session still holds; a page that cannot tell counts as no."""
        document = self.prepared.document
        state = await self._assignment.patiently(self._login.load)
        if state is None or not document.session_check:
            return False
        self._pages.enter_at("", state)
        try:
            await Walk(self, Resume(), {**scope, "steps": {}}, quiet=True).steps(document.session_check)
        except (StepFailed, Finished) as failure:
            await self._pages.close()
            if not isinstance(failure, StepFailed) or failure.code not in _TELLS_NOTHING:
                await self._assignment.patiently(self._login.forget)
            return False
        return True

    async def _keep_login(self, scope: dict[str, Any]) -> None:
        """Prove that the login holds, and save it."""
        document = self.prepared.document
        if document.session_check:
            try:
                await Walk(self, Resume(), {**scope, "steps": {}}, quiet=True).steps(document.session_check)
            except StepFailed as failure:
                raise StepFailed("login_failed", f"the login does not hold: {failure.message}") from None
        if self.prepared.with_page:
            await self._reporter.acknowledged()
            state = await self._pages.save_state(self._workflow.allowed_hosts)
            await self._assignment.patiently(lambda: self._login.save(state))

    async def diagnosed(self, failure: StepFailed) -> StepFailed:
        return await diagnosed(self._pages.current, failure)

    async def meets_login(self) -> bool:
        """Whether work that is no login stands before a login page."""
        return self._is_work_behind_login() and await self._pages.asks_for_password()

    def _is_work_behind_login(self) -> bool:
        return self._workflow.type is not WorkflowType.LOGIN and bool(self._workflow.connection_id)

    # ------------------------------------------------------------ what steps ask for

    async def page(self) -> Page:
        return await self._pages.page()

    async def second_page(self) -> Page:
        return await self._pages.second_page()

    async def before_act(self, path: str, step: Step, effect: Effect) -> None:
        """All that was said is durable; a `once` step was announced and read back under a token that still holds.

        `StepFailed("login_failed")` when the page that work was done on has become a login page.
        """
        if self._is_work_behind_login() and not self.prepared.types_secrets and await self._pages.has_become_login():
            raise StepFailed("login_failed", "the page asks for a login, so nothing was done on it")
        if effect is not Effect.ONCE:
            await self._reporter.acknowledged()
            return
        ticket = self._record.started(path, step, effect)
        self._questions.use_up(path)
        await self._assignment.read_back(ticket)

    async def secret(self, ref: str) -> Secret:
        return await self._secrets.secret(ref)

    async def totp_code(self, ref: str) -> Secret:
        return await self._secrets.totp_code(ref)

    def without_secrets(self, value: Any) -> Any:
        return self._secrets.echoes.scrub_values(value)

    def may_type_secret(self, host: str) -> bool:
        return bool(host) and is_allowed_host(host, self._workflow.allowed_hosts)

    async def stage(self, path: str, index: int, what: Kept) -> StagedArtifact:
        return await self._staging.stage(path, index, what)

    async def fetch(self, file: FileRef) -> Path:
        return await self._staging.fetch(file)

    # ------------------------------------------------------------ what the walk asks for

    async def picture(self, path: str, step: Step) -> StagedArtifact | None:
        return await self._staging.picture(path, step)

    async def ask(self, path: str, step: Step, question: Question) -> dict[str, Any]:
        return await self._questions.ask(path, step, question)

    def checked(self, path: str) -> Ticket:
        # What a person said of an unknown act is said of that one only, not of the next try.
        self._questions.use_up(path)
        return self._record.checked(path)

    def may_ask_again(self, path: str) -> bool:
        return may_ask_again(self._record.entries, path)

    async def rejections(self, path: str) -> tuple[int, str]:
        found = rejections_of(self._record.entries, path)
        said = await self.result_of(found[-1]) if found else None
        return len(found), str(said["rejected"]) if isinstance(said, dict) else ""

    async def finished(self, path: str, step: Step, outcome: Outcome, next_name: str) -> None:
        if outcome.asks_again:
            self._questions.use_up(outcome.asks_again)
        await self._record.finished(path, step, outcome, next_name)

    async def result_of(self, entry: JournalEntry) -> Any:
        return await self._assignment.opened(entry.output)

    def check_orders(self) -> None:
        if self._closing:
            return
        if self.orders.stop:
            raise HandBack(Why.STOP)
        if self.orders.release:
            raise HandBack(Why.DRAIN)
        if self._deadline.left_ms() <= 0:
            raise StepFailed("timed_out", "the run took longer than it may")

    # ------------------------------------------------------------ what is said

    def _say_started(self, first_name: str) -> None:
        services = self._services
        self._reporter.say(
            TaskStarted,
            incarnation=services.incarnation,
            inbox_partition=services.inbox_partition,
            first_name=first_name,
        )

    async def _closing_artifacts(self) -> tuple[StagedArtifact, ...]:
        """What this attempt leaves behind at its end, whichever it is, staged for its last report.

        Called once, while the page may still be open; raises nothing but `Fenced`: evidence never fails a run.
        """
        return await self._staging.leave()

    async def _hand_back(self, back: HandBack) -> None:
        artifacts = await self._closing_artifacts()
        if back.why is Why.STOP:
            await self._forget_half_login()
        else:
            await self._keep_half_login()
        await self._pages.close()
        match back.why:
            case Why.STOP:
                self._reporter.say(TaskStopped, artifacts=artifacts)
            case Why.PARK:
                self._reporter.say(TaskParked, artifacts=artifacts)
            case Why.DRAIN | Why.DELAYED:
                self._reporter.say(
                    TaskReleased, reason=back.why.value, not_before_ms=back.not_before_ms, artifacts=artifacts
                )

    async def _keep_half_login(self) -> None:
        """What a login has come to, for the attempt that goes on; without it that one finds what its last step made."""
        if not self._pages.is_open or not self._login.is_half_made(self._record.entries):
            return
        with suppress(TowpathError, TimeoutError):
            # A page may hang, and no deadline ends an attempt that is being handed back.
            state = await within(self.clock, LEAVE_SECONDS, self._pages.save_state(self._workflow.allowed_hosts))
            await self._login.keep(state)

    async def _forget_half_login(self) -> None:
        with suppress(TowpathError):
            await self._login.forget_half()  # What is left behind here goes by time.

    async def _end(self, end: End) -> None:
        artifacts = await self._closing_artifacts()
        if self._workflow.options.keep_open_seconds:
            self._pages.hand_over(self._kept, self._workflow.options.keep_open_seconds)
        await self._pages.close()
        await self._forget_half_login()
        assignment = self._assignment
        output, failure = SealedBody(), Failure()
        if end.status not in ENDED_WELL:
            kind = FailureKind.TEMPORARY if end.temporary else FailureKind.PERMANENT
            failure = Failure(end.code, kind, await assignment.told(end.message), end.step_id, end.step_name)
        elif end.output is not None:
            output = await assignment.seal_json(end.output)
        self._reporter.say(TaskEnded, status=end.status, output=output, failure=failure, artifacts=artifacts)

    def _failed(self, failure: StepFailed) -> End:
        status = {"terminated": WorkflowRunStatus.TERMINATED, "timed_out": WorkflowRunStatus.TIMED_OUT}.get(
            failure.code, WorkflowRunStatus.FAILED
        )
        step_id, step_name = self._record.last_failed
        temporary = failure.kind is FailureKind.TEMPORARY
        return End(status, None, failure.code, failure.message, step_id, step_name, temporary)
