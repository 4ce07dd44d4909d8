"""The ports to bytes and secrets: `ByteStore` and `Vault`. The artifact store implements them, in process and by gRPC.

Both write no fact: bytes are *staged* until a fact names them, secrets are opened only under the current token of an
attempt, or by the gateway for what it owns. One contract suite runs over every implementation.

Errors of both: `Rejected` for a call that breaks a rule (nothing changed), `Permanent("blob_missing")` for bytes that
are not there, `SecretUnavailable` for a refused opening (no such secret, subject erased, token not current, too many
unproven openings), `Temporary("store_unavailable")` when the store did not answer or has no room. In process the
database's own errors (`kernel.sql.port`) come through as they are.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType, Protocol

from kernel.domain.ids import ConnectionId, OrganizationId, RootRunId, SubjectId, TaskId, WorkflowRunId
from kernel.domain.values import Token
from kernel.store.secret import Secret

CHUNK_BYTES = 256 * 1024
"""Size of one chunk of a stream: the fastest over gRPC of those measured."""

UNPROVEN_OPENINGS_MAX = 3
"""Rounds of credential openings per connection without a proven login between them; the next one is refused."""

NO_CONNECTION = ConnectionId("")

SecretRef = NewType("SecretRef", str)
"""Names a secret in records and inputs: `{"$secret": "<ref>"}`. Random; worthless without a current token."""


@dataclass(frozen=True, slots=True)
class RunOpener:
    """An attempt that opens or stages something; checked against the fence before anything happens."""

    organization_id: OrganizationId
    root_run_id: RootRunId
    workflow_run_id: WorkflowRunId
    task_id: TaskId
    token: Token
    since_ms: int = 0
    """When the task was requested: nothing about the token stands in the log before. 0: not told, which is slow."""


@dataclass(frozen=True, slots=True)
class GatewayOpener:
    """The gateway, on behalf of an organization whose principal it has checked."""

    organization_id: OrganizationId
    handed_to: str = ""
    """Public id of the API key whose holder gets what is opened, for the audit. Empty: it stays in the gateway."""


Opener = RunOpener | GatewayOpener


class TokenCheck(Protocol):
    """The fence as the store sees it."""

    async def is_current(self, root_run_id: RootRunId, token: Token, since_ms: int = 0) -> bool:
        """Whether `token` is the newest of its root run, neither lapsed nor settled. May wait for it to be assigned.

        `LogUnavailable` when that cannot be told now, `TokenNotSeen` when nobody has assigned it so far.
        """
        ...


@dataclass(frozen=True, slots=True)
class PutHeader:
    """What is known of bytes before they come."""

    subject_id: SubjectId
    """Who owns them; `Vault.subject_for` made it. Erasing the subject deletes what nobody else owns."""
    opener: Opener
    """Who stages them; the owner's organization is the opener's."""
    name: str = ""
    """File name as its source gave it; only its ending is looked at, and nothing of it is kept."""
    mime_hint: str = ""
    """Declared media type; believed only where the bytes cannot tell (csv against plain text)."""
    size: int | None = None
    """Declared length in bytes; another one is refused."""
    sha256: str = ""
    """Declared digest in hex; another one is refused."""
    upload_id: str = ""
    """Set by callers that want to resume: letters, digits, `-`, `_`, at most 64, random or derived, never reused."""
    offset: int = 0
    """Where the chunks begin, as `query_put` said; 0 for a fresh upload."""


@dataclass(frozen=True, slots=True)
class Staged:
    """Bytes that are durable and not yet named by a fact."""

    sha256: str
    size: int
    mime_type: str
    """Sniffed from the bytes, helped by name and hint."""


class ByteStore(Protocol):
    """Content-addressed bytes: a blob is named by the SHA-256 of what was put, and never changes."""

    async def put(self, chunks: AsyncIterator[bytes], header: PutHeader) -> Staged:
        """Stage a stream; durable when it returns, invisible before. The same content put twice is one blob.

        Raises `Rejected` (`size_mismatch`, `hash_mismatch`, `offset_mismatch`, `blob_too_large`,
        `upload_id_malformed`), `SecretUnavailable` for an old token or an erased subject, `Temporary("upload_busy")`
        while another call writes the same upload. With an `upload_id` a broken stream may go on later; without one it
        leaves nothing.
        """
        ...

    def get(self, sha256: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `offset` on, at most `length`, in chunks of at most 256 KiB. `Permanent("blob_missing")`."""
        ...

    async def stat(self, sha256: str) -> int | None:
        """Length in bytes, or None when there is no such blob."""
        ...

    async def query_put(self, upload_id: str) -> int:
        """Committed offset of an unfinished upload; 0 when nothing is known of it."""
        ...

    async def put_bytes(self, value: bytes, header: PutHeader) -> Staged:
        """`put` for bytes at hand; size and digest are declared by the implementation. May be repeated."""
        ...

    async def get_bytes(self, sha256: str) -> bytes:
        """The whole blob in memory."""
        ...

    async def mark_named(self, sha256s: Sequence[str]) -> None:
        """Facts name these blobs: they stay until their owners are erased. What no fact names is swept after 24 h.

        Idempotent; unknown digests are passed over.
        """
        ...

    async def unname(self, names: Sequence[str]) -> None:
        """Records with these keys (runs that were forgotten) name no blob any more.

        Noted durably, carried out by a sweep of the store: what nobody else names goes 24 h later. Idempotent.
        """
        ...


