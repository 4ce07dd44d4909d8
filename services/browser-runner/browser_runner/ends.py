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


class Finished(Exception):
    """A `finish` step was reached."""

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
