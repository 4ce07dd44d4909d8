"""The walk through a document: which step comes next, whether it runs, how often it is tried, what is said about it.

A walk knows its `Resume`; a step whose result stands is passed over. A walk that loses its browser is thrown away, and
the attempt makes a new one from what has been finished so far (`browser_runner.attempt`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from browser_runner.ends import AskAgain, End, Finished, HandBack, Why
from browser_runner.journal import (
    INLINE_DELAY_MS_MAX,
    Resume,
    Settling,
    delay_ms,
    how_to_settle,
    item_prefix,
    repeated_by,
    step_id_of,
    step_path,
    tries_spent,
)
from browser_runner.outcome import Outcome, Question
from browser_runner.ports import StepFailed
from browser_runner.rejection import AnswerRejected
from browser_runner.reporting import Ticket
from browser_runner.settling import has_happened
from browser_runner.steps import EXECUTORS
from browser_runner.steps.trying import Desk, Trying, rendered
from browser_runner.timing import before
from kernel.building import replace
from kernel.domain.artifact import StagedArtifact
from kernel.domain.input_request import InputField
from kernel.domain.task import JournalEntry
from kernel.domain.values import Effect, FailureKind
from kernel.domain.workflow_run import StepStatus, WorkflowRunStatus
from kernel.line_context import LineContext
from kernel.steps.document import (
    AskUserStep,
    AssertStep,
    ClickStep,
    Evidence,
    FillStep,
    FinishStep,
    ForEachStep,
    IfStep,
    OnError,
    PressStep,
    Step,
    name_of,
)
from kernel.steps.effects import check_of, effect_of, retry_of
from kernel.steps.expressions import ExpressionError, compile_expression, evaluate, evaluate_bool
from kernel.steps.templates import TemplateError, compile_template, render_text, render_value

_GRACE_MS = 1000.0
_ENDS_ALL = frozenset({"terminated", "step_outcome_unknown", "login_rejected", "connection_locked"})
"""Failures that no `onError` makes good."""
_ENDS_LOOPS = frozenset({"timed_out", "report_too_long", "login_rejected", "connection_locked"})
"""Failures of an item that end its loop, whatever `onItemError` says."""

_END = {
    "done": WorkflowRunStatus.COMPLETED,
    "nothing_to_do": WorkflowRunStatus.COMPLETED_WITH_NO_ACTION_TAKEN,
    "terminated": WorkflowRunStatus.TERMINATED,
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the document a list of steps stands."""

    prefix: str = ""
    """Before the ids of its steps in paths."""
    names: Mapping[str, Any] = field(default_factory=dict)
    """Loop variables."""
    after: str = ""
    """Name of the step that follows the list."""


class WalkDesk(Desk, Protocol):
    """What a walk needs of its attempt, beside what its steps need."""

    def check_orders(self) -> None:
        """At the border of two steps: raises `HandBack` when the attempt must end, `StepFailed` past the deadline."""
        ...

    async def finished(self, path: str, step: Step, outcome: Outcome, next_name: str) -> None:
        """Say `step.finished` and keep the entry. Waits for the log only where a one-time answer was consumed: `Fenced`
        when that does not surely count.
        """
        ...

    def without_secrets(self, value: Any) -> Any:
        """A step's result without the secrets of this attempt, which a page may show again: they are never echoed."""
        ...

    def checked(self, path: str) -> Ticket:
        """Say `step.checked`."""
        ...

    async def result_of(self, entry: JournalEntry) -> Any:
        """Open the result of an earlier walk."""
        ...

    async def ask(self, path: str, step: Step, question: Question) -> dict[str, Any]:
        """Ask a person and wait, holding the page; `HandBack` when the hold is over."""
        ...

    def may_ask_again(self, path: str) -> bool:
        """Whether the question at `path` was answered, and may be asked once more because the answer was rejected."""
        ...

    async def rejections(self, path: str) -> tuple[int, str]:
        """How many answers to the question at `path` the source has rejected, and its words of the last one."""
        ...

    async def picture(self, path: str, step: Step) -> StagedArtifact | None:
        """A picture of the page as it is, staged; None when there is none to take. Raises nothing."""
        ...

    async def diagnosed(self, failure: StepFailed) -> StepFailed:
        """`failure` with all that the page can tell of it. Raises nothing."""
        ...

    async def meets_login(self) -> bool:
        """Whether the page asks for a login."""
        ...


TOP = Place()


