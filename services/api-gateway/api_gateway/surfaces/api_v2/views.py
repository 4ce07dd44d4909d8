"""The shapes and words of this surface: what bodies must look like, and how answers read.

Answers carry every field; what is not there is `null`. Times are UTC with milliseconds and a literal `Z`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, Generic, TypeVar

from msgspec import Meta, Struct

from api_gateway.answers import (
    ArtifactAnswer,
    InputRequestAnswer,
)

T = TypeVar("T")

UUID_PATTERN = (
    r"^(?:[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[1-8][0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}"
    r"|00000000-0000-0000-0000-000000000000)$"
)
SLUG_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}$"

Uuid = Annotated[str, Meta(pattern=UUID_PATTERN)]
Slug = Annotated[str, Meta(pattern=SLUG_PATTERN)]
PRINTABLE_PATTERN = r"^[^\x00-\x1f\x7f]*$"
Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=PRINTABLE_PATTERN)]
ExternalId = Annotated[str, Meta(min_length=1, max_length=256, pattern=PRINTABLE_PATTERN)]
Inputs = dict[str, Any]
WORKFLOWS_PER_JOB_MAX = 100
Order = Annotated[list[Uuid], Meta(max_length=WORKFLOWS_PER_JOB_MAX)]

# ---------------------------------------------------------------- bodies


class Body(Struct, kw_only=True, rename="camel"):
    """What callers send; unknown members are ignored."""


class JobConfig(Struct, kw_only=True, rename="camel"):
    """What a job does: its workflows, one after another."""

    workflow_execution_order: Order


class AnswerInputRequest(Body, kw_only=True):
    values: Inputs


# ---------------------------------------------------------------- answers


class Resource(Struct, kw_only=True, rename="camel"):
    """What callers get."""


class Page(Struct, Generic[T], kw_only=True):
    """A part of a list, newest first where nothing else is said."""

    data: list[T]
    page: int
    page_size: int
    total: int
    has_more: bool


class Artifact(Resource, kw_only=True):
    id: str
    type: str
    display_name: str
    mime_type: str
    file_size: int
    file_hash: str
    storage_path: str
    workflow_id: str
    workflow_run_id: str
    job_run_id: str | None
    signed_url: str
    signed_url_expires_at: str
    created_at: str


class InputField(Resource, kw_only=True):
    name: str
    label: str
    kind: str
    secret: bool
    options: list[str] | None
    pattern: str | None


class InputRequest(Resource, kw_only=True):
    id: str
    workflow_run_id: str
    job_run_id: str | None
    external_id: str | None
    kind: str
    prompt: str
    fields: list[InputField]
    status: str
    attempt: int
    created_at: str
    expires_at: str


# ---------------------------------------------------------------- from answers


@lru_cache(maxsize=256)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def stamp(milliseconds: int) -> str:
    """`2026-11-22T10:15:30.123Z`."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{_second(seconds)}.{rest:03d}Z"


def stamp_or_none(milliseconds: int) -> str | None:
    """As `stamp`; 0 is none."""
    return stamp(milliseconds) if milliseconds else None


def artifact_view(answer: ArtifactAnswer, signed_url: str, expires_ms: int) -> Artifact:
    return Artifact(
        id=answer.id,
        type=answer.type,
        display_name=answer.display_name,
        mime_type=answer.mime_type,
        file_size=answer.size,
        file_hash=answer.sha256,
        storage_path=f"sha256/{answer.sha256[:2]}/{answer.sha256[2:4]}/{answer.sha256}",
        workflow_id=answer.workflow_id,
        workflow_run_id=answer.workflow_run_id,
        job_run_id=answer.job_run_id or None,
        signed_url=signed_url,
        signed_url_expires_at=stamp(expires_ms),
        created_at=stamp(answer.created_ms),
    )


def input_request_view(answer: InputRequestAnswer) -> InputRequest:
    return InputRequest(
        id=answer.id,
        workflow_run_id=answer.workflow_run_id,
        job_run_id=answer.job_run_id or None,
        external_id=answer.external_id or None,
        kind=answer.kind,
        prompt=answer.prompt,
        fields=[
            InputField(
                name=field["name"],
                label=field["label"],
                kind=field["kind"],
                secret=field["secret"],
                options=field["options"] or None,
                pattern=field["pattern"] or None,
            )
            for field in answer.fields
        ],
        status=answer.status.upper(),
        attempt=answer.attempt,
        created_at=stamp(answer.created_ms),
        expires_at=stamp(answer.expires_ms),
    )
