"""The logins of one attempt: the saved one of its connection, and the half-finished one of its own run.

A LOGIN workflow saves the connection's login once it has proven it; every later run of the connection begins with it.
What its steps have made before that belongs to the run alone: it is kept whenever a step that acts once has ended, for
that step is never repeated, and when the page is given up for a person. It goes when the run ends, or by time.
"""

from __future__ import annotations

from collections.abc import Sequence

from browser_runner.services import Services
from kernel.domain.ids import ConnectionId, SubjectId, WorkflowRunId
from kernel.domain.plan import PlannedWorkflow, WorkflowType
from kernel.domain.task import JournalEntry
from kernel.domain.values import Effect
from kernel.domain.workflow_run import StepStatus
from kernel.errors import Rejected, SecretUnavailable
from kernel.ids import derived_id
from kernel.store.port import NO_CONNECTION, RunOpener, Session

HALF_LOGIN_DAYS = 8
"""Longer than any answer may take; a run that ends without a last attempt leaves its half login no longer."""

_DAY_MS = 86_400_000


class LoginSession:
    """Of one attempt. All calls raise `Temporary` when the vault is away and may be repeated."""

    def __init__(self, services: Services, workflow: PlannedWorkflow, subject_id: SubjectId, opener: RunOpener) -> None:
        self._services = services
        self._connection_id = workflow.connection_id
        self._half_id = half_login_of(opener.workflow_run_id)
        self._subject_id = subject_id
        self._opener = opener
        self._version = 0
        self._half_version = 0
        self._is_login = workflow.type is WorkflowType.LOGIN

    def must_keep(self, effect: Effect, status: StepStatus) -> bool:
        """Whether a finished step has made something of the login that only the browser holds so far."""
        return self._is_login and effect is Effect.ONCE and status is StepStatus.COMPLETED

    def is_half_made(self, entries: Sequence[JournalEntry]) -> bool:
        """Whether earlier steps have made something of the login that a later attempt cannot make again."""
        return any(self.must_keep(entry.effect, entry.status) for entry in entries if entry.status is not None)

    async def load_after(self, entries: Sequence[JournalEntry]) -> bytes | None:
        """The state that a page begins with: in a LOGIN workflow what its steps have made, at first nothing."""
        if not self._is_login:
            return await self.load()
        if not self.is_half_made(entries):
            return None
        half = await self._session(self._half_id)
        if half is None:
            return await self.load()
        self._half_version = half.version
        return _opened(half.state)[1]

    async def load(self) -> bytes | None:
        """The saved state of the connection, or None; remembers its version for `save`."""
        session = await self._session(self._connection_id) if self._connection_id else None
        if session is None:
            return None
        self._version = session.version
        saved_ms, state = _opened(session.state)
        # The setting counts as it stands now, whatever it was when the login was saved.
        age_ms = self._services.clock.now_ms() - saved_ms
        return None if saved_ms and age_ms >= self._services.session_days * _DAY_MS else state

    async def save(self, state: bytes) -> None:
        """The login of the connection, proven to hold. Unless somebody else has saved since `load`: theirs stands."""
        if self._connection_id == NO_CONNECTION:
            return
        days = self._services.session_days
        try:
            self._version = await self._save(self._connection_id, self._version, state, days)
        except Rejected as error:
            if error.code != "session_version_mismatch":
                raise
        await self._services.vault.credentials_proven(self._connection_id, self._opener)

    async def keep(self, state: bytes) -> None:
        """What the steps of this run have made so far, for its own later attempts."""
        try:
            self._half_version = await self._save(self._half_id, self._half_version, state, HALF_LOGIN_DAYS)
        except Rejected as error:
            if error.code != "session_version_mismatch":
                raise
            # Only attempts of this run write here, one after the other: the newest is right.
            kept = await self._session(self._half_id)
            self._half_version = await self._save(
                self._half_id, kept.version if kept is not None else 0, state, HALF_LOGIN_DAYS
            )

    async def forget(self) -> None:
        """The saved login of the connection was seen not to hold."""
        await self._services.vault.forget_session(self._connection_id, self._opener)
        self._version = 0

    async def forget_half(self) -> None:
        """The run ends."""
        if self._half_version:
            await self._services.vault.forget_session(self._half_id, self._opener)
            self._half_version = 0

    async def _session(self, connection_id: ConnectionId) -> Session | None:
        try:
            return await self._services.vault.load_session(connection_id, self._opener)
        except SecretUnavailable:
            return None

    async def _save(self, connection_id: ConnectionId, version: int, state: bytes, days: int) -> int:
        now_ms = self._services.clock.now_ms()
        return await self._services.vault.save_session(
            connection_id,
            self._subject_id,
            self._opener,
            expected_version=version,
            state=_closed(now_ms, state),
            expires_ms=now_ms + days * _DAY_MS,
        )


def half_login_of(workflow_run_id: WorkflowRunId) -> ConnectionId:
    """Where the vault keeps the half-finished login of a run. Pure."""
    return ConnectionId(derived_id("half_login", workflow_run_id))


_MARK = b"saved "


def _closed(saved_ms: int, state: bytes) -> bytes:
    return _MARK + str(saved_ms).encode() + b"\n" + state


def _opened(kept: bytes) -> tuple[int, bytes]:
    """When a state was saved, and the state; 0 for one that does not say."""
    if not kept.startswith(_MARK):
        return 0, kept
    saved, _, state = kept.partition(b"\n")
    return int(saved.removeprefix(_MARK)), state
