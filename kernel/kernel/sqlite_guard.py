"""What is settled before the embedded file is opened: this process is alone, and nothing committed is missing.

The lock of the folder is a `flock`, which the kernel drops when its holder dies: whoever gets it knows that every
earlier incarnation is dead.

SQLite forgives too much for a log. A write-ahead log that is cut off or overwritten in the middle is read up to the
damage, and every commit behind it is forgotten without a word. Three witnesses speak up here. The header of the WAL
carries its own checksum and is synced before its first frame. The wal-index (`-shm`) counts committed frames and is
written after their fsync, so with the same salts it never counts more than is durable. And one crash tears one
transaction at most, so two commit marks beyond the last valid frame are two commits of which one had been synced.
Formats: https://www.sqlite.org/walformat.html. What no witness sees: a tail lost together with its wal-index.

Recovery rewrites the wal-index, so a refusal is also written to a file (`-damaged`) beside it: a restart is refused
again, and an operator who has no backup removes that file to go on with what is left.
"""

from __future__ import annotations

import fcntl
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from kernel.errors import LogRefused

_WAL_HEADER = struct.Struct(">IIIIIIII")
_FRAME_HEADER = struct.Struct(">IIIIII")
_WAL_MAGIC = (0x377F0682, 0x377F0683)
_MASK = 0xFFFFFFFF


class FolderLock:
    """Exclusive hold on a data folder. Let go by `release`, or by the kernel when the process dies."""

    def __init__(self, folder: Path, name: str = "towpath.lock") -> None:
        """Take the lock at once. Raises `LogRefused`, naming the holder's pid, when another process has it.

        A folder may have several locks, told apart by `name`; `OSError` when the file cannot be made.
        """
        self._fd = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._fd, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            raise LogRefused(f"the folder {folder} is in use by process {holder}; stop that one first") from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let go. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """What a process that did not close the file at `path` left beside it, read before SQLite repairs anything.

    `salts` name the generation of the WAL; `witnessed` is the number of committed frames of that generation by the
    wal-index, 0 when there is no such witness.
    """

    path: Path
    wal: Path
    page_bytes: int
    salts: bytes
    witnessed: int


def left_behind(path: Path) -> LeftBehind | None:
    """Read the WAL and wal-index beside the file at `path`; None when there is no WAL worth checking.

    Raises `LogRefused` when the WAL's header is damaged, the file that it belongs to is gone, or an earlier opening was
    refused for lost commits.
    """
    if text := _head(_refusal_of(path), 4096):
        raise LogRefused(f"{text.decode()}; to go on with what is left, remove {_refusal_of(path)}")
    wal = path.with_name(path.name + "-wal")
    header = _head(wal, _WAL_HEADER.size)
    if len(header) < _WAL_HEADER.size:
        return None
    if not _head(path, 1):
        raise LogRefused(
            f"{path} is empty or missing, but its write-ahead log is there; restore the folder from a backup"
        )
    magic, _, page_bytes, _, _, _, *checksum = _WAL_HEADER.unpack(header)
    if magic not in _WAL_MAGIC or list(_checksum(header[:24], ">" if magic & 1 else "<")) != checksum:
        raise LogRefused(f"{wal} is damaged: its header does not check; restore the folder from a backup")
    return LeftBehind(path, wal, page_bytes, header[16:24], _witnessed(path, header[16:24]))


def refuse_lost_commits(found: LeftBehind) -> None:
    """Raise `LogRefused` when SQLite recovered fewer frames than had been committed.

    To be called while a connection that has read the file, and so recovered the WAL, is open.
    """
    valid_frames = _witnessed(found.path, found.salts)
    if found.witnessed > valid_frames:
        lost = found.witnessed - valid_frames
        _refuse(found, f"is damaged or cut off: {lost} committed frames are gone")
    if _commit_marks_from(found, valid_frames) > 1:
        _refuse(found, f"is damaged after frame {valid_frames}: commits behind it are unreadable")


def _refuse(found: LeftBehind, what: str) -> NoReturn:
    text = f"{found.wal} {what}; restore the folder from a backup"
    _refusal_of(found.path).write_text(text)
    raise LogRefused(text)


def _refusal_of(path: Path) -> Path:
    return path.with_name(path.name + "-damaged")


def _head(path: Path, count: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(count)
    except FileNotFoundError:
        return b""


def _checksum(data: bytes, order: str) -> tuple[int, int]:
    """The WAL format's checksum over 32-bit words."""
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    first = second = 0
    for i in range(0, len(words), 2):
        first = (first + words[i] + second) & _MASK
        second = (second + words[i + 1] + first) & _MASK
    return first, second


def _witnessed(path: Path, salts: bytes) -> int:
    index = _head(path.with_name(path.name + "-shm"), 96)
    if len(index) < 96 or index[:48] != index[48:] or index[32:40] != salts:
        return 0
    frames: int = struct.unpack_from("=I", index, 16)[0]
    return frames


def _commit_marks_from(found: LeftBehind, frame: int) -> int:
    stride = _FRAME_HEADER.size + found.page_bytes
    marks = 0
    with found.wal.open("rb") as file:
        file.seek(_WAL_HEADER.size + frame * stride)
        while len(header := file.read(_FRAME_HEADER.size)) == _FRAME_HEADER.size:
            marks += header[8:16] == found.salts and header[4:8] != b"\0\0\0\0"
            file.seek(found.page_bytes, os.SEEK_CUR)
    return marks
