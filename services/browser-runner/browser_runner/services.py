"""What every attempt of a runner shares, made at the composition root."""

from __future__ import annotations

from dataclasses import dataclass

from browser_runner.ports import BrowserPool, Egress, Fence
from kernel.clock import Clock
from kernel.domain.ids import Incarnation
from kernel.ids import Entropy
from kernel.log.port import EventLog
from kernel.redaction import LiveSecrets
from kernel.sealing import SubjectKeys
from kernel.store.port import ByteStore, Vault
from kernel.tracing import NO_TRACER, Tracer


@dataclass(frozen=True, slots=True)
class Services:
    """Ports and identity of one runner process."""

    log: EventLog
    clock: Clock
    entropy: Entropy
    fence: Fence
    store: ByteStore
    vault: Vault
    keys: SubjectKeys
    live: LiveSecrets
    incarnation: Incarnation
    host_id: str
    inbox_partition: int
    browsers: BrowserPool | None = None
    """None: this runner serves the `light` pool only."""
    egress: Egress | None = None
    """None: browsers go straight out (tests and benchmarks on loopback)."""
    unsandboxed: bool = False
    """The browsers are not in their sandbox; told in heartbeats."""
    session_days: int = 30
    """How long a saved login is kept."""
    tracer: Tracer = NO_TRACER