class Walk:
    """One pass over a list of steps. `scope` is filled as results come."""

    def __init__(
        self, desk: WalkDesk, resume: Resume, scope: dict[str, Any], *, quiet: bool = False, stop_after: str = ""
    ) -> None:
        """`quiet`: nothing is said and nothing that acts once is allowed (session checks). `stop_after`: id of the step
        whose first end is the end of the walk.
        """
        self._desk = desk
        self._resume = resume
        self._scope = scope
        self._quiet = quiet
        self._stop_after = stop_after
        self._used_answers: dict[str, tuple[str, AskUserStep, Mapping[str, Any]]] = {}
        """By id: questions whose answer an earlier attempt has used, perhaps up to the last."""

    async def steps(self, steps: tuple[Step, ...], place: Place = TOP) -> None:
        """Walk `steps` in order. Raises `StepFailed`, `Finished`, `HandBack`, `BrowserLost`, `Fenced`."""
        index = 0
        while index < len(steps):
            is_last = steps[index].id == self._stop_after
            next_name = name_of(steps[index + 1]) if index + 1 < len(steps) else place.after
            try:
                await self._step(steps[index], replace(place, after="" if is_last else next_name))
            except AskAgain as again:
                index = self._back_to(again, steps[:index], place)
                continue
            if is_last:
                raise Finished(End(WorkflowRunStatus.COMPLETED, stopped_after=self._stop_after))
            index += 1

    def _back_to(self, again: AskAgain, before: tuple[Step, ...], place: Place) -> int:
        """Where in this list the question stands; raises `again` when it stands in a list around this one."""
        for index, step in enumerate(before):
            if step_path(place.prefix, step.id) == again.path:
                is_repeated = repeated_by(self._desk.prepared.document, again.path, again.rejected_path)
                self._resume = self._resume.without(is_repeated)
                return index
        raise again

    async def _step(self, step: Step, place: Place) -> None:
        path = step_path(place.prefix, step.id)
        with LineContext(step=path):
            await self._step_at(path, step, place)

    async def _step_at(self, path: str, step: Step, place: Place) -> None:
        names, next_name = place.names, place.after
        entry = self._resume.taken.get(path)
        if entry is not None and await self._take(step, entry):
            if isinstance(step, AskUserStep) and entry.consumed:
                self._used_answers[step.id] = (path, step, names)
            return
        if not self._quiet:
            self._desk.check_orders()
        outcome = Outcome(self._desk.clock.now_ms())
        try:
            skipped = entry is None and step.when is not None and not self._holds(step.when, names)
        except StepFailed as failure:
            await self._failed(path, step, outcome, failure, next_name)
            return
        if skipped:
            outcome.status = StepStatus.SKIPPED
            await self._say(path, step, outcome, next_name)
            return
        match step:
            case IfStep():
                await self._if(step, place, entry)
            case ForEachStep():
                await self._for_each(step, place)
            case FinishStep():
                await self._finish(path, step, names)
            case AskUserStep():
                await self._ask(path, step, names, next_name)
            case _:
                await self._run(path, step, names, outcome, next_name)

    async def _take(self, step: Step, entry: JournalEntry) -> bool:
        """Pass over a step whose result stands; False for an `if`, whose inner steps are still to be walked."""
        if entry.status is StepStatus.FAILED and step.on_error is not OnError.CONTINUE:
            raise StepFailed(entry.failure_code or "step_failed", f"`{name_of(step)}` failed in an earlier attempt")
        if isinstance(step, ForEachStep):
            await self._recall_items(entry.path)
        output = await self._recall(step.id, entry)
        if entry.status is StepStatus.FAILED:
            return True
        if isinstance(step, FinishStep) and entry.status is StepStatus.COMPLETED:
            raise Finished(_end_of(step, output))
        return not isinstance(step, IfStep) or entry.status is StepStatus.SKIPPED

    async def _recall(self, step_id: str, entry: JournalEntry) -> Any:
        """What the step left for later ones, as if it had just ended; its output."""
        if entry.status is StepStatus.FAILED:
            self._scope["steps"][step_id] = {"failed": True, "code": entry.failure_code}
            return None
        output = await self._desk.result_of(entry) if step_id in self._desk.prepared.read_later else None
        if output is not None:
            self._scope["steps"][step_id] = output
        return output

    async def _recall_items(self, loop_path: str) -> None:
        """Behind a loop the last result of each step of its body can be read."""
        last: dict[str, JournalEntry] = {}
        for path, entry in self._resume.taken.items():
            if path.startswith(f"{loop_path}[") and (entry.status is StepStatus.FAILED or entry.output.size):
                last[step_id_of(path)] = entry
        for step_id, entry in last.items():
            await self._recall(step_id, entry)

    # ------------------------------------------------------------ control

    async def _if(self, step: IfStep, place: Place, entry: JournalEntry | None) -> None:
        path, names, next_name = step_path(place.prefix, step.id), place.names, place.after
        if entry is None:
            outcome = Outcome(self._desk.clock.now_ms())
            try:
                branch = "then" if self._holds(step.params.condition, names) else "else"
            except StepFailed as failure:
                await self._failed(path, step, outcome, failure, next_name)
                return
            outcome.output = {"branch": branch}
            chosen = step.params.then if branch == "then" else step.params.else_
            # Said before the branch is walked: a later attempt must not choose again.
            await self._say(path, step, outcome, name_of(chosen[0]) if chosen else next_name)
        else:
            chosen = step.params.then if self._scope["steps"][step.id]["branch"] == "then" else step.params.else_
        await self.steps(chosen, place)

    async def _for_each(self, step: ForEachStep, place: Place) -> None:
        path, names, next_name = step_path(place.prefix, step.id), place.names, place.after
        outcome = Outcome(self._desk.clock.now_ms())
        try:
            items = self._items(step, names)
        except StepFailed as failure:
            await self._failed(path, step, outcome, failure, next_name)
            return
        failed = 0
        body = step.params.body
        for index, item in enumerate(items):
            inner = {**names, step.params.variable: item, "index": index}
            after = name_of(body[0]) if index + 1 < len(items) else next_name
            try:
                await self.steps(body, Place(item_prefix(path, index), inner, after))
            except StepFailed as failure:
                fatal = failure.code in _ENDS_LOOPS
                if step.params.on_item_error is OnError.FAIL or fatal:
                    raise
                failed += 1
        outcome.output = {"items": len(items), "completed": len(items) - failed, "failed": failed}
        await self._say(path, step, outcome, next_name)

    def _items(self, step: ForEachStep, names: Mapping[str, Any]) -> list[Any]:
        try:
            items = evaluate(compile_expression(step.params.items), {**self._scope, **names})
        except ExpressionError as error:
            raise StepFailed("expression_failed", str(error)) from None
        if not isinstance(items, list):
            raise StepFailed("expression_failed", f"`{step.params.items}` gives no list")
        if len(items) > step.params.max_items:
            raise StepFailed("too_many_items", f"{len(items)} items are more than {step.params.max_items}")
        return items

    async def _finish(self, path: str, step: FinishStep, names: Mapping[str, Any]) -> None:
        scope = {**self._scope, **names}
        outcome = Outcome(self._desk.clock.now_ms())
        params = step.params
        try:
            output = _fill_in(params.output, scope) if params.output else None
            message = render_text(params.message, scope)
        except TemplateError as error:
            await self._failed(path, step, outcome, StepFailed("template_failed", str(error)), "")
            return
        result = {"outcome": params.outcome, "code": params.code, "message": message, "output": output}
        outcome.output = result
        await self._say(path, step, outcome, "")
        raise Finished(_end_of(step, result))

    async def _ask(self, path: str, step: AskUserStep, names: Mapping[str, Any], next_name: str) -> None:
        params, outcome = step.params, Outcome(self._desk.clock.now_ms())
        fields = tuple(
            InputField(asked.name, asked.label, asked.kind, asked.secret, asked.options, asked.pattern)
            for asked in params.fields
        )
        try:
            prompt = render_text(params.prompt, {**self._scope, **names})
        except TemplateError as error:
            await self._failed(path, step, outcome, StepFailed("template_failed", str(error)), next_name)
            return
        rejections, words = await self._desk.rejections(path)
        if rejections:
            prompt = f"{prompt}\n\n{_not_accepted(words)}".strip()
        question = Question(params.kind, prompt, fields, params.hold_seconds, params.answer_seconds, rejections + 1)
        outcome.output = await self._desk.ask(path, step, question)
        outcome.consumed = any(asked.secret for asked in params.fields)
        await self._say(path, step, outcome, next_name)

    # ------------------------------------------------------------ steps that look or act

    async def _run(self, path: str, step: Step, names: Mapping[str, Any], outcome: Outcome, next_name: str) -> None:
        retry = retry_of(step)
        outcome.tries = tries_spent(retry, self._resume.releases.get(path, 0)) % retry.max_attempts
        try:
            if path in self._resume.unknown and await self._settle(path, step, names, outcome):
                await self._say(path, step, outcome, next_name)
                return
            while True:
                outcome.tries += 1
                failure = await self._try(path, step, names, outcome)
                if failure is not None and await self._answered_anew(step, failure):
                    failure = await self._try(path, step, names, outcome)
                if failure is None or outcome.resolved:
                    break
                again = failure.kind is FailureKind.TEMPORARY and outcome.tries < retry.max_attempts
                if not again:
                    raise failure
                await self._wait(path, step, outcome, failure, next_name)
        except AnswerRejected as refused:
            await self._rejected(path, step, outcome, refused, next_name)
            return
        except StepFailed as failure:
            await self._failed(path, step, outcome, failure, next_name)
            return
        if step.evidence is Evidence.ALWAYS and not self._quiet:
            await self._add_picture(path, step, outcome)
        await self._say(path, step, outcome, next_name)

    async def _try(self, path: str, step: Step, names: Mapping[str, Any], outcome: Outcome) -> StepFailed | None:
        """One try. None: done. A failure that is returned may be tried again; one that is raised may not."""
        effect = effect_of(step)
        if self._quiet and effect is Effect.ONCE:
            raise StepFailed("step_failed", "a session check may not act")
        until_ms = self._desk.clock.boot_ms() + step.timeout_ms
        trying = Trying(self._desk, path, step, effect, {**self._scope, **names}, until_ms)
        try:
            outcome.output = self._desk.without_secrets(await self._timed(trying, step))
        except StepFailed as failure:
            outcome.artifacts = trying.artifacts
            if effect is not Effect.ONCE or not trying.started:
                return failure
            if isinstance(failure, AnswerRejected):
                raise
            if trying.has_acted:
                await self._look_again(step, names, outcome, failure)
                return failure
            # Started, and nobody knows whether it happened: the unknown case, here and now.
            await self._settle(path, step, names, outcome)
            return failure
        outcome.artifacts = trying.artifacts
        return None

    async def _timed(self, trying: Trying, step: Step) -> Any:
        execute = EXECUTORS[type(step)]
        if isinstance(step, AssertStep) and step.params.page is None and trying.effect is not Effect.ONCE:
            return await execute(trying, step)  # It waits for nothing.
        try:
            # Steps keep their own time and say what they waited for; this ends one that does not.
            return await before(self._desk.clock, lambda: trying.until_ms + _GRACE_MS, _call(execute, trying, step))
        except TimeoutError:
            message = f"took longer than {step.timeout_ms} ms"
            raise StepFailed("step_timeout", message, FailureKind.TEMPORARY) from None

    async def _look_again(self, step: Step, names: Mapping[str, Any], outcome: Outcome, failure: StepFailed) -> None:
        """Of an act that was carried out, and the page did not become what it should: return when its check finds it
        done. Else raises `failure`, which is temporary only if the check finds that nothing happened: a repetition that
        anybody is encouraged to could do it twice.
        """
        happened = await self._checked(step, names)
        if happened:
            outcome.resolved, outcome.output = True, {"resolved": True}
            return
        if happened is None:
            raise StepFailed(failure.code, failure.message, aim=failure.aim) from failure
        raise failure

    async def _checked(self, step: Step, names: Mapping[str, Any]) -> bool | None:
        """What the step's check finds; None without one, and when the page that would tell cannot be read."""
        check = check_of(step)
        return None if check is None else await has_happened(self._desk, rendered(check, {**self._scope, **names}))

    async def _settle(self, path: str, step: Step, names: Mapping[str, Any], outcome: Outcome) -> bool:
        """Find out whether an unknown `once` step has happened; False: it has not, says its check, and that is said."""
        how = how_to_settle(self._desk.prepared.document, step)
        happened = await self._checked(step, names)
        if happened is None and how is Settling.ASK:
            happened = await self._ask_whether(path, step)
        if happened is None:
            raise StepFailed(
                "step_outcome_unknown", f"`{name_of(step)}` was started, and nothing tells whether it happened"
            )
        if not happened:
            self._desk.checked(path)
            return False
        outcome.resolved, outcome.output = True, {"resolved": True}
        return True

    async def _ask_whether(self, path: str, step: Step) -> bool:
        question = f"Has `{name_of(step)}` happened? It was started, and the connection was lost."
        yes_or_no = InputField("happened", "", "confirm", secret=False, options=("yes", "no"), pattern="")
        answer = await self._desk.ask(path, step, Question("confirm", question, (yes_or_no,), 0, 86_400))
        return answer.get("happened") in {"yes", True}

    async def _wait(self, path: str, step: Step, outcome: Outcome, failure: StepFailed, next_name: str) -> None:
        """The delay before the next try: here when it is short, otherwise the task is handed back."""
        delay = delay_ms(retry_of(step), outcome.tries)
        if delay > INLINE_DELAY_MS_MAX and effect_of(step) is not Effect.ONCE and not self._quiet:
            outcome.status, outcome.failure = StepStatus.FAILED, failure
            await self._say(path, step, outcome, next_name)
            raise HandBack(Why.DELAYED, self._desk.clock.now_ms() + delay)
        await self._desk.clock.sleep(min(delay, INLINE_DELAY_MS_MAX) / 1000)
        if not self._quiet:
            self._desk.check_orders()

    async def _rejected(self, path: str, step: Step, outcome: Outcome, refused: AnswerRejected, next_name: str) -> None:
        """The source refuses what was typed: go back and ask again, or fail when nothing (more) can be asked."""
        refused = AnswerRejected(self._desk.without_secrets(refused.words))
        rejection = step.params.rejected if isinstance(step, ClickStep | FillStep | PressStep) else None
        ask = rejection.ask if rejection is not None else ""
        ask_path = step_path(path.removesuffix(step.id), ask) if ask and not self._quiet else ""
        if not ask_path or not self._desk.may_ask_again(ask_path):
            await self._failed(path, step, outcome, refused, next_name)
            return
        outcome.status, outcome.failure, outcome.output = StepStatus.FAILED, refused, {"rejected": refused.words}
        outcome.asks_again = ask_path
        if step.evidence is not Evidence.NONE:
            await self._add_picture(path, step, outcome)
        await self._say(path, step, outcome, ask)
        raise AskAgain(ask_path, path)

    async def _answered_anew(self, step: Step, failure: StepFailed) -> bool:
        """Ask again for a one-time answer that an earlier attempt has used up, where a step wants it once more."""
        if failure.code != "secret_unavailable" or failure.kind is FailureKind.TEMPORARY or self._quiet:
            return False
        wanted = compile_template(step.params.value).single if isinstance(step, FillStep) else ()
        known = self._used_answers.pop(wanted[1], None) if wanted[:1] == ("steps",) else None
        if known is None:
            return False
        path, question, names = known
        await self._ask(path, question, names, name_of(step))
        return True

    async def _failed(self, path: str, step: Step, outcome: Outcome, failure: StepFailed, next_name: str) -> None:
        """Say that a step has failed; raises the failure unless the author said to go on."""
        if not self._quiet:
            failure = await self._desk.diagnosed(failure)
        is_told = self._quiet or failure.code in {"step_outcome_unknown", "login_rejected", "login_failed"}
        if not is_told and await self._desk.meets_login():
            message = f"the page asks for a login: {failure.message}"
            failure = StepFailed("login_failed", message, failure.kind, diagnosis=failure.diagnosis)
        outcome.status, outcome.failure, outcome.output, outcome.resolved = StepStatus.FAILED, failure, None, False
        if step.evidence is not Evidence.NONE and not self._quiet:
            await self._add_picture(path, step, outcome)
        goes_on = step.on_error is OnError.CONTINUE and failure.code not in _ENDS_ALL
        await self._say(path, step, outcome, next_name if goes_on else "")
        if not goes_on:
            raise failure
        self._scope["steps"][step.id] = {"failed": True, "code": failure.code}

    async def _add_picture(self, path: str, step: Step, outcome: Outcome) -> None:
        picture = await self._desk.picture(path, step)
        if picture is not None:
            outcome.artifacts = [*outcome.artifacts, picture]
            outcome.screenshot = picture.artifact_id

    async def _say(self, path: str, step: Step, outcome: Outcome, next_name: str) -> None:
        if outcome.status is StepStatus.COMPLETED and outcome.output is not None:
            self._scope["steps"][step.id] = outcome.output
        if not self._quiet:
            await self._desk.finished(path, step, outcome, next_name)

    def _holds(self, condition: str, names: Mapping[str, Any]) -> bool:
        try:
            return evaluate_bool(condition, {**self._scope, **names})
        except ExpressionError as error:
            raise StepFailed("expression_failed", str(error)) from None


async def _call(execute: Any, trying: Trying, step: Step) -> Any:
    return await execute(trying, step)


def _not_accepted(words: str) -> str:
    return f"The last answer was not accepted. The site says: \u201c{words}\u201d" if words else _NOT_ACCEPTED


_NOT_ACCEPTED = "The last answer was not accepted."


def _end_of(step: FinishStep, output: Any) -> End:
    status = _END[output["outcome"]]
    if status is not WorkflowRunStatus.TERMINATED:
        return End(status, output["output"], output["code"], output["message"])
    return End(status, None, output["code"] or "terminated", output["message"], step.id, name_of(step))


def _fill_in(value: Any, scope: Mapping[str, Any]) -> Any:
    match value:
        case str():
            return render_value(value, scope)
        case dict():
            return {name: _fill_in(item, scope) for name, item in value.items()}
        case list():
            return [_fill_in(item, scope) for item in value]
        case _:
            return value
