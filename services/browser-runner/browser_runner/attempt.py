"""One attempt of one workflow run: opens what it needs, walks, answers to orders, says how it ended.

    started -> walk (again after a lost browser) -> finally -> ended | parked | released | stopped
                                                               or silence, when the token is over

Whatever is said goes through one `Reporter`. Nothing is said after the token's end is known, and an attempt that is
cancelled from outside (no heartbeat got through, process ends) says nothing at all: the lapse speaks for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

import msgspec

from browser_runner.deadline import Deadline
from browser_runner.ends import End, Fenced, Finished, HandBack, Why
from browser_runner.journal import Resume, is_safe_point, plan_resume
from browser_runner.login import LoginSession
from browser_runner.orders import Orders
from browser_runner.output import with_output
from browser_runner.pages import PageDesk
from browser_runner.ports import BrowserLost, Page, StepFailed
from browser_runner.prepared import Prepared, prepare
from browser_runner.reporting import Reporter, Ticket
from browser_runner.services import Services
from browser_runner.steps.trying import Kept
from browser_runner.timing import within
from browser_runner.walk import Outcome, Question, Walk
from kernel.domain.artifact import StagedArtifact
from kernel.domain.ids import ArtifactId, InputRequestId, RootRunId
from kernel.domain.plan import WorkflowType
from kernel.domain.task import (
    Answer,
    JournalEntry,
    StepChecked,
    StepFinished,
    StepStarted,
    TaskAssigned,
    TaskEnded,
    TaskParked,
    TaskReleased,
    TaskStarted,
    TaskStopped,
    TaskSuspended,
)
from kernel.domain.values import Effect, Failure, FailureKind, Sealed, SealedBody
from kernel.domain.workflow_run import ENDED_WELL, StepStatus, WorkflowRunStatus
from kernel.egress.policy import is_allowed_host
from kernel.errors import Permanent, Rejected, SecretUnavailable, Temporary, TowpathError
from kernel.ids import derived_id
from kernel.redaction import LiveSecrets
from kernel.sealing import Sealer
from kernel.steps.document import Step, kind_of, name_of
from kernel.steps.effects import effect_of
from kernel.store.port import NO_CONNECTION, PutHeader, RunOpener, SecretRef
from kernel.store.secret import Secret

JOURNAL_INLINE_BYTES_MAX = 16 * 1024
STOP_SECONDS = 5.0
FINALLY_SECONDS = 30.0
RELAUNCHES_MAX = 3
PROMPT_CHARS_MAX = 4000
"""What a person is told beyond that is cut off."""

T = TypeVar("T")

_ENTRY_BYTES = 160
_NAME_CHARS_MAX = 200
_ECHO_CHARS_MIN = 6
"""Shorter secrets are not taken out of data, where they may well stand for something else."""
_RETRY_SECONDS = (0.2, 1.0, 3.0)


class Attempt:
    """Carries out one assignment. `run` is called once; orders come through `orders`."""

    def __init__(self, services: Services, assigned: TaskAssigned, on_change: Callable[[], None]) -> None:
        """`on_change` is called when it begins or ends to wait for a person."""
        request = assigned.request
        self.assigned = assigned
        self.clock = services.clock
        self.orders = Orders(answers={answer.path: answer for answer in request.answers})
        self.waiting = False
        self.prepared: Prepared
        self._services = services
        self._request = request
        self._workflow = request.workflow
        self._on_change = on_change
        self._opener = RunOpener(
            request.organization_id,
            RootRunId(assigned.root_run_id),
            assigned.workflow_run_id,
            assigned.task_id,
            assigned.token,
        )
        self._sealer = Sealer(services.keys, services.store, services.entropy, self._opener)
        self._reporter = Reporter(services.log, services.clock, assigned)
        self._entries: list[JournalEntry] = []
        self._completed: set[str] = set()
        """Paths of steps that were completed before: their artifacts are facts, and no repetition makes them again."""
        self._unstaged_bytes = 0
        self._unknown: set[str] = set(request.journal.unknown)
        self._secrets: dict[str, Secret] = {}
        self._echoes = LiveSecrets()
        self._asked: dict[str, int] = {}
        self._used_up: set[InputRequestId] = set()
        self._pages = PageDesk(services, assigned)
        self._login = LoginSession(services, self._workflow, request.subject_id, self._opener)
        self._deadline = Deadline(services.clock, request)
        self._cut: Why | None = None
        self._timed_out = False
        self._closing = False
        self._last_failed = ("", "")

    # ------------------------------------------------------------ life

    async def run(self) -> None:
        """Do the work and say the end. Raises nothing but `CancelledError`; returns when the end is durable."""
        services, assigned = self._services, self.assigned
        services.fence.watch(assigned.root_run_id, assigned.token, since_ms=self._request.requested_ms)
        try:
            await self._work()
            await self._reporter.acknowledged()
        except Fenced:
            pass  # Somebody else has the run; a word from here would only be ignored.
        finally:
            await self._pages.close()
            await self._reporter.close()
            for secret in self._secrets.values():
                services.live.forget(secret)
            services.fence.forget(assigned.root_run_id, assigned.token)

    async def _work(self) -> None:
        try:
            text = await self._patiently(self._document_text)
            self.prepared = prepare(text)
            scope = {"inputs": await self._patiently(self._inputs), "steps": {}}
            await self._read_journal()
        except (Permanent, SecretUnavailable, Rejected, Temporary, msgspec.MsgspecError) as error:
            self._say_started("")
            await self._end(End(WorkflowRunStatus.FAILED, None, "task_unreadable", str(error)))
            return
        self._say_started(name_of(self.prepared.document.steps[0]))
        try:
            end = await self._guarded(scope)
            await self._end(end)
        except HandBack as back:
            await self._pages.close()
            self._hand_back(back)

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
        document = self.prepared.document
        if self._workflow.type is WorkflowType.LOGIN and not self._entries and await self._is_logged_in(scope):
            return End(WorkflowRunStatus.COMPLETED_WITH_NO_ACTION_TAKEN)
        resume = plan_resume(document, self._entries, tuple(self._unknown), with_page=self.prepared.with_page)
        scope["steps"] = {}
        url = await self._patiently(lambda: self._sealer.open_text(resume.url))
        self._pages.enter_at(url, await self._state())
        try:
            await Walk(self, resume, scope).steps(document.steps)
            end = End(WorkflowRunStatus.COMPLETED)
        except Finished as finished:
            end = finished.end
        if end.status not in ENDED_WELL:
            return end
        if self._workflow.type is WorkflowType.LOGIN:
            await self._keep_login(scope)
        return with_output(end, document, scope["steps"])

    async def _finally(self, scope: dict[str, Any]) -> None:
        """The author's last steps; whatever goes wrong here changes nothing."""
        if not self.prepared.document.finally_:
            return
        self._closing = True
        resume = plan_resume(self.prepared.document, self._entries, (), with_page=False)
        last = Walk(self, Resume(resume.taken), scope)
        with suppress(StepFailed, BrowserLost, Finished, TimeoutError, HandBack, TowpathError):
            await within(self.clock, FINALLY_SECONDS, last.steps(self.prepared.document.finally_))

    # ------------------------------------------------------------ login

    async def _state(self) -> bytes | None:
        if not self.prepared.with_page:
            return None
        return await self._patiently(lambda: self._login.load_after(self._entries))

    async def _is_logged_in(self, scope: dict[str, Any]) -> bool:
        """Whether the saved session still holds; a page that cannot tell counts as no."""
        document = self.prepared.document
        state = await self._patiently(self._login.load)
        if state is None or not document.session_check:
            return False
        self._pages.enter_at("", state)
        try:
            await Walk(self, Resume(), {**scope, "steps": {}}, quiet=True).steps(document.session_check)
        except (StepFailed, Finished):
            await self._pages.close()
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
            await self._patiently(lambda: self._login.save(state))

    async def meets_login(self) -> bool:
        """Whether work that is no login stands before a login page."""
        if self._workflow.type is WorkflowType.LOGIN or not self._workflow.connection_id:
            return False
        return await self._pages.asks_for_password()

    # ------------------------------------------------------------ what steps ask for

    async def page(self) -> Page:
        return await self._pages.page()

    async def second_page(self) -> Page:
        return await self._pages.second_page()

    async def before_act(self, path: str, step: Step, effect: Effect) -> None:
        """All that was said is durable; a `once` step was announced and read back under a token that still holds."""
        if effect is not Effect.ONCE:
            await self._reporter.acknowledged()
            return
        ticket = self._reporter.say(
            StepStarted, path=path, step_id=step.id, name=name_of(step), effect=effect, kind=kind_of(step)
        )
        self._unknown.add(path)
        self._use_up(path)
        await self._read_back(ticket)

    async def _read_back(self, ticket: Ticket) -> None:
        """Wait until a report was read back before any end of the token: only then does it surely count."""
        position = await asyncio.shield(ticket)
        assigned, fence = self.assigned, self._services.fence
        if not await self._patiently(lambda: fence.read_back(assigned.root_run_id, assigned.token, position)):
            raise Fenced

    async def secret(self, ref: str) -> Secret:
        """Opened once, kept for the attempt; a stored credential only in a LOGIN workflow. `secret_unavailable`."""
        known = self._secrets.get(ref)
        if known is not None:
            return known
        login = self._workflow.type is WorkflowType.LOGIN
        connection = self._workflow.connection_id if login else NO_CONNECTION
        try:
            secret = await self._services.vault.open_secret(SecretRef(ref), self._opener, connection)
        except SecretUnavailable as error:
            raise StepFailed("secret_unavailable", str(error)) from None
        except Temporary as error:
            raise StepFailed("secret_unavailable", error.message, FailureKind.TEMPORARY) from None
        self._secrets[ref] = secret
        self._services.live.add(secret)
        if len(secret.reveal_text()) >= _ECHO_CHARS_MIN:
            self._echoes.add(secret)
        return secret

    def without_secrets(self, value: Any) -> Any:
        return self._echoes.scrub_values(value)

    def may_type_secret(self, host: str) -> bool:
        return bool(host) and is_allowed_host(host, self._workflow.allowed_hosts)

    async def stage(self, path: str, index: int, what: Kept) -> StagedArtifact:
        header = PutHeader(self._request.subject_id, self._opener, name=what.name, mime_hint=what.mime_hint)
        store, content = self._services.store, what.content
        if what.kind == "extracted_data" and isinstance(content, bytes):
            content = self._echoes.scrub_bytes(content)
        try:
            put = store.put_bytes(content, header) if isinstance(content, bytes) else store.put(content, header)
            staged = await put
        except Temporary as error:
            raise StepFailed("artifact_failed", error.message, FailureKind.TEMPORARY) from None
        except (Rejected, Permanent) as error:
            raise StepFailed("artifact_failed", error.message) from None
        except SecretUnavailable:
            raise Fenced from None
        artifact_id = ArtifactId(derived_id("artifact", self.assigned.workflow_run_id, path, what.kind, str(index)))
        name = self._echoes.scrub_text(what.name)[:_NAME_CHARS_MAX]
        title = await self._sealer.seal_text(self._request.subject_id, name)
        return StagedArtifact(artifact_id, what.kind, title, staged.mime_type, staged.size, staged.sha256)

    async def picture(self, path: str, step: Step) -> StagedArtifact | None:
        """A picture of an open page. Evidence never fails a run."""
        content = await self._pages.picture()
        if content is None:
            return None
        with suppress(StepFailed):
            return await self.stage(path, 0, Kept("screenshot", content, f"{step.id}-seen.jpg", "image/jpeg"))
        return None

    async def ask(self, path: str, step: Step, question: Question) -> dict[str, Any]:
        """The answer that came with the task or comes while the page is held; one with a secret is taken once."""
        given = self._given(path) or await self._suspend(path, step, question)
        if any(asked.secret for asked in question.fields):
            self._used_up.add(given.input_request_id)
        values = await self._opened(given.values)
        return values if isinstance(values, dict) else {}

    def _given(self, path: str) -> Answer | None:
        given = self.orders.answers.get(path)
        return None if given is None or given.input_request_id in self._used_up else given

    async def _suspend(self, path: str, step: Step, question: Question) -> Answer:
        hold = question.hold_seconds if self._pages.has_place else 0
        if hold:
            await self._pages.page()  # The answer may belong to what this very page asks for.
        prompt = await self._sealer.seal_text(self._request.subject_id, question.prompt[:PROMPT_CHARS_MAX])
        self._asked[path] = self._asked.get(path, 0) + 1
        self._reporter.say(
            TaskSuspended,
            path=path,
            step_id=step.id,
            kind=question.kind,
            prompt=prompt,
            fields=question.fields,
            ask_attempt=self._asked[path],
            hold_seconds=hold,
            answer_seconds=question.answer_seconds,
        )
        await self._reporter.acknowledged()
        if not hold:
            raise HandBack(Why.PARK)
        orders = self.orders
        self._wait(begins=True)
        try:
            await orders.wait(lambda: bool(self._given(path)) or orders.park or orders.stop or orders.release)
        finally:
            self._wait(begins=False)
        given = self._given(path)
        if given is not None:
            return given
        raise HandBack(Why.STOP if orders.stop else Why.PARK if orders.park else Why.DRAIN)

    def _wait(self, *, begins: bool) -> None:
        self.waiting = begins
        if begins:
            self._deadline.pause()
        else:
            self._deadline.go_on()
        self._on_change()

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

    def checked(self, path: str) -> Ticket:
        self._unknown.discard(path)
        self._use_up(path)
        return self._reporter.say(StepChecked, path=path)

    def _use_up(self, path: str) -> None:
        """What a person said of an unknown act is said of that one only, not of the next try."""
        given = self.orders.answers.get(path)
        if given is not None:
            self._used_up.add(given.input_request_id)

    async def finished(self, path: str, step: Step, outcome: Outcome, next_name: str) -> None:
        """Say `step.finished`, an entry of the journal from now on; read it back where it uses up a one-time answer."""
        subject, effect = self._request.subject_id, effect_of(step)
        if self._login.must_keep(effect, outcome.status) and self._pages.is_open:
            state = await self._pages.save_state(self._workflow.allowed_hosts)
            await self._patiently(lambda: self._login.keep(state))
        output = SealedBody()
        if outcome.output is not None:
            output = await self._sealer.seal_json(subject, outcome.output)
        failure = await self._failure_of(outcome.failure, step.id, name_of(step))
        url = await self._safe_point(step, outcome)
        safe = bool(url.box)
        entry = JournalEntry(path, outcome.status, effect, output, safe, url, outcome.consumed, failure.code)
        self._entries.append(entry)
        artifacts = () if path in self._completed else tuple(outcome.artifacts)
        if outcome.status is StepStatus.COMPLETED:
            self._completed.add(path)
        self._unknown.discard(path)
        journal = await self._staged_journal(entry)
        finished_ms = self.clock.now_ms()
        ticket = self._reporter.say(
            StepFinished,
            path=path,
            step_id=step.id,
            name=name_of(step),
            kind=kind_of(step),
            effect=effect,
            status=outcome.status,
            tries=max(outcome.tries, 1),
            started_ms=outcome.started_ms,
            finished_ms=finished_ms,
            output=output,
            failure=failure,
            artifacts=artifacts,
            screenshot_artifact_id=outcome.screenshot,
            safe_point=safe,
            url=entry.url,
            consumed=outcome.consumed,
            next_name=next_name,
            journal_staged=journal,
            resolved=outcome.resolved,
        )
        if outcome.consumed:
            await self._read_back(ticket)

    async def _safe_point(self, step: Step, outcome: Outcome) -> Sealed:
        """The page's URL when a later walk may begin behind this step; else nothing."""
        url, before = self._pages.safe_url(), self._pages.url_at_last_step
        self._pages.url_at_last_step = url
        failed = outcome.status is StepStatus.FAILED and effect_of(step) is not Effect.ONCE
        if not url or failed or outcome.status is StepStatus.SKIPPED:
            return Sealed()
        if not is_safe_point(step, url_before=before, url_after=url):
            return Sealed()
        return await self._sealer.seal_text(self._request.subject_id, url)

    async def _staged_journal(self, entry: JournalEntry) -> SealedBody:
        """The whole journal as a blob once what travels inline has outgrown its bound."""
        self._unstaged_bytes += _bytes_of(entry)
        if self._unstaged_bytes <= JOURNAL_INLINE_BYTES_MAX:
            return SealedBody()
        body = await self._patiently(
            lambda: self._sealer.seal_json(self._request.subject_id, msgspec.to_builtins(self._entries))
        )
        self._unstaged_bytes = 0
        return body

    def _hand_back(self, back: HandBack) -> None:
        match back.why:
            case Why.STOP:
                self._reporter.say(TaskStopped)
            case Why.PARK:
                self._reporter.say(TaskParked)
            case Why.DRAIN | Why.DELAYED:
                self._reporter.say(TaskReleased, reason=back.why.value, not_before_ms=back.not_before_ms)

    async def _end(self, end: End) -> None:
        await self._pages.close()
        subject = self._request.subject_id
        output = SealedBody()
        if end.output is not None and end.status in ENDED_WELL:
            output = await self._patiently(lambda: self._sealer.seal_json(subject, end.output))
        failure = Failure()
        if end.status not in ENDED_WELL:
            kind = FailureKind.TEMPORARY if end.temporary else FailureKind.PERMANENT
            failure = Failure(end.code, kind, await self._told(end.message), end.step_id, end.step_name)
        self._reporter.say(TaskEnded, status=end.status, output=output, failure=failure, artifacts=())

    def _failed(self, failure: StepFailed) -> End:
        status = {"terminated": WorkflowRunStatus.TERMINATED, "timed_out": WorkflowRunStatus.TIMED_OUT}.get(
            failure.code, WorkflowRunStatus.FAILED
        )
        step_id, step_name = self._last_failed
        temporary = failure.kind is FailureKind.TEMPORARY
        return End(status, None, failure.code, failure.message, step_id, step_name, temporary)

    async def _failure_of(self, failure: StepFailed | None, step_id: str, step_name: str) -> Failure:
        if failure is None:
            return Failure()
        self._last_failed = (step_id, step_name)
        return Failure(failure.code, failure.kind, await self._told(failure.message), step_id, step_name)

    async def _told(self, message: str) -> Sealed:
        """A text for people: scrubbed of every live secret, then sealed. Left out when no key can be had."""
        try:
            return await self._sealer.seal_text(
                self._request.subject_id, self._services.live.scrub_text(message)[:2000]
            )
        except TowpathError:
            return Sealed()

    # ------------------------------------------------------------ what came with the task

    async def _document_text(self) -> str:
        document = self._workflow.document
        if document.inline:
            return document.inline
        return (await self._services.store.get_bytes(document.blob)).decode()

    async def _inputs(self) -> dict[str, Any]:
        inputs = await self._sealer.open_json(self._workflow.inputs)
        return inputs if isinstance(inputs, dict) else {}

    async def _read_journal(self) -> None:
        journal = self._request.journal
        if journal.staged.box or journal.staged.blob:
            staged = await self._opened(journal.staged)
            self._entries = msgspec.convert(staged, list[JournalEntry])
        self._entries += journal.entries
        self._completed = {entry.path for entry in self._entries if entry.status is StepStatus.COMPLETED}
        self._unstaged_bytes = sum(_bytes_of(entry) for entry in journal.entries)

    async def result_of(self, entry: JournalEntry) -> Any:
        return await self._opened(entry.output)

    async def _opened(self, body: SealedBody) -> Any:
        return await self._patiently(lambda: self._sealer.open_json(body))

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Ask vault or store again when they are away for a moment."""
        for delay in _RETRY_SECONDS:
            try:
                return await call()
            except Temporary:
                await self.clock.sleep(delay)
        return await call()


def _bytes_of(entry: JournalEntry) -> int:
    """What an entry weighs in a task, about."""
    return len(entry.output.box) + len(entry.path) + len(entry.url.box) + _ENTRY_BYTES
