"""The embedded log under full disks, locks, kills and damage: refused in words, and nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO

import pytest

from kernel.clock import SystemClock
from kernel.errors import LogRefused, LogUnavailable
from kernel.ids import SystemEntropy
from kernel.log.sqlite import SqliteLog
from kernel.sqlite_file import SqliteFile
from tests.support.log_writer import PARTS
from tests.support.logs import TOPICS, keys, record
from tests.support.requires import requires

ROOT = Path(__file__).parents[3]
OWN_MOUNTS = ["unshare", "--user", "--map-root-user", "--mount"]


@asynccontextmanager
async def opened(folder: Path, *, busy_seconds: float = 0.05) -> AsyncIterator[tuple[SqliteFile, SqliteLog]]:
    file = await SqliteFile.open(folder / "towpath.db", busy_seconds=busy_seconds)
    try:
        yield file, await SqliteLog.open(file, TOPICS, SystemClock(), SystemEntropy())
    finally:
        await file.close()


@contextmanager
def writer(*arguments: str, before: list[str] | None = None) -> Iterator[subprocess.Popen[str]]:
    command = [*(before or []), sys.executable, "-m", "tests.support.log_writer", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def lines_of(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stdout is not None
    return process.stdout


def acknowledged_until(process: subprocess.Popen[str], count: int) -> list[int]:
    """Let it acknowledge `count` batches, kill it, and take what else it had said by then."""
    lines = lines_of(process)
    assert lines.readline() == "open\n"
    numbers = [int(lines.readline()) for _ in range(count)]
    process.send_signal(signal.SIGKILL)
    return numbers + [int(line) for line in lines.read().splitlines(keepends=True) if line.endswith("\n")]


async def batches_found(folder: Path) -> set[int]:
    """The numbers of the batches in the log; each must be whole, and in the same place of both partitions."""
    async with opened(folder) as (file, log):
        await file.check()
        found = [await keys(log, partition=partition) for partition in (0, 1)]
    assert found[0] == found[1]
    for place in range(0, len(found[0]), PARTS):
        number = found[0][place].split(".")[0]
        assert found[0][place : place + PARTS] == [f"{number}.{part}" for part in range(PARTS)]
    whole = Counter(int(key.split(".")[0]) for key in found[0])
    assert set(whole.values()) <= {PARTS}
    return set(whole)


def rights_of_others(folder: Path) -> set[int]:
    return {path.stat().st_mode & 0o077 for path in folder.iterdir()}


def a_crash(folder: Path, batches: int = 60) -> list[int]:
    """A folder as kill -9 leaves it: commits in the WAL, nothing folded back. The acknowledged numbers."""
    with writer(str(folder)) as process:
        return acknowledged_until(process, batches)


def wal_of(folder: Path) -> Path:
    return folder / "towpath.db-wal"


# Full, locked, taken.


async def test_a_full_file_refuses_in_words_and_goes_on_once_there_is_space(tmp_path: Path) -> None:
    async with opened(tmp_path) as (file, log):
        await file.submit(lambda transaction: transaction.connection.execute("PRAGMA max_page_count=60").fetchall())
        taken: list[str] = []

        async def fill() -> None:
            while True:
                await log.append([record(f"k{len(taken)}", b"x" * 2000)])
                taken.append(f"k{len(taken)}")

        with pytest.raises(LogRefused, match=r"no space left .* nothing was written"):
            await fill()
        assert taken
        with pytest.raises(LogRefused, match="no space left"):
            await log.append([record("still full", b"x" * 2000)])
        assert await keys(log) == taken
        await file.submit(lambda transaction: transaction.connection.execute("PRAGMA max_page_count=9999").fetchall())
        assert (await log.append([record("again", b"x" * 2000)]))[0].offset == len(taken)
    async with opened(tmp_path) as (_, log):
        assert await keys(log) == [*taken, "again"]


def can_mount() -> bool:
    probe = [*OWN_MOUNTS, "sh", "-c", 'mount -t tmpfs tmpfs "$0"', str(ROOT / "tests")]
    return (
        shutil.which("unshare") is not None and subprocess.run(probe, check=False, capture_output=True).returncode == 0
    )


FILL_AND_KEEP = """
mount -t tmpfs -o size=2m tmpfs "$DISK" && head -c 500000 /dev/zero > "$DISK/ballast" || exit 1
"$@"
cp -r "$DISK/." "$SAVED"
"""


@requires("a mount of its own", available=can_mount(), reason="let users make user namespaces")
def test_a_full_disk_loses_nothing_acknowledged_and_is_left_behind_when_space_returns(tmp_path: Path) -> None:
    """A small disk in a mount namespace of its own; the way into it leads through the process."""
    disk, saved = tmp_path / "disk", tmp_path / "saved"
    disk.mkdir()
    around = ["env", f"DISK={disk}", f"SAVED={saved}", *OWN_MOUNTS, "sh", "-c", FILL_AND_KEEP, "sh"]
    said: list[str] = []
    with writer(str(disk), "full", before=around) as process:
        lines = lines_of(process)
        assert lines.readline() == "open\n"
        while len(errors := [line for line in said if line.startswith("LogRefused")]) < 2:
            said.append(lines.readline())
        assert all("no space left" in error for error in errors)
        python = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
        Path(f"/proc/{python}/root{disk}/ballast").unlink()
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        said += [lines.readline() for _ in range(10)]
        os.kill(python, signal.SIGKILL)
        said += [line for line in lines.read().splitlines(keepends=True) if line.endswith("\n")]
    acknowledged = {int(line) for line in said if line[0].isdigit()}
    assert len(acknowledged) > 10
    assert acknowledged <= asyncio.run(batches_found(saved))


async def test_a_commit_that_breaks_is_unknown_and_everything_after_it_is_refused(tmp_path: Path) -> None:
    """A limit on the size of files stands for a disk that fails: SQLite reports an I/O error from the commit itself."""
    with writer(str(tmp_path), "300000") as process:
        lines = lines_of(process)
        said = [lines.readline()]
        while not said[-1].startswith("LogRefused"):
            said.append(lines.readline())
    assert said[0] == "open\n"
    assert said[-2].startswith("UnknownOutcome a commit to")
    assert "restart" in said[-1]
    acknowledged = {int(line) for line in said[1:-2]}
    assert acknowledged <= await batches_found(tmp_path)


async def test_a_file_locked_by_another_program_is_unavailable_until_it_lets_go(tmp_path: Path) -> None:
    async with opened(tmp_path) as (file, log):
        with contextlib.closing(sqlite3.connect(file.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(LogUnavailable, match="locked by another program"):
                await log.append([record("a")])
            other.execute("ROLLBACK")
            await log.append([record("b")])
        assert await keys(log) == ["b"]


async def test_a_second_process_is_told_who_has_the_folder(tmp_path: Path) -> None:
    with writer(str(tmp_path)) as holder:
        assert lines_of(holder).readline() == "open\n"
        with pytest.raises(LogRefused, match=rf"in use by process {holder.pid}\b"):
            await SqliteFile.open(tmp_path / "towpath.db")
    async with opened(tmp_path) as (_, log):
        await log.append([record("the folder is free once its holder is dead")])


async def test_a_file_opened_twice_in_one_process_is_refused_too(tmp_path: Path) -> None:
    async with opened(tmp_path):
        with pytest.raises(LogRefused, match="in use by process"):
            await SqliteFile.open(tmp_path / "towpath.db")


# Killed, torn, damaged.


async def test_a_killed_writer_leaves_every_acknowledged_batch_whole(tmp_path: Path) -> None:
    acknowledged: set[int] = set()
    for incarnation in range(3):
        folder = tmp_path / str(incarnation)
        acknowledged = set(a_crash(folder, 40 + 150 * incarnation))
        assert acknowledged <= await batches_found(folder)


async def test_a_write_ahead_log_cut_off_after_a_kill_is_refused(tmp_path: Path) -> None:
    a_crash(tmp_path)
    with wal_of(tmp_path).open("r+b") as wal:
        wal.truncate(wal_of(tmp_path).stat().st_size // 2)
    left = wal_of(tmp_path).read_bytes()
    for _ in ("refused, and", "refused again"):
        with pytest.raises(LogRefused, match=r"cut off: .* committed frames are gone"):
            await SqliteFile.open(tmp_path / "towpath.db")
    assert wal_of(tmp_path).read_bytes() == left


async def test_an_operator_without_a_backup_may_go_on_with_what_is_left(tmp_path: Path) -> None:
    acknowledged = a_crash(tmp_path)
    with wal_of(tmp_path).open("r+b") as wal:
        wal.truncate(wal_of(tmp_path).stat().st_size // 2)
    with pytest.raises(LogRefused):
        await SqliteFile.open(tmp_path / "towpath.db")
    (tmp_path / "towpath.db-damaged").unlink()
    assert 0 < len(await batches_found(tmp_path)) < len(acknowledged)


@pytest.mark.parametrize("witness", [True, False], ids=["with the wal-index", "without the wal-index"])
async def test_a_write_ahead_log_damaged_in_its_middle_is_refused(tmp_path: Path, *, witness: bool) -> None:
    a_crash(tmp_path)
    with wal_of(tmp_path).open("r+b") as wal:
        wal.seek(wal_of(tmp_path).stat().st_size // 2)
        wal.write(b"garbage")
    if not witness:
        (tmp_path / "towpath.db-shm").unlink()
    for _ in ("refused, and", "refused again: nothing was repaired away"):
        with pytest.raises(LogRefused, match="damaged"):
            await SqliteFile.open(tmp_path / "towpath.db")


async def test_a_write_ahead_log_with_a_damaged_header_is_refused(tmp_path: Path) -> None:
    a_crash(tmp_path)
    with wal_of(tmp_path).open("r+b") as wal:
        wal.seek(16)
        wal.write(b"salt")
    with pytest.raises(LogRefused, match="header does not check"):
        await SqliteFile.open(tmp_path / "towpath.db")


async def test_a_transaction_torn_by_a_loss_of_power_is_dropped_and_the_rest_stands(tmp_path: Path) -> None:
    """The wal-index does not outlive the machine, and the last commit had not been synced."""
    a_crash(tmp_path)
    wal = wal_of(tmp_path)
    page_bytes = struct.unpack(">I", wal.read_bytes()[8:12])[0]
    with wal.open("r+b") as file:
        file.truncate(wal.stat().st_size - page_bytes // 2)
    (tmp_path / "towpath.db-shm").unlink()
    assert await batches_found(tmp_path)


async def test_a_file_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, log):
        await log.append([record(f"k{number}", b"x" * 3000) for number in range(50)])
    path = tmp_path / "towpath.db"
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(LogRefused, match="damaged"):
        async with opened(tmp_path):
            pass


async def test_a_flipped_byte_in_a_record_is_refused_when_it_is_read(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, log):
        await log.append([record("a", b"precious")])
    path = tmp_path / "towpath.db"
    path.write_bytes(path.read_bytes().replace(b"precious", b"previous"))
    async with opened(tmp_path) as (_, log):
        with pytest.raises(LogRefused, match="facts/0 at offset 0 is damaged"):
            await log.read("facts", 0, 0)


async def test_a_lost_file_beside_its_write_ahead_log_is_refused(tmp_path: Path) -> None:
    a_crash(tmp_path)
    (tmp_path / "towpath.db").unlink()
    with pytest.raises(LogRefused, match="empty or missing"):
        await SqliteFile.open(tmp_path / "towpath.db")


# Of others, of other versions.


async def test_a_file_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "towpath.db"
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (a)")
    with pytest.raises(LogRefused, match="another program"):
        await SqliteFile.open(path)
    path.write_text("a letter, and a long one at that; " * 100)
    with pytest.raises(LogRefused, match="damaged"):
        await SqliteFile.open(path)


async def test_a_folder_that_cannot_be_used_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(LogRefused, match="cannot be used"):
        await SqliteFile.open(tmp_path / "data" / "towpath.db")
    (tmp_path / "towpath.db").mkdir()
    with pytest.raises(LogRefused, match="cannot be opened"):
        await SqliteFile.open(tmp_path / "towpath.db")


async def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as (file, _):
        await file.submit(lambda transaction: transaction.connection.execute("PRAGMA user_version=99").fetchall())
    with pytest.raises(LogRefused, match="layout 99"):
        async with opened(tmp_path):
            pass


async def test_a_topic_keeps_the_number_of_its_partitions(tmp_path: Path) -> None:
    async with opened(tmp_path) as (file, _):
        with pytest.raises(LogRefused, match="has 4 partitions, not 5"):
            await SqliteLog.open(file, {"facts": 5}, SystemClock(), SystemEntropy())
        grown = await SqliteLog.open(file, {**TOPICS, "more": 1}, SystemClock(), SystemEntropy())
        assert grown.partitions("more") == 1


async def test_deleted_records_make_room_for_later_ones(tmp_path: Path) -> None:
    async with opened(tmp_path) as (file, log):
        sizes = []
        for _ in range(6):
            for number in range(150):
                await log.append([record(f"k{number}", b"x" * 3000)])
            await log.delete_before("facts", 0, await log.end_offset("facts", 0))
            sizes.append((await file.read(lambda connection: connection.execute("PRAGMA page_count").fetchone()))[0])
        assert sizes[-1] == sizes[0]
        rows = await file.read(lambda connection: connection.execute("SELECT count(*) FROM log_batches").fetchone())
        assert rows == (0,)


async def test_the_files_of_the_folder_are_for_their_owner_only(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, log):
        await log.append([record("a")])
        assert rights_of_others(tmp_path) == {0}
