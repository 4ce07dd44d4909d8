"""What surfaces stand on: commands, queries and who is asking, made from the process's parts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from api_gateway.asking import Asker
from api_gateway.auth import Authenticator
from api_gateway.commands import Commands
from api_gateway.committing import Commits
from api_gateway.definition_commands import DefinitionCommands
from api_gateway.definition_queries import DefinitionQueries
from api_gateway.doctor import Check
from api_gateway.draining import Drain
from api_gateway.idempotency import IdempotencyStore
from api_gateway.key_store import KeyStore
from api_gateway.limits import Limits, limits_of
from api_gateway.provider_healths import ProviderHealths
from api_gateway.queries import Queries
from api_gateway.readings import Readings
from api_gateway.retrying import Retries
from api_gateway.run_history import RunHistory
from api_gateway.run_log import RunLog
from api_gateway.runner_slots import RunnerSlots
from api_gateway.settings import Settings
from api_gateway.subjects import Subjects
from api_gateway.waiting import Waiters
from kernel.clock import Clock
from kernel.ids import Entropy
from kernel.log.port import EventLog
from kernel.metrics import Metrics
from kernel.sealing import SubjectKeys
from kernel.sql.port import Database
from kernel.store.port import ByteStore, Vault
from kernel.tracing import NO_TRACER, Tracer


async def _ready() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Services:
    """The parts that a composition root hands over; `waiters` are shared with the `Projector`.

    `is_ready` adds the root's own conditions to readiness, such as a caught-up projector.
    """

    db: Database
    log: EventLog
    clock: Clock
    entropy: Entropy
    keys: SubjectKeys
    store: ByteStore
    vault: Vault
    waiters: Waiters
    drain: Drain
    settings: Settings
    is_ready: Callable[[], Awaitable[bool]] = _ready
    checks: tuple[tuple[str, Check], ...] = ()
    """What `doctor` asks beside its own questions, each with the name of its finding."""
    slots: RunnerSlots = field(default_factory=RunnerSlots)
    """What `follow_runners` hears, for explanations."""
    metrics: Metrics = field(default_factory=Metrics)
    """What this process measures, shown at `/metrics`."""
    tracer: Tracer = NO_TRACER


@dataclass(frozen=True, slots=True)
class Gateway:
    """One gateway, assembled; hung into the application's state."""

    services: Services
    commands: Commands
    retries: Retries
    history: RunHistory
    log: RunLog
    definition_commands: DefinitionCommands
    definition_queries: DefinitionQueries
    healths: ProviderHealths
    queries: Queries
    authenticator: Authenticator
    idempotency: IdempotencyStore
    api_keys: KeyStore
    limits: Limits


def assemble(services: Services) -> Gateway:
    """Make the gateway from its parts."""
    asker = Asker(
        services.db,
        services.log,
        services.clock,
        services.entropy,
        services.waiters,
        services.settings,
        services.tracer,
        Commits(services.metrics),
    )
    subjects, readings = Subjects(services.vault, services.clock), Readings(services.store)
    queries = Queries(services.db, services.keys, services.store, services.entropy)
    return Gateway(
        services=services,
        commands=Commands(
            asker=asker,
            db=services.db,
            entropy=services.entropy,
            keys=services.keys,
            store=services.store,
            vault=services.vault,
            subjects=subjects,
            readings=readings,
        ),
        retries=Retries(
            asker=asker,
            db=services.db,
            entropy=services.entropy,
            keys=services.keys,
            store=services.store,
            vault=services.vault,
            readings=readings,
        ),
        definition_commands=DefinitionCommands(asker, services.store, subjects),
        definition_queries=DefinitionQueries(services.db, services.store),
        healths=ProviderHealths(services.db, services.clock),
        queries=queries,
        history=RunHistory(services.db, services.store, services.clock, services.slots),
        log=RunLog(queries),
        authenticator=Authenticator(services.db, services.settings.pepper, services.clock),
        idempotency=IdempotencyStore(services.db, services.entropy, services.keys, services.vault),
        api_keys=KeyStore(services.db, services.settings.pepper, services.clock, services.entropy),
        limits=limits_of(services.settings, services.db, services.clock),
    )
