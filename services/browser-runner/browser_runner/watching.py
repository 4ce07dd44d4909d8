"""The watchdog process of a runner: starts it, starts it again, and tells of each life that is over.

    watchdog ── runner ── Playwright's driver ── browsers

Every life has an incarnation of its own, drawn here. When a life is over and nothing below the watchdog lives any more,
it says so on the log by itself: that is the proof of death, and the next attempt need not wait for a lease, nor for the
next life. The log is spoken to only then; a log that does not answer in time leaves the lease to settle it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
import sys
import threading

import structlog

from browser_runner.scratch import Scratch
from browser_runner.settings import settings_from
from browser_runner.watchdog import INCARNATION_VARIABLE, Death, WatchdogSettings, run_watchdog
from kernel.clock import Clock, SystemClock
from kernel.domain.ids import Incarnation
from kernel.domain.task import RunnerDied
from kernel.domain.values import Pool, pool_key
from kernel.errors import TowpathError
from kernel.ids import Entropy, SystemEntropy, derived_id
from kernel.log import codec
from kernel.log.envelope import Envelope
from kernel.log.kafka.log import KafkaLog
from kernel.log.kafka.settings import KafkaSettings, kafka_settings
from kernel.log.port import EventLog
from kernel.log.topics import Topic, partition_of
from kernel.redaction import LiveSecrets
from kernel.telling import start_logging

REPORT_SECONDS = 10.0
"""How long a report of death is tried; half a lease, so that it can still be of use."""
_ENDING_SECONDS = 2.0
"""What a report that was given up gets to close what it holds."""
_HAND_BACK_SECONDS = 10.0
"""What a runner gets beyond its own drain to close what it holds."""
_NO_FORKS = {"GRPC_ENABLE_FORK_SUPPORT": "0"}
"""gRPC need not care for a fork: what the runner forks is a browser's driver at once."""
_log = structlog.get_logger("browser_runner.watching")


def watch() -> int:
    """Run the runner until it ends in good order; the exit code of its last life. Errors are those of settings."""
    settings, kafka = settings_from(os.environ), kafka_settings(os.environ)
    # A core file would hold every secret that was open; whatever starts below inherits this.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    start_logging(logging.StreamHandler(sys.stdout), LiveSecrets(), service="browser-runner-watchdog")
    host_id = settings.host_id or socket.gethostname()
    lives = _Lives(kafka, host_id, Scratch(), SystemClock(), SystemEntropy())
    try:
        return run_watchdog(
            [sys.executable, "-m", "browser_runner", "life"],
            environ={**os.environ, **_NO_FORKS, "TMPDIR": str(lives.scratch.path), "BROWSER_RUNNER_HOST_ID": host_id},
            of_life=lives.begin,
            on_death=lives.over,
            settings=WatchdogSettings(drain_seconds=settings.drain_seconds + _HAND_BACK_SECONDS),
        )
    finally:
        lives.scratch.remove()


class _Lives:
    """Names each life and tells its end."""

    def __init__(self, kafka: KafkaSettings, host_id: str, scratch: Scratch, clock: Clock, entropy: Entropy) -> None:
        self.scratch = scratch
        self._kafka = kafka
        self._host_id = host_id
        self._clock = clock
        self._entropy = entropy
        self._incarnation = Incarnation("")

    def begin(self) -> dict[str, str]:
        """What only this life is told."""
        self._incarnation = Incarnation(self._entropy.uuid())
        return {INCARNATION_VARIABLE: self._incarnation}

    def over(self, death: Death) -> None:
        """Nothing of the life is left: say so. Blocks, for little more than `REPORT_SECONDS`; what hangs is left."""
        _log.warning(
            "runner.over", incarnation=self._incarnation, exit_code=death.exit_code, was_hung=death.was_hung,
            lived_seconds=round(death.lived_seconds, 1),
        )  # fmt: skip
        # A name service that hangs holds a thread that no time-out reaches, and a loop ends only after its threads.
        telling = threading.Thread(target=lambda: asyncio.run(self._report(self._incarnation)), daemon=True)
        telling.start()
        telling.join(REPORT_SECONDS + _ENDING_SECONDS)
        if telling.is_alive():
            _log.warning("runner.death_not_told", incarnation=self._incarnation, error="no answer in time")
        self.scratch.clear()

    async def _report(self, incarnation: Incarnation) -> None:
        try:
            async with asyncio.timeout(REPORT_SECONDS):
                await self._append(incarnation)
        except (TowpathError, TimeoutError) as error:
            _log.warning("runner.death_not_told", incarnation=incarnation, error=repr(error))

    async def _append(self, incarnation: Incarnation) -> None:
        while True:
            try:
                log = await KafkaLog.open(self._kafka, self._clock, topics=(Topic.DISPATCH,))
                try:
                    return await tell_death(log, incarnation, self._host_id, self._clock)
                finally:
                    await log.close()
            except TowpathError as error:
                _log.warning("runner.death_told_again", error=str(error))
                await self._clock.sleep(0.2)


async def tell_death(log: EventLog, incarnation: Incarnation, host_id: str, clock: Clock) -> None:
    """Append the proof of death, for each pool. May be repeated; raises what the log raises."""
    records = []
    for pool in Pool:
        key = pool_key(pool)
        envelope = Envelope(derived_id("died", incarnation, pool), clock.now_ms(), subject=incarnation)
        died = RunnerDied(incarnation, host_id, Incarnation(""), pool)
        partition = partition_of(key, log.partitions(Topic.DISPATCH))
        records.append(codec.encode(died, topic=Topic.DISPATCH, key=key, envelope=envelope, partition=partition))
    await log.append(records)
