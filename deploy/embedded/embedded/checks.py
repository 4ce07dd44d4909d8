"""What `doctor` asks of an embedded installation beside the gateway's own questions: folder, disk, browser, keys."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from api_gateway import key_ages
from api_gateway.doctor import Check, Finding, failed, ok, warning
from api_gateway.key_ages import KeyFile
from embedded.settings import Settings
from kernel.clock import Clock

FREE_BYTES_MIN = 1024**3
FREE_BYTES_LEAST = 64 * 1024**2


def checks(settings: Settings, clock: Clock) -> tuple[tuple[str, Check], ...]:
    """All of them, each with the name of its finding."""

    async def folder() -> Finding:
        return folder_finding(settings)

    async def disk() -> Finding:
        return disk_finding(settings.data, shutil.disk_usage(settings.data).free)

    async def browser() -> Finding:
        return browser_finding(settings.browser, is_root=os.geteuid() == 0)

    ages = key_ages.check(key_files(settings), clock)
    return (("folder", folder), ("disk", disk), ("browser", browser), ages)


def key_files(settings: Settings) -> list[KeyFile]:
    """The folder's keys. Of the pepper the age is told, and there is no limit: all API keys hang on it."""
    signing = (
        "stop, remove signing-key, and start: a new one is made, and addresses of artifacts that are out end early"
    )
    return [
        KeyFile("signing key", settings.data / "signing-key", signing),
        KeyFile("pepper", settings.data / "pepper"),
        KeyFile("keyring", settings.keyring, "stop, run python -m embedded rotate-keyring, and start"),
    ]


def folder_finding(settings: Settings) -> Finding:
    """Whether others on this machine could read the folder's secrets. Looks at the disk."""
    secrets = (settings.keyring, settings.api_key, settings.data / "pepper", settings.data / "signing-key")
    open_to_others = [path.name for path in secrets if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077]
    if open_to_others:
        return failed("folder", f"others may read {', '.join(open_to_others)}", f"chmod 600 them in {settings.data}")
    return ok("folder", f"{settings.data}; its secrets are readable by their owner only")


def disk_finding(data: Path, free: int) -> Finding:
    """Whether there is room for what runs leave. Pure."""
    room = f"{free / 1024**3:.1f} GiB free at {data}"
    if free < FREE_BYTES_LEAST:
        return failed("disk", room, "make room: soon nothing can be accepted any more")
    if free < FREE_BYTES_MIN:
        return warning("disk", room, "make room, or let old runs go (TOWPATH_RETENTION_DAYS)")
    return ok("disk", room)


def browser_finding(browser: str, *, is_root: bool) -> Finding:
    """Whether workflows with pages run, and how well they are shut in. Pure but for one look at the file."""
    if not browser:
        return warning("browser", "none: only workflows without pages run", "set TOWPATH_BROWSER, or use `make run`")
    if not os.access(browser, os.X_OK):
        return failed("browser", f"{browser} cannot be started", "set TOWPATH_BROWSER to a Chromium that can")
    if is_root:
        return warning("browser", f"{browser}, without its sandbox: this is root", "run as an ordinary user")
    return ok("browser", f"{browser}, in its sandbox")
