"""What `make run` starts: the watchdog with the platform below it, the demo shop, the demo; and it waits.

    launcher ── watchdog ── platform ── browser
             ├─ demo shop
             └─ demo (ends by itself)

It imports little, so that it stays small while the platform serves. It says what it starts, prints the API key the
first time, and turns Ctrl-C into a drain. When it dies, its children are told by the kernel (PDEATHSIG).
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

from embedded.ports import check_free
from embedded.settings import Settings, read_settings
from embedded.shop import shop_arguments
from embedded.watching import sweep_leftovers
from kernel.errors import Permanent, Rejected
from kernel.refusing import REFUSED_EXIT_CODE

_PR_SET_PDEATHSIG = 1
_START_SECONDS = 60.0


def launch() -> int:
    """Start everything, wait for the end; 0 after a drain, else the code of what failed."""
    try:
        settings = read_settings()
        check(settings)
    except (Rejected, Permanent) as error:
        print(f"towpath: {error.message}", file=sys.stderr)
        return 2
    return _Launch(settings).run()


def check(settings: Settings) -> None:
    """What can be known before anything starts: the folder, which is made, browser, port. `Rejected` or `Permanent`."""
    try:
        settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Rejected("setting_invalid", f"TOWPATH_DATA: {settings.data}: {error.strerror}") from None
    if settings.browser and not os.access(settings.browser, os.X_OK):
        raise Rejected("setting_invalid", f"TOWPATH_BROWSER: there is no program {settings.browser}")
    check_free(settings.port)


def _die_with_parent(number: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


class _Launch:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.is_new = not settings.api_key.exists()
        self.children: list[subprocess.Popen[bytes]] = []
        self.watchdog: subprocess.Popen[bytes] | None = None
        self.draining = False

    def run(self) -> int:
        signal.signal(signal.SIGTERM, self._drain)
        signal.signal(signal.SIGINT, self._drain)
        try:
            shows_demo = self.settings.demo and bool(self.settings.browser)
            if shows_demo:
                self._start_shop()
            self.watchdog = self._start(["-m", "embedded", "watchdog"], signal.SIGTERM)
            if not self._await_ready():
                return self._end()
            self._say_where()
            return self._wait(self._start(["-m", "embedded", "demo"], signal.SIGTERM) if shows_demo else None)
        finally:
            self._stop_rest()

    def _start(self, arguments: list[str], death: signal.Signals) -> subprocess.Popen[bytes]:
        """A child in a session of its own, so that Ctrl-C in the terminal reaches it only through us."""
        child = subprocess.Popen(
            [sys.executable, *arguments],
            start_new_session=True,
            preexec_fn=lambda: _die_with_parent(death),  # noqa: PLW1509 (no threads here)
        )
        self.children.append(child)
        return child

    def _await_ready(self) -> bool:
        """Whether the gateway answers; False when the watchdog ended or someone asked to end."""
        url = f"{self.settings.url}/health/ready"
        print(f"Towpath starts on {self.settings.url} …", flush=True)
        deadline = time.monotonic() + _START_SECONDS
        assert self.watchdog is not None
        while time.monotonic() < deadline and self.watchdog.poll() is None and not self.draining:
            try:
                with urllib.request.urlopen(url, timeout=2):  # noqa: S310 (our own loopback address)
                    return True
            except (urllib.error.URLError, TimeoutError, ConnectionError):
                time.sleep(0.05)
        if time.monotonic() >= deadline:
            print(f"towpath: no answer from {url}; see {self.settings.log_file}", file=sys.stderr)
        return False

    def _say_where(self) -> None:
        settings = self.settings
        print(f"  REST        {settings.url}/api/v2   (OpenAPI: {settings.url}/api/v2/openapi.json)")
        print(f"  data        {settings.data}   (log of the platform: {settings.log_file.name})")
        if self.is_new:
            print(f"  API key     {settings.api_key.read_text().strip()}   (shown once; kept in {settings.api_key})")
        else:
            print(f"  API key     in {settings.api_key}")
        if settings.egress_allow:
            print(f"  egress      TOWPATH_EGRESS_ALLOW={settings.egress_allow}   (beside the public network)")
        if not settings.browser:
            print("  browser     none: only workflows without pages run, and no demo (set TOWPATH_BROWSER)")
        elif os.geteuid() == 0:
            print("  WARNING     running as root: Chromium's sandbox is OFF. Use an ordinary user for foreign sites.")
        print(flush=True)

    def _start_shop(self) -> None:
        """Before the platform: a run that was interrupted goes on at once, and wants its shop."""
        self._start(shop_arguments(self.settings, self.settings.port + 1), signal.SIGTERM)

    def _wait(self, demo: subprocess.Popen[bytes] | None) -> int:
        assert self.watchdog is not None
        if demo is not None:
            while demo.poll() is None and self.watchdog.poll() is None:
                time.sleep(0.1)
        if self.watchdog.poll() is None and not self.draining:
            print(f"\nTowpath keeps serving on {self.settings.url}. Ctrl-C ends it.", flush=True)
        return self._end()

    def _end(self) -> int:
        assert self.watchdog is not None
        code = self.watchdog.wait()
        if code < 0:
            sweep_leftovers(self.settings)
            print(f"towpath: the watchdog was killed (signal {-code}); `make run` starts again", file=sys.stderr)
            return 1
        if code not in (0, REFUSED_EXIT_CODE) and not self.draining:
            print(f"towpath: the platform ended with code {code}; `make run` starts it again", file=sys.stderr)
        return 0 if self.draining else code

    def _drain(self, *_: object) -> None:
        if not self.draining:
            self.draining = True
            print("\nTowpath drains: running work ends or is handed back. Once more to end at once.", flush=True)
        if self.watchdog is not None and self.watchdog.poll() is None:
            self.watchdog.send_signal(signal.SIGTERM)

    def _stop_rest(self) -> None:
        for child in self.children:
            if child.poll() is None:
                child.terminate()
        for child in self.children:
            try:
                child.wait(timeout=self.settings.drain_seconds + 15 if child is self.watchdog else 5)
            except subprocess.TimeoutExpired:
                child.kill()