class SecretKind(StrEnum):
    """What a secret is; it decides who may open it and how often."""

    CREDENTIAL = "credential"
    """User names, passwords, TOTP seeds of a connection: opened for a connection, at most three unproven rounds."""
    INPUT = "input"
    """A secret input of a workflow that is no login."""
    ANSWER = "answer"
    """A person's one-time answer (a code): gone with its first opening."""
    WEBHOOK = "webhook"
    """Signing secret of an endpoint: the gateway's own; no run opens it."""


@dataclass(frozen=True, slots=True)
class Session:
    """Saved state of a login: cookies and storage."""

    version: int
    """Grows by one with every save, from 1."""
    state: bytes = field(repr=False)


class Vault(Protocol):
    """Secrets, login sessions and the data keys of subjects. Every opening, granted or refused, leaves an audit row."""

    async def subject_for(self, organization_id: OrganizationId, external_id: str = "") -> SubjectId:
        """The subject of an end customer, made when new; without external id the organization's own.

        The external id is not stored: a keyed hash finds the subject. Repeatable; after an erasure a new one is made.
        """
        ...

    async def find_subject(self, organization_id: OrganizationId, external_id: str = "") -> SubjectId | None:
        """The subject that `subject_for` made, None when it has made none or it is erased. Changes nothing."""
        ...

    async def subject_key(self, subject_id: SubjectId, opener: Opener) -> bytes:
        """The subject's 256-bit data key. `SecretUnavailable` when it is erased or another organization's."""
        ...

    async def erase_subject(self, subject_id: SubjectId) -> None:
        """Delete key, secrets, sessions, and the blobs that nobody else owns; durable and scrubbed when it returns.

        Repeatable. Afterwards everything of this subject raises `SecretUnavailable`.
        """
        ...

    async def put_secret(
        self,
        organization_id: OrganizationId,
        subject_id: SubjectId,
        kind: SecretKind,
        value: bytes,
        ttl_ms: int | None = None,
    ) -> SecretRef:
        """Keep a secret, for `ttl_ms` if given. `SecretUnavailable` when the subject is erased or another tenant's."""
        ...

    async def open_secret(self, ref: SecretRef, opener: Opener, connection_id: ConnectionId = NO_CONNECTION) -> Secret:
        """Open a secret. A CREDENTIAL needs `connection_id`, the connection of the task's workflow.

        Openings of different refs by one task are one round. When three rounds of a connection are unproven, the
        fourth is refused with `ConnectionLocked` until `credentials_proven`.
        """
        ...

    async def totp_code(self, ref: SecretRef, opener: Opener, connection_id: ConnectionId = NO_CONNECTION) -> Secret:
        """The code that a TOTP seed makes now (RFC 6238). The code of one window of time is given out once, ever.

        The seed is a base32 text or an `otpauth://totp/` URI, and does not leave the vault. Opens and counts as
        `open_secret`. `Temporary("totp_window_used")` with the wait until the next window, when this one's code was
        given out before or is about to end: nothing is counted. `Rejected("totp_seed_malformed")`.
        """
        ...

    async def credentials_proven(self, connection_id: ConnectionId, opener: Opener) -> None:
        """The login worked (runner), or a person repaired the connection (gateway): counting begins anew."""
        ...

    async def keep_secret(self, ref: SecretRef, organization_id: OrganizationId, ttl_ms: int) -> bool:
        """Keep it for at least `ttl_ms` from now on; False when it is gone or another tenant's. Repeatable."""
        ...

    async def delete_secret(self, ref: SecretRef) -> None:
        """Forget a secret. Repeatable."""
        ...

    async def save_session(
        self,
        connection_id: ConnectionId,
        subject_id: SubjectId,
        opener: Opener,
        *,
        expected_version: int,
        state: bytes,
        expires_ms: int,
    ) -> int:
        """Save the state of a login; returns its new version. `expected_version` 0 says that there is none.

        `Rejected("session_version_mismatch")` when somebody else saved in between, `SecretUnavailable` for an old
        token or an erased subject.
        An expired session counts as none.
        """
        ...

    async def load_session(self, connection_id: ConnectionId, opener: Opener) -> Session | None:
        """The saved state, or None when there is none or it has expired."""
        ...

    async def forget_session(self, connection_id: ConnectionId, opener: Opener) -> None:
        """Forget the login of a connection. Repeatable."""
        ...
