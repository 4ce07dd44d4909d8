"""Files of what processes say stay within a bound while the processes write on."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from cluster.logs import bound


def test_a_file_that_is_too_long_begins_anew_and_its_end_is_kept_beside_it(tmp_path: Path) -> None:
    log = tmp_path / "scheduler-1.log"
    with log.open("ab", buffering=0) as process:
        process.write(b"old" * 10)
        bound(log, 30)
        assert log.stat().st_size == 30
        process.write(b"new")
        bound(log, 30)
        process.write(b"after")
    assert log.read_bytes() == b"after"
    assert (tmp_path / "scheduler-1.log.1").read_bytes() == b"old" * 9 + b"new"
    assert len(list(tmp_path.iterdir())) == 2


def test_only_one_older_part_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "kafka.log"
    for line in (b"first", b"second"):
        log.write_bytes(line)
        bound(log, 4)
    assert (tmp_path / "kafka.log.1").read_bytes() == b"cond"


def test_a_process_that_has_said_nothing_has_no_file(tmp_path: Path) -> None:
    bound(tmp_path / "none.log")
    assert not list(tmp_path.iterdir())


def test_on_a_full_disk_the_file_is_emptied_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("cluster.logs.shutil.copyfileobj", full)
    log = tmp_path / "gateway.log"
    log.write_bytes(b"much")
    bound(log, 1)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"gateway.log": b""}
