"""The saved login of a connection: loaded into a fresh context, saved once a LOGIN workflow has proven it."""

from __future__ import annotations

from browser_runner.services import Services
from kernel.domain.ids import SubjectId
from kernel.domain.plan import PlannedWorkflow
from kernel.errors import Rejected, SecretUnavailable
from kernel.store.port import RunOpener

_DAY_MS = 86_400_000


class LoginSession:
    """Of one attempt. Both calls raise `Temporary` when the vault is away and may be repeated."""

    def __init__(self, services: Services, workflow: PlannedWorkflow, subject_id: SubjectId, opener: RunOpener) -> None:
        self._services = services
        self._connection_id = workflow.connection_id
        self._subject_id = subject_id
        self._opener = opener
        self._version = 0

    async def load(self) -> bytes | None:
        """The saved state, or None; remembers its version for `save`."""
        if not self._connection_id:
            return None
        try:
            session = await self._services.vault.load_session(self._connection_id, self._opener)
        except SecretUnavailable:
            return None
        if session is None:
            return None
        self._version = session.version
        return session.state

    async def save(self, state: bytes) -> None:
        """Save, unless somebody else has saved since `load`: theirs stands. The credentials count as proven."""
        if not self._connection_id:
            return
        services = self._services
        expires_ms = services.clock.now_ms() + services.session_days * _DAY_MS
        try:
            self._version = await services.vault.save_session(
                self._connection_id,
                self._subject_id,
                self._opener,
                expected_version=self._version,
                state=state,
                expires_ms=expires_ms,
            )
        except Rejected as error:
            if error.code != "session_version_mismatch":
                raise
        await services.vault.credentials_proven(self._connection_id, self._opener)
