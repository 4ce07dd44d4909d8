"""What a walk hands to its attempt: how a step has ended, and what a person is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from browser_runner.ports import StepFailed
from kernel.domain.artifact import StagedArtifact
from kernel.domain.input_request import InputField
from kernel.domain.workflow_run import StepStatus


class Outcome:
    """What is said about one finished step; built up while it runs."""

    __slots__ = (
        "artifacts",
        "asks_again",
        "consumed",
        "failure",
        "output",
        "resolved",
        "screenshot",
        "started_ms",
        "status",
        "tries",
    )

    def __init__(self, started_ms: int) -> None:
        self.started_ms = started_ms
        self.status = StepStatus.COMPLETED
        self.output: Any = None
        self.failure: StepFailed | None = None
        self.artifacts: list[StagedArtifact] = []
        self.screenshot = ""
        self.tries = 0
        self.consumed = False
        self.resolved = False
        self.asks_again = ""
        """Path of the question whose answer was rejected and that is asked again."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a person is asked."""

    kind: str
    prompt: str
    fields: tuple[InputField, ...]
    hold_seconds: int
    answer_seconds: int
    attempt: int = 1
    """1, and one more for each answer that the source has rejected."""
