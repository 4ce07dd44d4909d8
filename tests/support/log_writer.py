"""A process that appends until something stops it: `python -m tests.support.log_writer <folder> [file size limit]`.

Each append is a batch of three records for one partition and three for another, keyed by its number and part. After
each acknowledgement its number is printed, so what was printed must be found again. An append that fails prints the
error's name and text and, after the second one, the process waits for a line on stdin before it tries again.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from pathlib import Path

from kernel.clock import SystemClock
from kernel.errors import LogRefused, TowpathError, UnknownOutcome
from kernel.ids import SystemEntropy
from kernel.log.port import Record
from kernel.log.sqlite import SqliteLog
from kernel.sqlite_file import SqliteFile
from tests.support.logs import TOPICS

PARTS = 3
APPENDERS = 8


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def batch(number: int) -> list[Record]:
    """Six records: half to partition 0, half to partition 1."""
    return [
        Record("facts", partition, f"{number}.{part}", (), b"x" * 500) for partition in (0, 1) for part in range(PARTS)
    ]


async def load(log: SqliteLog) -> None:
    """Appenders beside each other, for ever."""
    numbers = iter(range(1_000_000_000))

    async def appender() -> None:
        for number in numbers:
            await log.append(batch(number))
            say(str(number))

    await asyncio.gather(*(appender() for _ in range(APPENDERS)))


async def load_until_it_fails_twice(log: SqliteLog) -> None:
    failures = 0
    for number in range(1_000_000_000):
        try:
            await log.append(batch(number))
        except (LogRefused, UnknownOutcome) as error:
            say(f"{type(error).__name__} {error}")
            failures += 1
            if failures == 2:
                await asyncio.to_thread(sys.stdin.readline)
        else:
            say(str(number))


async def main(folder: Path, file_bytes_max: int, *, until_full: bool) -> None:
    try:
        file = await SqliteFile.open(folder / "towpath.db")
    except TowpathError as error:
        say(f"{type(error).__name__} {error}")
        return
    log = await SqliteLog.open(file, TOPICS, SystemClock(), SystemEntropy())
    say("open")
    if file_bytes_max:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes_max, file_bytes_max))
    await (load_until_it_fails_twice(log) if until_full or file_bytes_max else load(log))


if __name__ == "__main__":
    limit = sys.argv[2] if len(sys.argv) > 2 else "0"
    asyncio.run(main(Path(sys.argv[1]), 0 if limit == "full" else int(limit), until_full=limit == "full"))
