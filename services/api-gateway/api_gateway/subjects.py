"""Whose personal values are: the subject of an end customer, or of the organization itself."""

from __future__ import annotations

from kernel.clock import Clock
from kernel.domain.ids import OrganizationId, SubjectId
from kernel.store.port import Vault

OWN_SUBJECT_KEPT_MS = 60_000


class Subjects:
    """Finds subjects in the vault. Runs without a customer are frequent, and their subject hardly changes."""

    def __init__(self, vault: Vault, clock: Clock) -> None:
        self._vault = vault
        self._clock = clock
        self._own: dict[OrganizationId, tuple[float, SubjectId]] = {}
        """Subjects of organizations themselves, each with the time at which it was asked for."""

    async def of(self, organization: OrganizationId, external_id: str) -> SubjectId:
        """The customer's subject, made when it is new; the organization's own for an empty `external_id`."""
        if external_id:
            return await self._vault.subject_for(organization, external_id)
        now_ms = self._clock.boot_ms()
        known = self._own.get(organization)
        if known is None or now_ms - known[0] > OWN_SUBJECT_KEPT_MS:
            known = self._own[organization] = (now_ms, await self._vault.subject_for(organization))
        return known[1]
