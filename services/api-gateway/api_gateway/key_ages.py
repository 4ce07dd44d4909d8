"""How old the server's own keys are, as far as their files tell: a question of `doctor`.

A file that was not changed for so long holds a key that is at least as old; one that was copied or mounted anew looks
younger than its key is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from api_gateway.doctor import DAY_MS, KEY_DAYS_MAX, Check, Finding, ok, warning
from kernel.clock import Clock

NAME = "key files"


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A file of secret keys. `advice` says how they are exchanged; empty: there is no limit to their age."""

    name: str
    path: Path
    advice: str = ""


def check(files: Sequence[KeyFile], clock: Clock) -> tuple[str, Check]:
    """The question with its name."""

    async def key_files() -> Finding:
        return finding(files, await asyncio.to_thread(_changed_ms, files), clock.now_ms())

    return NAME, key_files


def finding(files: Sequence[KeyFile], changed_ms: Mapping[str, float], now_ms: float) -> Finding:
    """What to say of files that were last changed at these times, milliseconds since 1970. Pure."""
    days = {name: max(0, int((now_ms - at_ms) // DAY_MS)) for name, at_ms in changed_ms.items()}
    old = [file for file in files if file.advice and days.get(file.name, 0) > KEY_DAYS_MAX]
    if old:
        told = ", ".join(f"{file.name} {days[file.name]} days" for file in old)
        return warning(NAME, f"not changed for more than a year: {told}", "; ".join(file.advice for file in old))
    known = [f"{file.name} {days[file.name]}" for file in files if file.name in days]
    return ok(NAME, f"days since they were changed: {', '.join(known) or 'not known'}")


def _changed_ms(files: Sequence[KeyFile]) -> dict[str, float]:
    """Of each file that can be looked at, when it was last changed."""
    found = {}
    for file in files:
        try:
            found[file.name] = file.path.stat().st_mtime * 1000
        except OSError:
            continue
    return found
