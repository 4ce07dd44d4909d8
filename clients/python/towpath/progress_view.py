"""How a run under way looks to a person: a line for everything that ended, and on a terminal one live line below.

Finished lines scroll away like any output, so nothing is lost on a small screen and a copied log reads the same.
Steps inside loops are counted on the live line and on the line of their loop; only those that failed get a line.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from towpath.resources import JobRun, Step, WorkflowRun, WorkflowRunStatus
from towpath.text import printable
from towpath.watch import Change, RunChanged, RunProgress, StepEnded, WorkflowChanged, changes

_WIDTH_MAX = 88
_NAME_WIDTH_MIN = 16
_TIME_WIDTH = 12
_GOOD, _BAD, _QUIET = "green", "bold red", "dim"


def seconds_text(seconds: float | None) -> str:
    """A duration for people: `0.42 s`, `12.3 s`, `2 min 05 s`; empty when unknown."""
    if seconds is None:
        return ""
    seconds = max(seconds, 0.0)
    if seconds < 9.995:
        return f"{seconds:.2f} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def run_seconds(run: JobRun | WorkflowRun) -> float | None:
    """How long an ended run took, waiting for its slot left out where the server says when it started."""
    begun = run.started_at or run.created_at
    return (run.completed_at - begun).total_seconds() if begun and run.completed_at else None


def words(status: str) -> str:
    """A status as text: `AWAITING_USER_INPUT` is `awaiting user input`."""
    return status.lower().replace("_", " ")


def marks(console: Console) -> tuple[str, str, str]:
    """Signs for good, bad and passed over, as far as the console's encoding has them."""
    return ("✓", "✗", "-") if console.encoding.lower().startswith("utf") else ("ok", "!!", "-")


