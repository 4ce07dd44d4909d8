"""An input request: a run asks a person. The first answer wins.

opened OPEN -> ANSWERED | EXPIRED | CANCELLED
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from kernel.building import replace
from kernel.domain.ids import InputRequestId, JobRunId, OrganizationId, RequestId, SubjectId, UserId, WorkflowRunId
from kernel.domain.values import Sealed, SealedBody

# ---------------------------------------------------------------- status


class InputRequestStatus(StrEnum):
    """The last three are terminal."""

    OPEN = "open"
    ANSWERED = "answered"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


TRANSITIONS: dict[InputRequestStatus, frozenset[InputRequestStatus]] = {
    InputRequestStatus.OPEN: frozenset(
        {
            InputRequestStatus.ANSWERED,
            InputRequestStatus.EXPIRED,
            InputRequestStatus.CANCELLED,
        }
    ),
    InputRequestStatus.ANSWERED: frozenset(),
    InputRequestStatus.EXPIRED: frozenset(),
    InputRequestStatus.CANCELLED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class InputField:
    """One thing that is asked for."""

    name: str
    label: str
    kind: str
    """`credentials`, `mfa_code`, `security_answer`, `phone`, `choice`, `confirm`, `text`."""
    secret: bool
    options: tuple[str, ...]
    pattern: str


# ---------------------------------------------------------------- requests


@dataclass(frozen=True, slots=True)
class InputAnswerSubmitted:
    """Someone answers. Secret values are vault references inside the sealed body. Internal."""

    request_id: RequestId
    root_run_id: str
    input_request_id: InputRequestId
    values: SealedBody
    answered_by: UserId
    valid_until_ms: int


# ---------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class InputRequestOpened:
    """The run waits for this answer until `expires_ms`."""

    input_request_id: InputRequestId
    workflow_run_id: WorkflowRunId
    job_run_id: JobRunId
    organization_id: OrganizationId
    subject_id: SubjectId
    external_id: Sealed
    step_id: str
    kind: str
    prompt: Sealed
    fields: tuple[InputField, ...]
    attempt: int
    """How often this was asked, from 1; a refused code opens a new request."""
    expires_ms: int


@dataclass(frozen=True, slots=True)
class InputRequestAnswered:
    """The first answer, accepted. The values travel to the runner, never in this fact."""

    input_request_id: InputRequestId
    answered_by: UserId
    request_id: RequestId


@dataclass(frozen=True, slots=True)
class InputRequestExpired:
    """Nobody answered in time."""

    input_request_id: InputRequestId


@dataclass(frozen=True, slots=True)
class InputRequestCancelled:
    """The run ended before an answer came."""

    input_request_id: InputRequestId


InputRequestEvent = InputRequestOpened | InputRequestAnswered | InputRequestExpired | InputRequestCancelled

# ---------------------------------------------------------------- state


@dataclass(frozen=True, slots=True)
class InputRequest:
    """An input request as its public facts tell it."""

    id: InputRequestId = InputRequestId("")
    status: InputRequestStatus = InputRequestStatus.OPEN


def evolve(request: InputRequest, event: InputRequestEvent) -> InputRequest:
    """Fold one public fact."""
    match event:
        case InputRequestOpened(input_request_id=id_):
            return replace(request, id=id_, status=InputRequestStatus.OPEN)
        case InputRequestAnswered():
            return replace(request, status=InputRequestStatus.ANSWERED)
        case InputRequestExpired():
            return replace(request, status=InputRequestStatus.EXPIRED)
        case InputRequestCancelled():
            return replace(request, status=InputRequestStatus.CANCELLED)
        case _:
            assert_never(event)
