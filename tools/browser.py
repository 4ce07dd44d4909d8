"""Finds a browser for the runner, or brings one; prints its path. Only the standard library.

    python3 -m tools.browser          find, else install
    python3 -m tools.browser --find   find, else exit 1

What is already on the machine wins, to be quick: `TOWPATH_BROWSER`, then the one found last time, then Playwright's
headless shell, then Debian's. Otherwise Playwright's download is tried, then, as root, Debian's package. Playwright
itself needs a library that a bare Debian lacks; it is seen to, too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tools.packages import install_package

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / ".venv" / "towpath-browser"
PLAYWRIGHT = ROOT / ".venv" / "bin" / "playwright"
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
PLACES = ("/usr/lib/chromium/headless_shell", "/usr/lib/chromium/chromium-headless-shell")
DOWNLOAD_SECONDS = 180
CONNECT_MILLISECONDS = "5000"
PROBE_SECONDS = 20
NO_DRIVER = """Playwright does not start here; it says why above. A bare Debian lacks a library that it needs:
  sudo apt-get install libatomic1"""
NO_BROWSER = """Towpath drives a Chromium and found none that starts. Do one of these and call make again:
  Debian:    sudo apt-get install chromium-headless-shell
  anywhere:  .venv/bin/playwright install --with-deps --only-shell chromium
  or name one: export TOWPATH_BROWSER=/path/to/chromium"""


def say(text: str) -> None:
    """One line of progress."""
    print(f"browser: {text}", file=sys.stderr, flush=True)


def candidates() -> Iterator[Path]:
    """Browsers that may be on this machine, best first."""
    if KEPT.exists():
        yield Path(KEPT.read_text())
    yield from playwright_shells()
    for name in NAMES:
        found = shutil.which(name)
        if found:
            yield Path(found)
    yield from map(Path, PLACES)


def playwright_shells() -> list[Path]:
    """The headless shells that Playwright has downloaded, newest first."""
    default = {"darwin": "~/Library/Caches/ms-playwright"}.get(sys.platform, "~/.cache/ms-playwright")
    folder = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH", default)).expanduser()
    found = folder.glob("chromium_headless_shell-*/*/*headless?shell")
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def starts(path: Path) -> bool:
    """Whether the program at `path` runs here: a download may lack libraries of the system."""
    if not os.access(path, os.X_OK):
        return False
    try:
        return (
            subprocess.run([path, "--version"], capture_output=True, timeout=PROBE_SECONDS, check=False).returncode == 0
        )
    except (OSError, subprocess.TimeoutExpired):
        return False


def find() -> Path | None:
    """The first browser that starts; None when there is none. Ends the program when a named one does not start."""
    named = os.environ.get("TOWPATH_BROWSER")
    if named:
        if not starts(Path(named)):
            sys.exit(f"browser: TOWPATH_BROWSER={named} does not start")
        return Path(named)
    return next((path for path in candidates() if starts(path)), None)


def download() -> bool:
    """Try Playwright's own download; whether it arrived."""
    if not PLAYWRIGHT.exists():
        return False
    say("trying Playwright's download of a headless Chromium")
    environment = {**os.environ, "PLAYWRIGHT_DOWNLOAD_CONNECTION_TIMEOUT": CONNECT_MILLISECONDS}
    command = [str(PLAYWRIGHT), "install", "--only-shell", "chromium"]
    try:
        return subprocess.run(command, env=environment, timeout=DOWNLOAD_SECONDS, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def driver_starts() -> bool:
    """Whether Playwright runs here; true where it is not installed, which is not for this tool to mend."""
    if not PLAYWRIGHT.exists():
        return True
    return subprocess.run([PLAYWRIGHT, "--version"], stdout=subprocess.DEVNULL, check=False).returncode == 0


def obtain() -> Path | None:
    """A browser that starts, brought here if need be; None when there is no way. Ends the program without a driver."""
    if not driver_starts() and not (install_package("libatomic1", "browser") and driver_starts()):
        sys.exit(NO_DRIVER)
    found = find()
    if found is None and download():
        found = find()
    if found is None and install_package("chromium-headless-shell", "browser"):
        found = find()
    return found


def main() -> int:
    """Print the path of a browser that starts, and keep it for the next call. 1 when there is none."""
    named, only_find = os.environ.get("TOWPATH_BROWSER"), "--find" in sys.argv[1:]
    found = find() if KEPT.exists() or only_find else None
    if found is None and not only_find:
        found = obtain()
    if found is None:
        print(NO_BROWSER, file=sys.stderr)
        return 1
    if KEPT.parent.exists() and not named:
        KEPT.write_text(str(found))
    print(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
