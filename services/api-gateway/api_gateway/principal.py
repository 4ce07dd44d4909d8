"""Who asks, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from kernel.domain.ids import OrganizationId, UserId


class Level(StrEnum):
    """What a key may do; each level includes those before it."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"

    def covers(self, needed: Level) -> bool:
        """Whether this level is enough where `needed` is asked for."""
        order = tuple(Level)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks, for which organization, and what they may do. `user_id` is the key's own service user."""

    organization_id: OrganizationId
    user_id: UserId
    level: Level
    key_id: str
