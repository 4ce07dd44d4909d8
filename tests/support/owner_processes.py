"""Owners of one ledger as processes of their own, each of which may stop itself (SIGSTOP) at a counted moment.

`python -m tests.support.owner_processes` is the parent of the owners: it reads a command a line and answers with one.

    start BOOTSTRAP PREFIX STOP_AT SECONDS   forks an owner that runs until it idles or stands down; answers `PID`
    wait PID                                 answers `stopped`, or `ended` with what it did last and how often it asked
    wake PID                                 SIGCONT; answers `woken`

An owner counts the moments around every request to a broker: before it is sent, when it is sent, when its answer is
there, and stops at the one with the number `STOP_AT` (-1: never). `SECONDS` bounds its requests.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from kernel.clock import SystemClock
from kernel.domain.decider import Event
from kernel.errors import LogUnavailable, NotOwner
from kernel.ids import SystemEntropy
from kernel.log.envelope import Envelope, Message
from kernel.log.kafka.brokers import Brokers
from kernel.log.kafka.log import KafkaLog
from kernel.log.kafka.settings import KafkaSettings
from kernel.log.port import EventLog, Record, Stored
from kernel.processor import Action, Owner, Ports
from tests.support.processing import BUSY
from tests.support.toy_decider import TOPICS, ToyDecider

ROOT = Path(__file__).parents[2]


class PickleCodec:
    """Events as bytes that another process of the test understands."""

    def encode(
        self, event: Event, *, topic: str, key: str, envelope: Envelope, partition: int, value: bytes = b""
    ) -> Record:
        return Record(topic, partition, key, (), pickle.dumps((event, envelope)))

    def decode(self, stored: Stored) -> Message:
        record = stored.record
        event, envelope = pickle.loads(record.value)
        return Message(
            record.topic, record.partition, stored.offset, record.key, event, envelope, stored.appended_ms
        )  # fmt: skip


def owner_of(log: EventLog) -> Owner:
    """An owner of the toy's ledger, with bounds that bring checkpoints and snapshots."""
    clock, entropy = SystemClock(), SystemEntropy()
    return Owner(ToyDecider(), 0, Ports(log, PickleCodec(), clock, entropy, owner=str(os.getpid()), bounds=BUSY))


async def run_until_idle(owner: Owner) -> str:
    """What the owner ends with; as its loop would, it tries again what the log did not take."""
    while True:
        try:
            if await owner.step() is Action.IDLE:
                return "idle"
        except LogUnavailable:
            await asyncio.sleep(0.01)
        except NotOwner:
            return "superseded"


class StoppingBrokers(Brokers):
    """Counts the moments around requests, and stops the process at one of them."""

    moments = 0
    stop_at = -1

    async def ask(self, *arguments: Any) -> Any:
        self._moment()
        asking = asyncio.ensure_future(super().ask(*arguments))
        await asyncio.sleep(0)
        self._moment()
        try:
            return await asking
        finally:
            self._moment()

    @classmethod
    def _moment(cls) -> None:
        if cls.moments == cls.stop_at:
            os.kill(os.getpid(), signal.SIGSTOP)
        cls.moments += 1


async def own(bootstrap: str, prefix: str, seconds: float) -> str:
    settings = KafkaSettings(bootstrap, prefix, request_seconds=seconds, append_seconds=seconds)
    log = await _opened(settings)
    try:
        return await run_until_idle(owner_of(log))
    finally:
        await log.close()


async def _opened(settings: KafkaSettings) -> KafkaLog:
    """The log, as a process that is started again until a broker answers in time: it may sleep over the first one."""
    while True:
        try:
            return await KafkaLog.open(settings, SystemClock(), topics=TOPICS)
        except LogUnavailable:
            await asyncio.sleep(0.01)


def _start(bootstrap: str, prefix: str, stop_at: int, seconds: float) -> str:
    told, tell = os.pipe()
    pid = os.fork()
    if pid:
        os.close(tell)
        _told[pid] = told
        return str(pid)
    from kernel.log.kafka import log  # noqa: PLC0415 (only an owner is to be stopped)

    vars(log)["Brokers"] = StoppingBrokers
    StoppingBrokers.stop_at = stop_at
    result = asyncio.run(own(bootstrap, prefix, seconds))
    os.write(tell, f"ended {result} {StoppingBrokers.moments}".encode())
    os._exit(0)


def _wait(pid: int) -> str:
    _, status = os.waitpid(pid, os.WUNTRACED)
    if os.WIFSTOPPED(status):
        return "stopped"
    with os.fdopen(_told.pop(pid), "rb") as told:
        return told.read().decode() or f"failed {status}"


_told: dict[int, int] = {}


def main() -> None:
    for line in sys.stdin:
        match line.split():
            case ["start", bootstrap, prefix, stop_at, seconds]:
                answer = _start(bootstrap, prefix, int(stop_at), float(seconds))
            case ["wait", pid]:
                answer = _wait(int(pid))
            case ["wake", pid]:
                os.kill(int(pid), signal.SIGCONT)
                answer = "woken"
        sys.stdout.write(answer + "\n")
        sys.stdout.flush()


class OwnerProcesses:
    """The parent of owners, as a test speaks to it. Ends every owner with itself."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.owner_processes"],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    async def start(self, settings: KafkaSettings, *, stop_at: int = -1, seconds: float = 5.0) -> int:
        """Start an owner; its process id."""
        return int(await self._say(f"start {settings.bootstrap} {settings.prefix} {stop_at} {seconds}"))

    async def wait(self, pid: int) -> str:
        """Wait until the owner has stopped itself or has ended: `stopped`, or `ended RESULT MOMENTS`."""
        return await self._say(f"wait {pid}")

    async def wake(self, pid: int) -> None:
        """Let a stopped owner go on."""
        await self._say(f"wake {pid}")

    async def _say(self, line: str) -> str:
        return await asyncio.to_thread(self._ask, line)

    def _ask(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


if __name__ == "__main__":
    main()