class ProgressView:
    """Shows looks at one run on `console`; a context manager, so that the live line goes away in any case."""

    def __init__(self, console: Console, *, monotonic: Callable[[], float]) -> None:
        self._console = console
        self._monotonic = monotonic
        self._last: RunProgress | None = None
        self._since = monotonic()
        self._inside: Counter[tuple[str, str]] = Counter()
        self._marks = marks(console)
        self._is_live = console.is_terminal and not console.is_dumb_terminal
        self._live = Live(console=console, transient=True, refresh_per_second=8, get_renderable=self._line)
        self._spinner = Spinner("dots" if self._marks[0] == "✓" else "line", style="cyan")

    def __enter__(self) -> Self:
        if self._is_live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_live:
            self._live.stop()

    def show(self, progress: RunProgress) -> None:
        """Print what is new since the last look."""
        if not progress.fresh and (self._last is None or self._last.fresh) and not self._is_live:
            self._print(Text("The server does not answer; trying again.", style="yellow"))
        found = changes(self._last, progress)
        self._last = progress
        for change in found:
            self._since = self._monotonic()
            self._show(change)

    # ---------------------------------------------------------------- lines that stay

    def _show(self, change: Change) -> None:
        match change:
            case RunChanged(progress=progress, appeared=appeared):
                self._show_run(progress, appeared=appeared)
            case WorkflowChanged():
                self._show_workflow(change)
            case StepEnded(workflow=workflow, step=step):
                self._show_step(workflow.run.id if workflow.run else "", step)

    def _show_run(self, progress: RunProgress, *, appeared: bool) -> None:
        run = progress.run
        if run.ended:
            mark, style = (self._marks[0], _GOOD) if run.ended_well else (self._marks[1], _BAD)
            took = seconds_text(run_seconds(run))
            self._print(
                Text(f"{mark} {progress.name}: {words(run.status)}" + (f" in {took}" if took else ""), style=style)
            )
            if not run.ended_well:
                self._print(Text(f"  {failure_text(run)}", style="red"))
        elif appeared:
            self._print(Text.assemble((printable(progress.name), "bold"), ("  run ", _QUIET), (run.id, _QUIET)))

    def _show_workflow(self, change: WorkflowChanged) -> None:
        run, last = change.run, self._last
        if change.appeared:
            if isinstance(last.run if last else None, JobRun) and last:
                self._print(
                    Text(f"{change.position + 1}/{len(last.workflows)} {printable(change.workflow.name)}", style="bold")
                )
        elif run.status is WorkflowRunStatus.AWAITING_USER_INPUT:
            self._print(Text(f"  ? needs an answer: towpath input answer {run.input_request_id}", style="yellow"))
        elif run.ended and run.ended_well:
            self._print(self._row("", words(run.status), seconds_text(run_seconds(run)), _QUIET))

    def _show_step(self, workflow_run_id: str, step: Step) -> None:
        root = re.split(r"[.\[]", step.address, maxsplit=1)[0]
        if root != step.address and not step.failed:
            self._inside[workflow_run_id, root] += 1
            return
        good, bad, skipped = self._marks
        mark, style = (bad, _BAD) if step.failed else (skipped, _QUIET) if step.skipped else (good, _GOOD)
        notes = []
        if inside := self._inside.pop((workflow_run_id, root), 0):
            notes.append(f"{inside} steps inside")
        if step.attempt > 1:
            notes.append(f"attempt {step.attempt}")
        label = printable(step.name or step.step_id) + (f" ({', '.join(notes)})" if notes else "")
        time = "skipped" if step.skipped else seconds_text(step.seconds)
        self._print(self._row(mark, label, time, style, label_style=_QUIET if step.skipped else ""))
        if step.failed:
            reason = ": ".join(part for part in (step.error.code, step.error.message) if part) if step.error else ""
            self._print(Text(f"      {printable(reason) or 'no reason was given'}", style="red"))

    def _row(self, mark: str, label: str, time: str, style: str, *, label_style: str = "") -> Text:
        lead = 3 + max(len(m) for m in self._marks)
        room = max(min(self._console.width, _WIDTH_MAX) - lead - _TIME_WIDTH, _NAME_WIDTH_MIN)
        name = Text(label, style=label_style or (style if not mark else ""))
        if self._console.is_terminal:
            name.truncate(room, overflow="ellipsis")
        name.pad_right(max(room - name.cell_len, 0))
        row = Text.assemble((f"  {mark}".ljust(lead), style), name, (f"{time:>{_TIME_WIDTH}}", _QUIET))
        row.rstrip()
        return row

    def _print(self, line: Text) -> None:
        self._console.print(line, soft_wrap=not self._console.is_terminal, highlight=False)

    # ---------------------------------------------------------------- the live line

    def _line(self) -> Table | Text:
        progress = self._last
        if progress is None or progress.run.ended:
            return Text("")
        self._spinner.text = ""
        row = Table.grid(padding=(0, 1), expand=False)
        row.add_column(width=3, justify="right", no_wrap=True)
        row.add_column(no_wrap=True, overflow="ellipsis")
        row.add_row(self._spinner, self._now(progress))
        return row

    def _now(self, progress: RunProgress) -> Text:
        passed = seconds_text(self._monotonic() - self._since)
        workflow = progress.current
        if not progress.fresh:
            return Text(f"the server does not answer; trying again ({passed})", style="yellow")
        if workflow is None or workflow.run is None:
            return Text.assemble("waiting for its turn", (f"  {passed}", _QUIET))
        run = workflow.run
        if run.status is not WorkflowRunStatus.IN_PROGRESS:
            return Text.assemble(words(run.status), (f"  {passed}", _QUIET))
        done = sum(count for (run_id, _), count in self._inside.items() if run_id == run.id)
        inside = f"  {done} done inside" if done else ""
        return Text.assemble(printable(run.current_state_name or "starting"), (f"{inside}  {passed}", _QUIET))


def failure_text(run: JobRun | WorkflowRun) -> str:
    """Why a run failed, in one sentence: where, code, message."""
    step = run.failed_step
    where = f"at step {step.name or step.step_id}: " if step else ""
    exact = run.error_reason if run.error_reason != run.error_code else None
    code = f"{run.error_code} ({exact})" if exact else run.error_code
    reason = ": ".join(part for part in (code, run.error_message) if part)
    return printable(f"{where}{reason or 'the server gave no reason'}")
