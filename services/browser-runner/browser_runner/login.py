"""The saved login of a connection: loaded into a fresh context, saved once a LOGIN workflow has proven it.

It is kept before that too, whenever a step that acts once has ended: that step is never repeated, so a later attempt
needs the login that it made.
"""

from __future__ import annotations

from collections.abc import Sequence

from browser_runner.services import Services
from kernel.domain.ids import SubjectId
from kernel.domain.plan import PlannedWorkflow, WorkflowType
from kernel.domain.task import JournalEntry
from kernel.domain.values import Effect
from kernel.domain.workflow_run import StepStatus
from kernel.errors import Rejected, SecretUnavailable
from kernel.store.port import RunOpener

_DAY_MS = 86_400_000


class LoginSession:
    """Of one attempt. All calls raise `Temporary` when the vault is away and may be repeated."""

    def __init__(self, services: Services, workflow: PlannedWorkflow, subject_id: SubjectId, opener: RunOpener) -> None:
        self._services = services
        self._connection_id = workflow.connection_id
        self._subject_id = subject_id
        self._opener = opener
        self._version = 0
        self._is_login = workflow.type is WorkflowType.LOGIN

    def must_keep(self, effect: Effect, status: StepStatus) -> bool:
        """Whether a finished step has made something of the login that only the browser holds so far."""
        return self._is_login and effect is Effect.ONCE and status is StepStatus.COMPLETED

    async def load_after(self, entries: Sequence[JournalEntry]) -> bytes | None:
        """The state that a page begins with: in a LOGIN workflow what its steps have made, at first nothing."""
        if self._is_login and not entries:
            return None
        state = await self.load()
        has_made = any(self.must_keep(entry.effect, entry.status) for entry in entries if entry.status is not None)
        return state if has_made or not self._is_login else None

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
        """As `keep`, and the credentials count as proven."""
        await self.keep(state)
        if self._connection_id:
            await self._services.vault.credentials_proven(self._connection_id, self._opener)

    async def keep(self, state: bytes) -> None:
        """Save, unless somebody else has saved since `load`: theirs stands."""
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
