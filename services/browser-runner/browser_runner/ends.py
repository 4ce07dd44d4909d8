"""The ways out of a walk that are no failure of a step."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from kernel.domain.workflow_run import WorkflowRunStatus


class Why(StrEnum):
    """Why an attempt ends without an end of its run."""

    STOP = "stop"
    PARK = "park"
    DRAIN = "drain"
    DELAYED = "delayed"


class HandBack(Exception):
    """The attempt ends here and the run goes on elsewhere, later, or not at all."""

    def __init__(self, why: Why, not_before_ms: int = 0) -> None:
        super().__init__(why)
        self.why = why
        self.not_before_ms = not_before_ms


class Fenced(Exception):
    """The token is over: nothing more may be done or said."""


class AskAgain(Exception):
    """The source has rejected an answer, and that is said: the walk goes back to the question at `path`."""

    def __init__(self, path: str, rejected_path: str) -> None:
        super().__init__(path)
        self.path = path
        self.rejected_path = rejected_path


class Finished(Exception):
    """The walk ends here by the author's word: a `finish` step, or the step that the caller wanted to stop after."""

    def __init__(self, end: End) -> None:
        super().__init__(end.status)
        self.end = end


@dataclass(frozen=True, slots=True)
class End:
    """How the workflow run ends, as this attempt sees it."""

    status: WorkflowRunStatus
    output: Any = None
    """None: what the extracts of the document gave."""
    code: str = ""
    message: str = ""
    step_id: str = ""
    step_name: str = ""
    temporary: bool = False
    stopped_after: str = ""
    """Id of the step behind which the caller wanted the run to stop."""
