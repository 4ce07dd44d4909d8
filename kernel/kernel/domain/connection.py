"""A connection: the login of one end customer at one provider. Its id survives every repair.

observed UNKNOWN -> HEALTHY <-> EXPIRED / NEEDS_USER
         any but LOCKED -> LOCKED      three wrong credentials in a row, counted over all runs
         LOCKED -> HEALTHY             the customer repaired it
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from kernel.building import replace
from kernel.domain.ids import ConnectionId, OrganizationId, ProviderSlug, SubjectId
from kernel.domain.values import Sealed

WRONG_CREDENTIALS_MAX = 3

# ---------------------------------------------------------------- status


class ConnectionHealth(StrEnum):
    """None is terminal."""

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    EXPIRING = "expiring"
    EXPIRED = "expired"
    LOCKED = "locked"
    NEEDS_USER = "needs_user"


_ALL = frozenset(ConnectionHealth)
TRANSITIONS: dict[ConnectionHealth, frozenset[ConnectionHealth]] = {
    health: (_ALL - {health} if health is not ConnectionHealth.LOCKED else frozenset({ConnectionHealth.HEALTHY}))
    for health in ConnectionHealth
}


class LoginOutcome(StrEnum):
    """How a LOGIN workflow run ended for its connection."""

    SUCCEEDED = "succeeded"
    STILL_VALID = "still_valid"
    REJECTED = "rejected"
    FAILED = "failed"


# ---------------------------------------------------------------- requests


@dataclass(frozen=True, slots=True)
class LoginObserved:
    """A LOGIN workflow run ended; derived from `run_ledger`. Internal."""

    connection_id: ConnectionId
    organization_id: OrganizationId
    subject_id: SubjectId
    external_id: Sealed
    provider: ProviderSlug
    outcome: LoginOutcome
    workflow_run_id: str
    observed_ms: int


# ---------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class ConnectionCreated:
    """A login of this customer at this provider was tried for the first time."""

    connection_id: ConnectionId
    organization_id: OrganizationId
    subject_id: SubjectId
    external_id: Sealed
    provider: ProviderSlug


@dataclass(frozen=True, slots=True)
class ConnectionLoginRecorded:
    """A login ended; `failed_attempts` counts wrong credentials in a row."""

    connection_id: ConnectionId
    outcome: LoginOutcome
    health: ConnectionHealth
    failed_attempts: int
    observed_ms: int


ConnectionEvent = ConnectionCreated | ConnectionLoginRecorded

# ---------------------------------------------------------------- state


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection as the registry keeps it."""

    id: ConnectionId = ConnectionId("")
    organization_id: OrganizationId = OrganizationId("")
    health: ConnectionHealth = ConnectionHealth.UNKNOWN
    failed_attempts: int = 0
    last_login_ms: int = 0
    sequence: int = 0


def evolve(connection: Connection, event: ConnectionEvent) -> Connection:
    """Fold one fact."""
    match event:
        case ConnectionCreated():
            return replace(connection, id=event.connection_id, organization_id=event.organization_id)
        case ConnectionLoginRecorded():
            good = event.outcome in {LoginOutcome.SUCCEEDED, LoginOutcome.STILL_VALID}
            return replace(
                connection,
                health=event.health,
                failed_attempts=event.failed_attempts,
                last_login_ms=event.observed_ms if good else connection.last_login_ms,
            )
        case _:
            assert_never(event)


# ---------------------------------------------------------------- decide


def decide(connection: Connection | None, observed: LoginObserved) -> tuple[ConnectionEvent, ...]:
    """What a login's end means for its connection."""
    events: list[ConnectionEvent] = []
    if connection is None:
        created = ConnectionCreated(
            observed.connection_id,
            observed.organization_id,
            observed.subject_id,
            observed.external_id,
            observed.provider,
        )
        events.append(created)
        connection = evolve(Connection(), created)
    health, failed = connection.health, connection.failed_attempts
    match observed.outcome:
        case LoginOutcome.SUCCEEDED | LoginOutcome.STILL_VALID:
            health, failed = ConnectionHealth.HEALTHY, 0
        case LoginOutcome.REJECTED:
            failed += 1
            health = ConnectionHealth.LOCKED if failed >= WRONG_CREDENTIALS_MAX else ConnectionHealth.NEEDS_USER
        case LoginOutcome.FAILED:
            pass
        case _:
            assert_never(observed.outcome)
    if connection.health is ConnectionHealth.LOCKED and health is not ConnectionHealth.HEALTHY:
        health = ConnectionHealth.LOCKED
    events.append(
        ConnectionLoginRecorded(observed.connection_id, observed.outcome, health, failed, observed.observed_ms)
    )
    return tuple(events)
