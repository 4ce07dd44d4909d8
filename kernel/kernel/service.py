"""The common frame of a service process of the cluster form.

    settings -> log lines -> probes -> parts, each waited for -> work -> SIGTERM -> drain -> end

A process that cannot do its work ends with one line on stderr and a code of its own (`kernel.refusing`): at once when a
setting is wrong; after `TOWPATH_START_SECONDS` when a part is not there. A broker or a database that goes away later
stops nobody: everything waits for it.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

import structlog
from prometheus_client import ProcessCollector

from kernel.clock import Clock, SystemClock
from kernel.errors import Temporary, TowpathError
from kernel.ids import Entropy, SystemEntropy
from kernel.metering import measure_loop
from kernel.metrics import Metrics
from kernel.probes import Health, Probes, about
from kernel.redaction import LiveSecrets
from kernel.refusing import Unreached, run_plainly
from kernel.settings import Within, read_settings
from kernel.telling import start_logging
from kernel.tracing import NO_TRACER, Tracer, open_tracer

T = TypeVar("T")

_TRY_SECONDS = 0.5
_TELL_SECONDS = 5.0
_WATCH_SECONDS = 2.0
_ANSWER_SECONDS = 5.0
_log = structlog.get_logger("kernel.service")


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """What every service process reads, from `TOWPATH_<FIELD>`."""

    probes: str = ""
    """Where health, version and metrics are served, `host:port`; empty: nowhere. The gateway has them beside REST."""
    start_seconds: Annotated[float, Within(0, 3600)] = 60.0
    """How long a process waits at its start for a part that is not there yet, before it ends."""
    member: str = ""
    """The name of this process among its like, the same after a restart, such as a pod's; empty: host and number.
    Two at once must not have the same."""


class _ToldToEnd(TowpathError):
    """SIGTERM came while a part was waited for."""


@dataclass(slots=True)
class Service:
    """What the frame hands to a main. `stop` is set when the process shall drain and end."""

    name: str
    environ: Mapping[str, str]
    settings: ServiceSettings
    clock: Clock
    entropy: Entropy
    live: LiveSecrets
    stop: asyncio.Event
    parts: AsyncExitStack
    """What is pushed here is closed at the end, last first."""
    besides: asyncio.TaskGroup
    """What runs beside `serve`; see `beside`."""
    health: Health = field(default_factory=Health)
    metrics: Metrics = field(default_factory=Metrics)
    tracer: Tracer = NO_TRACER

    @property
    def member(self) -> str:
        """The name of this process among its like."""
        return self.settings.member or f"{socket.gethostname()}-{os.getpid()}"

    async def reach(self, what: str, action: Callable[[], Awaitable[T]]) -> T:
        """What `action` gives once the part it needs is there; tried until `start_seconds` are over, then `Unreached`.

        Only what may pass is tried again: `Temporary` and refused connections. `what` names the part for people.
        """
        began_ms, told_ms = self.clock.boot_ms(), float("-inf")
        while True:
            try:
                return await action()
            except (Temporary, ConnectionError, TimeoutError) as error:
                waited_ms = self.clock.boot_ms() - began_ms
                if waited_ms >= self.settings.start_seconds * 1000:
                    raise Unreached(f"{what} is not there after {waited_ms / 1000:.0f} s: {error}") from None
                if waited_ms - told_ms >= _TELL_SECONDS * 1000:
                    told_ms = waited_ms
                    _log.warning("service.waits", waits_for=what, error=str(error))
            await self._rest()

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(_TRY_SECONDS):
                await self.stop.wait()
        except TimeoutError:
            return
        raise _ToldToEnd

    def watch(self, name: str, ask: Callable[[], Awaitable[object]]) -> None:
        """From now on `ask` is awaited every other second, and the process is not ready while it fails or hangs."""
        watched = _Watched(name, ask, self.clock)
        self.health.conditions[name] = lambda: watched.answers
        self.beside(watched.run(), name=f"watch of {name}")

    def beside(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        """Do `work` beside everything else, until the parts are closed. What it raises ends the process."""
        task = self.besides.create_task(work, name=name)

        async def end() -> None:
            task.cancel()
            await asyncio.wait([task])

        self.parts.push_async_callback(end)

    def started(self) -> None:
        """Everything is there: from now on the process is as ready as its conditions say.

        What was loaded by now stays: the collector of cycles need not look at it again, and seldom at the rest.
        """
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        self.health.is_started = True
        _log.info("service.started")


class _Watched:
    """One part that is asked again and again whether it answers."""

    def __init__(self, name: str, ask: Callable[[], Awaitable[object]], clock: Clock) -> None:
        self._name = name
        self._ask = ask
        self._clock = clock
        self.answers = True

    async def run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await self._ask()
                self._back()
            except (TowpathError, OSError, TimeoutError) as error:
                self._away(error)
            await self._clock.sleep(_WATCH_SECONDS)

    def _back(self) -> None:
        if not self.answers:
            _log.warning("service.part_is_back", part=self._name)
        self.answers = True

    def _away(self, error: Exception) -> None:
        if self.answers:
            _log.warning("service.part_is_away", part=self._name, error=str(error) or type(error).__name__)
        self.answers = False


Serve = Callable[[Service], Awaitable[None]]


def run_service(name: str, serve: Serve, *, environ: Mapping[str, str] | None = None) -> int:
    """Run `serve` as a process of its own until it returns; the exit code. Called once, in the main thread."""
    import uvloop  # noqa: PLC0415 (only a process of its own needs the loop)

    # A core file would hold every secret that was open; whatever starts below inherits this.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return run_plainly(name, lambda: uvloop.run(_run(name, serve, os.environ if environ is None else environ)))


async def _run(name: str, serve: Serve, environ: Mapping[str, str]) -> None:
    live, stop, loop = LiveSecrets(), asyncio.Event(), asyncio.get_running_loop()
    start_logging(logging.StreamHandler(sys.stdout), live, service=name)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    settings = read_settings(ServiceSettings, "TOWPATH_", environ)
    async with asyncio.TaskGroup() as besides, AsyncExitStack() as parts:
        service = Service(name, environ, settings, SystemClock(), SystemEntropy(), live, stop, parts, besides)
        service.tracer = open_tracer(name, "kafka", environ)
        parts.push_async_callback(asyncio.to_thread, service.tracer.close)
        ProcessCollector(registry=service.metrics.registry)
        service.beside(measure_loop(service.metrics, service.clock), name="loop lag")
        if settings.probes:
            probes = Probes(settings.probes, service.health, service.metrics.registry, about(name))
            await probes.start()
            parts.push_async_callback(probes.close)
        watching = asyncio.create_task(_watch(service))
        try:
            await serve(service)
        except _ToldToEnd:
            _log.info("service.ended_before_it_started")
        finally:
            watching.cancel()
    _log.info("service.ended")


async def _watch(service: Service) -> None:
    """Say that it drains the moment it is told to."""
    await service.stop.wait()
    service.health.is_draining = True
    _log.info("service.draining")
