"""A request about a definition, once decided: remembered, so that the same request finds its first outcome again.

    remembered (at its decision) -> forgotten (a day after it was valid)
Both stand in the registry's ledger only.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernel.domain.ids import OrganizationId, RequestId

REMEMBERED_MS = 24 * 60 * 60 * 1000


@dataclass(frozen=True, slots=True)
class RegistryRequestRemembered:
    """The request is decided; until `expires_ms` a repetition of it changes nothing. Ledger only."""

    request_id: RequestId
    organization_id: OrganizationId
    expires_ms: int


@dataclass(frozen=True, slots=True)
class RegistryRequestForgotten:
    """Its time is over. Ledger only."""

    request_id: RequestId
    organization_id: OrganizationId
