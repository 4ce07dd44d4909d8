"""The secrets of one attempt: opened where they are typed, and taken out of whatever says something afterwards."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from browser_runner.ports import StepFailed
from browser_runner.services import Services
from kernel.domain.ids import ConnectionId
from kernel.domain.plan import PlannedWorkflow, WorkflowType
from kernel.domain.values import FailureKind
from kernel.errors import ConnectionLocked, Rejected, SecretUnavailable, Temporary
from kernel.redaction import SECRET_CHARS_MIN, LiveSecrets
from kernel.store.port import NO_CONNECTION, RunOpener, SecretRef
from kernel.store.secret import Secret

_ECHO_CHARS_MIN = 6
"""Shorter secrets are not taken out of data, where they may well stand for something else."""


class SecretDesk:
    """What an attempt has opened. `forget` it at the end."""

    def __init__(self, services: Services, workflow: PlannedWorkflow, opener: RunOpener) -> None:
        self._vault = services.vault
        self._live = services.live
        self._opener = opener
        self._connection_id = workflow.connection_id if workflow.type is WorkflowType.LOGIN else NO_CONNECTION
        self._by_ref: dict[str, Secret] = {}
        self._all: list[Secret] = []
        self.echoes = LiveSecrets()
        """What pages may show again and data must not hold."""

    async def secret(self, ref: str) -> Secret:
        """Opened once, kept for the attempt; a stored credential only in a LOGIN workflow.

        `StepFailed`: `secret_unavailable`, `connection_locked`.
        """
        known = self._by_ref.get(ref)
        if known is None:
            self._by_ref[ref] = known = await self._from_vault(self._vault.open_secret, ref)
        return known

    async def totp_code(self, ref: str) -> Secret:
        """Made anew with each call. `secret_unavailable`; `Temporary("totp_window_used")` comes through."""
        return await self._from_vault(self._vault.totp_code, ref)

    @property
    def were_opened(self) -> bool:
        """Whether anything was."""
        return bool(self._all)

    def short(self) -> frozenset[str]:
        """Those too short to be searched for in texts."""
        return frozenset(
            text for text in (secret.reveal_text() for secret in self._all) if len(text) < SECRET_CHARS_MIN
        )

    def forget(self) -> None:
        """The attempt is over: nobody says anything for it any more."""
        for secret in self._all:
            self._live.forget(secret)

    async def _from_vault(
        self, call: Callable[[SecretRef, RunOpener, ConnectionId], Awaitable[Secret]], ref: str
    ) -> Secret:
        try:
            secret = await call(SecretRef(ref), self._opener, self._connection_id)
        except ConnectionLocked as error:
            raise StepFailed("connection_locked", str(error)) from None
        except SecretUnavailable as error:
            raise StepFailed("secret_unavailable", str(error)) from None
        except Rejected as error:
            raise StepFailed("secret_unavailable", error.message) from None
        except Temporary as error:
            if error.code == "totp_window_used":
                raise
            raise StepFailed("secret_unavailable", error.message, FailureKind.TEMPORARY) from None
        self._all.append(secret)
        self._live.add(secret)
        if len(secret.reveal_text()) >= _ECHO_CHARS_MIN:
            self.echoes.add(secret)
        return secret
