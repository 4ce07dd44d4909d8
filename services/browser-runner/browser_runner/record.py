"""What an attempt says of its steps, and the journal that it keeps of them as `advance` does."""

from __future__ import annotations

import msgspec

from browser_runner.assignment import Assignment
from browser_runner.diagnosis import diagnosis_json
from browser_runner.journal import is_safe_point
from browser_runner.login import LoginSession
from browser_runner.outcome import Outcome
from browser_runner.pages import PageDesk
from browser_runner.ports import StepFailed
from browser_runner.reporting import Ticket
from kernel.domain.task import JournalEntry, StepChecked, StepFinished, StepStarted
from kernel.domain.values import Effect, Failure, Sealed, SealedBody
from kernel.domain.workflow_run import StepStatus
from kernel.errors import TowpathError
from kernel.steps.document import Step, kind_of, name_of
from kernel.steps.effects import effect_of
from kernel.tracing import SpanKind

JOURNAL_INLINE_BYTES_MAX = 16 * 1024

_ENTRY_BYTES = 160


class Record:
    """Of one attempt: what came with its task, and each step since."""

    def __init__(self, assignment: Assignment, pages: PageDesk, login: LoginSession) -> None:
        self.entries: list[JournalEntry] = []
        self.unknown = set(assignment.request.journal.unknown)
        """Paths of `once` steps that were started and whose outcome nobody has said."""
        self.last_failed = ("", "")
        """Id and name of the step that failed last."""
        self._assignment = assignment
        self._pages = pages
        self._login = login
        self._completed: set[str] = set()
        """Paths of steps that were completed before: their artifacts are facts, and no repetition makes them again."""
        self._unstaged_bytes = 0

    async def read(self) -> None:
        """Take the journal out of the task."""
        journal = self._assignment.request.journal
        if journal.staged.box or journal.staged.blob:
            self.entries = msgspec.convert(await self._assignment.opened(journal.staged), list[JournalEntry])
        self.entries += journal.entries
        self._completed = {entry.path for entry in self.entries if entry.status is StepStatus.COMPLETED}
        self._unstaged_bytes = sum(_bytes_of(entry) for entry in journal.entries)

    def started(self, path: str, step: Step, effect: Effect) -> Ticket:
        """Say `step.started`."""
        self.unknown.add(path)
        return self._assignment.reporter.say(
            StepStarted, path=path, step_id=step.id, name=name_of(step), effect=effect, kind=kind_of(step)
        )

    def checked(self, path: str) -> Ticket:
        """Say `step.checked`: it had not happened."""
        self.unknown.discard(path)
        return self._assignment.reporter.say(StepChecked, path=path)

    async def finished(self, path: str, step: Step, outcome: Outcome, next_name: str) -> None:
        """Say `step.finished`, an entry of the journal from now on; read it back where it uses up a one-time answer."""
        assignment, effect = self._assignment, effect_of(step)
        if self._login.must_keep(effect, outcome.status) and self._pages.is_open:
            state = await self._pages.save_state(assignment.workflow.allowed_hosts)
            await assignment.patiently(lambda: self._login.keep(state))
        output = SealedBody()
        if outcome.output is not None:
            output = await assignment.seal_json(outcome.output)
        failure = await self._failure_of(outcome.failure, step.id, name_of(step))
        url = await self._safe_point(step, outcome)
        entry = JournalEntry(
            path,
            outcome.status,
            effect,
            output,
            bool(url.box),
            url,
            outcome.consumed,
            failure.code,
            outcome.asks_again,
        )
        self.entries.append(entry)
        artifacts = () if path in self._completed else tuple(outcome.artifacts)
        if outcome.status is StepStatus.COMPLETED:
            self._completed.add(path)
        self.unknown.discard(path)
        ticket = assignment.reporter.say(
            StepFinished,
            path=path,
            step_id=step.id,
            name=name_of(step),
            kind=kind_of(step),
            effect=effect,
            status=outcome.status,
            tries=max(outcome.tries, 1),
            started_ms=outcome.started_ms,
            finished_ms=assignment.clock.now_ms(),
            output=output,
            failure=failure,
            diagnosis=await self._diagnosis_of(path, step, outcome.failure),
            artifacts=artifacts,
            screenshot_artifact_id=outcome.screenshot,
            safe_point=entry.safe_point,
            url=entry.url,
            consumed=outcome.consumed,
            next_name=next_name,
            journal_staged=await self._staged(entry),
            resolved=outcome.resolved,
            asks_again=outcome.asks_again,
        )
        self._trace(path, step, outcome)
        if outcome.consumed:
            await assignment.read_back(ticket)

    def _trace(self, path: str, step: Step, outcome: Outcome) -> None:
        """The step as a span of the run's trace. What was taken from the journal does not come here."""
        assigned, services = self._assignment.assigned, self._assignment.services
        if not services.tracer.is_on:
            return
        services.tracer.record(
            f"step {kind_of(step)}",
            SpanKind.INTERNAL,
            outcome.started_ms,
            services.clock.now_ms(),
            run=assigned.root_run_id,
            attributes={
                "towpath.run_id": assigned.root_run_id,
                "towpath.workflow_run_id": assigned.workflow_run_id,
                "towpath.attempt": assigned.token.attempt,
                "towpath.step": path,
                "towpath.effect": effect_of(step).value,
                "towpath.outcome": outcome.status.value,
                "towpath.tries": max(outcome.tries, 1),
            },
        )

    async def _failure_of(self, failure: StepFailed | None, step_id: str, step_name: str) -> Failure:
        if failure is None:
            return Failure()
        self.last_failed = (step_id, step_name)
        message = await self._assignment.told(failure.message)
        return Failure(failure.code, failure.kind, message, step_id, step_name)

    async def _diagnosis_of(self, path: str, step: Step, failure: StepFailed | None) -> Sealed:
        """Scrubbed of every live secret, then sealed. Left out when no key can be had, as every evidence."""
        if failure is None or failure.diagnosis is None:
            return Sealed()
        assignment = self._assignment
        told = diagnosis_json(failure.diagnosis, code=failure.code, path=path, name=name_of(step))
        clean = assignment.services.live.scrub_values(told)
        try:
            return await assignment.sealer.seal_text(assignment.subject_id, msgspec.json.encode(clean).decode())
        except TowpathError:
            return Sealed()

    async def _safe_point(self, step: Step, outcome: Outcome) -> Sealed:
        """The page's URL when a later walk may begin behind this step; else nothing."""
        url, before = self._pages.safe_url(), self._pages.url_at_last_step
        self._pages.url_at_last_step = url
        failed = outcome.status is StepStatus.FAILED and effect_of(step) is not Effect.ONCE
        if not url or failed or outcome.asks_again or outcome.status is StepStatus.SKIPPED:
            return Sealed()
        if not is_safe_point(step, url_before=before, url_after=url):
            return Sealed()
        return await self._assignment.seal_text(url)

    async def _staged(self, entry: JournalEntry) -> SealedBody:
        """The whole journal as a blob once what travels inline has outgrown its bound."""
        assignment = self._assignment
        self._unstaged_bytes += _bytes_of(entry)
        if self._unstaged_bytes <= JOURNAL_INLINE_BYTES_MAX:
            return SealedBody()
        journal = msgspec.to_builtins(self.entries)
        body = await assignment.seal_json(journal)
        self._unstaged_bytes = 0
        return body


def _bytes_of(entry: JournalEntry) -> int:
    """What an entry weighs in a task, about."""
    return len(entry.output.box) + len(entry.path) + len(entry.url.box) + _ENTRY_BYTES
