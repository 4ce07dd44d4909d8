"""What an operator may set of the scheduler; one field per environment variable `SCHEDULER_<FIELD>`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from kernel.settings import Within


@dataclass(frozen=True, slots=True)
class Settings:
    """Meaning, unit and default of each setting."""

    drain_seconds: Annotated[float, Within(0, 600)] = 5.0
    """What partitions get to be handed over after SIGTERM; the rest is taken over as after a crash."""
    session_ms: Annotated[int, Within(1000, 60_000)] = 2000
    """Silence after which others take over this process's partitions. Brokers that do not allow so little are asked for
    the least that they do; `group.min.session.timeout.ms` is their setting."""
