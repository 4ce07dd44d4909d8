"""What the launcher keeps running: servers and services, each started again when it dies."""

from __future__ import annotations

import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cluster.components.process import Process

_ANSWER_SECONDS = 2.0
_FIRST_DELAY_SECONDS = 0.2
_LONGEST_DELAY_SECONDS = 10.0
_SETTLED_SECONDS = 10.0


class Part(Protocol):
    """A process, or several that are one thing. `start` may block until it is usable, `stop` until it has ended."""

    @property
    def name(self) -> str: ...

    @property
    def is_running(self) -> bool: ...

    @property
    def pids(self) -> Sequence[int]: ...

    @property
    def address(self) -> str: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def kill(self) -> None: ...


@dataclass(slots=True)
class Service:
    """One process of ours. `health` is where it serves its probes, `host:port`; empty: running is being ready."""

    name: str
    address: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    health: str = ""
    drain_seconds: float = 10.0
    _process: Process = field(init=False)

    def __post_init__(self) -> None:
        self._process = Process(self.name, self.log)

    @property
    def is_running(self) -> bool:
        """Whether the process exists."""
        return self._process.is_running

    @property
    def pids(self) -> Sequence[int]:
        """The process, while it runs."""
        return [self._process.pid] if self._process.pid is not None else []

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs or before it was started."""
        return self._process.exit_code

    @property
    def is_ready(self) -> bool:
        """Whether its probe says that it may be sent work."""
        if not self.health or not self.is_running:
            return self.is_running
        try:
            with urllib.request.urlopen(f"http://{self.health}/health/ready", timeout=_ANSWER_SECONDS):
                return True
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            return False

    def start(self) -> None:
        """Start it; it is ready when it says so."""
        self._process.start(self.command, self.environment)

    def stop(self) -> None:
        """Let it drain and end; kill it when it takes too long."""
        self._process.stop(signal.SIGTERM, self.drain_seconds)

    def kill(self) -> None:
        """End it and all below it at once."""
        self._process.kill()

    def last_word(self) -> str:
        """The last line that it said."""
        return self._process.tail().rpartition("\n")[2]


class Restarts:
    """When a part that died is started again: at once, then later and later while its lives are short."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`monotonic` tells seconds; the part has just been started."""
        self._monotonic = monotonic
        self._born = monotonic()
        self._died: float | None = None
        self._delay = 0.0

    def is_due(self) -> bool:
        """Whether a part that does not run is to be started now. Notes its death when asked for the first time."""
        now = self._monotonic()
        if self._died is None:
            self._died = now
            is_short = now - self._born < _SETTLED_SECONDS
            self._delay = min(max(self._delay * 2, _FIRST_DELAY_SECONDS), _LONGEST_DELAY_SECONDS) if is_short else 0.0
        return now - self._died >= self._delay

    def restarted(self) -> None:
        """It was started again."""
        self._born, self._died = self._monotonic(), None
