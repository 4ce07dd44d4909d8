"""How the ports of bytes and secrets look on the wire: messages to values and back, errors to trailers and back.

Both ends of the gRPC call use it. An error travels as a status plus trailers that name its class in our tree, its code
and its delay; a client turns them into the very same error.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from contracts.internal import artifact_store_pb2 as pb
from contracts.internal import task_pb2
from kernel.domain.ids import OrganizationId, RootRunId, SubjectId, TaskId, WorkflowRunId
from kernel.domain.values import Token
from kernel.errors import ConnectionLocked, Permanent, Rejected, SecretUnavailable, Temporary, TowpathError
from kernel.store.port import GatewayOpener, Opener, PutHeader, RunOpener, SecretKind

MESSAGE_BYTES_MAX = 64 * 1024 * 1024
"""Longest message: a saved session with its storage."""

KEEPALIVE_MS = 2_000
"""After so long without a word of a store that owes an answer it is asked for a sign of life."""
SIGN_OF_LIFE_MS = 3_000
"""How long that may take; then its calls go to another one. A store gives it whatever it is busy with."""

KIND_TRAILER = "towpath-error"
CODE_TRAILER = "towpath-code"
DELAY_TRAILER = "towpath-delay-seconds"

SECRET_KINDS: Final = {
    SecretKind.CREDENTIAL: pb.SECRET_KIND_CREDENTIAL,
    SecretKind.INPUT: pb.SECRET_KIND_INPUT,
    SecretKind.ANSWER: pb.SECRET_KIND_ANSWER,
    SecretKind.WEBHOOK: pb.SECRET_KIND_WEBHOOK,
}


def opener_to_wire(opener: Opener) -> pb.Opener:
    """The message of an opener."""
    if isinstance(opener, GatewayOpener):
        return pb.Opener(organization_id=opener.organization_id, handed_to=opener.handed_to)
    claim = pb.RunClaim(
        root_run_id=opener.root_run_id,
        workflow_run_id=opener.workflow_run_id,
        task_id=opener.task_id,
        token=task_pb2.Token(attempt=opener.token.attempt, nonce=opener.token.nonce),
        since_ms=opener.since_ms,
    )
    return pb.Opener(organization_id=opener.organization_id, run=claim)


def opener_from_wire(message: pb.Opener) -> Opener:
    """The opener of a message; without a run it is the gateway."""
    organization_id = OrganizationId(message.organization_id)
    if not message.HasField("run"):
        return GatewayOpener(organization_id, message.handed_to)
    run = message.run
    token = Token(run.token.attempt, run.token.nonce)
    return RunOpener(
        organization_id,
        RootRunId(run.root_run_id),
        WorkflowRunId(run.workflow_run_id),
        TaskId(run.task_id),
        token,
        run.since_ms,
    )


def header_to_wire(header: PutHeader) -> pb.PutHeader:
    """The first message of an upload."""
    return pb.PutHeader(
        subject_id=header.subject_id,
        opener=opener_to_wire(header.opener),
        name=header.name,
        mime_hint=header.mime_hint,
        size=header.size,
        sha256=header.sha256,
        upload_id=header.upload_id,
        offset=header.offset,
    )


def header_from_wire(message: pb.PutHeader) -> PutHeader:
    """The header of an upload."""
    return PutHeader(
        SubjectId(message.subject_id),
        opener_from_wire(message.opener),
        name=message.name,
        mime_hint=message.mime_hint,
        size=message.size if message.HasField("size") else None,
        sha256=message.sha256,
        upload_id=message.upload_id,
        offset=message.offset,
    )


def kind_from_wire(kind: pb.SecretKind.ValueType) -> SecretKind:
    """What a secret is; `Rejected("secret_kind_unknown")` for a value this version does not know."""
    for known, number in SECRET_KINDS.items():
        if number == kind:
            return known
    raise Rejected("secret_kind_unknown", "this version knows no such kind of secret")


def error_to_trailers(error: TowpathError) -> tuple[tuple[str, str], ...]:
    """What a client needs to raise the same error; the text travels as the status's details."""
    match error:
        case Rejected() | Permanent():
            return ((KIND_TRAILER, type(error).__name__), (CODE_TRAILER, error.code))
        case Temporary():
            delay = (DELAY_TRAILER, str(error.delay_seconds))
            return ((KIND_TRAILER, "Temporary"), (CODE_TRAILER, error.code), delay)
        case SecretUnavailable():
            return ((KIND_TRAILER, type(error).__name__),)
        case _:
            # The store's own database or folder failed; the caller can do nothing but come again.
            return ((KIND_TRAILER, "Temporary"), (CODE_TRAILER, "store_unavailable"), (DELAY_TRAILER, "1.0"))


def error_from_trailers(trailers: Iterable[tuple[str, str | bytes]], details: str) -> TowpathError:
    """The error that was raised over there; `Temporary("store_unavailable")` when the store did not speak."""
    named = {name: value if isinstance(value, str) else value.decode() for name, value in trailers}
    code = named.get(CODE_TRAILER, "store_unavailable")
    message = details.removeprefix(f"{code}: ")
    match named.get(KIND_TRAILER):
        case "Rejected":
            return Rejected(code, message)
        case "Permanent":
            return Permanent(code, message)
        case "SecretUnavailable":
            return SecretUnavailable(details)
        case "ConnectionLocked":
            return ConnectionLocked(details)
        case _:
            return Temporary(code, message, float(named.get(DELAY_TRAILER, "1.0")))
