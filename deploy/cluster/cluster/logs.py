"""What processes say, kept from filling the disk.

A process appends to the file that it was started with, and holds it open. So of a file that has become too long the
newest part is copied into a second one, and the file is emptied; the process goes on at its beginning. Lines that come
between the two are lost, which is milliseconds' worth.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

LOG_BYTES_MAX = 32 * 1024 * 1024


def bound(log: Path, bytes_max: int = LOG_BYTES_MAX) -> None:
    """Empty `log` if it is longer than `bytes_max`; so much of its end is then in `<log>.1`, in place of what was.

    Nothing when there is no such file. On a full disk the file is emptied without a copy.
    """
    try:
        size = log.stat().st_size
    except FileNotFoundError:
        return
    if size <= bytes_max:
        return
    copy = log.with_name(f"{log.name}.part")
    with suppress(OSError):
        with log.open("rb") as source, copy.open("wb") as target:
            source.seek(size - bytes_max)
            shutil.copyfileobj(source, target)
        copy.replace(log.with_name(f"{log.name}.1"))
    copy.unlink(missing_ok=True)
    os.truncate(log, 0)
