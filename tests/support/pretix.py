"""pretix, a real application, on loopback: started over a fresh folder, filled, looked into, stopped.

    Pretix      one server with an event, 60 orders and a user who needs a code to log in

It is installed by `python3 -m tools.pretix`; tests that need it are skipped where it is not.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import sqlite3
import subprocess
import urllib.error
import urllib.request
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.support.platform_process import free_ports, until
from tests.support.requires import requires
from tools import pretix as installed

ORDERS = 60
START_SECONDS = 60.0
STOP_SECONDS = 20.0
_INSIDE = installed.TESTS / "inside"
_TOTP_KEY = b"a key of 20 bytes!!!"

needs_pretix = requires("pretix", available=installed.is_installed(), reason="python3 -m tools.pretix (a minute)")


@dataclass(frozen=True, slots=True)
class Account:
    """What its owner knows."""

    email: str = "box@corner.example"
    password: str = "Tide-and-lantern-58"
    totp_seed: str = field(default=base64.b32encode(_TOTP_KEY).decode(), repr=False)

    def inputs(self) -> dict[str, Any]:
        """The inputs of the login workflow."""
        return {"email": self.email, "password": self.password, "totp_seed": self.totp_seed}


@dataclass(frozen=True, slots=True)
class SeededOrder:
    """An order as the pages must show it."""

    code: str
    email: str
    total: str
    status: str

    @property
    def is_paid(self) -> bool:
        return self.status == "Paid"


class Pretix:
    """A running pretix. Use as a context manager; nothing outlives it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.account = Account()
        self.port = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self.orders: tuple[SeededOrder, ...] = ()
        """Newest first."""
        self.products: tuple[str, ...] = ()
        self._codes = folder / "codes.txt"
        self._server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        environ = installed.settings_in(self.folder, self.url) | {"PRETIX_CODES_FILE": str(self._codes)}
        self._codes.touch()
        installed.unpack_database(self.folder)
        self._seed(environ)
        self._start(environ)
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is None:
            return
        os.killpg(self._server.pid, signal.SIGTERM)
        try:
            self._server.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._server.pid, signal.SIGKILL)
            self._server.wait(STOP_SECONDS)

    def _seed(self, environ: dict[str, str]) -> None:
        account = self.account
        asked = {"email": account.email, "password": account.password, "totp_key": _TOTP_KEY.hex(), "orders": ORDERS}
        done = subprocess.run(
            [installed.PYTHON, _INSIDE / "seed.py"],
            cwd=self.folder,
            env=environ,
            input=json.dumps(asked).encode(),
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")[-3000:]
        seeded = json.loads(done.stdout)
        self.products = tuple(seeded["products"])
        self.orders = tuple(SeededOrder(**order) for order in seeded["orders"])

    def _start(self, environ: dict[str, str]) -> None:
        command = [
            *(str(installed.PYTHON), "-m", "gunicorn", "serve:application", "--chdir", str(_INSIDE)),
            *("--workers", "1", "--threads", "4", "--bind", f"127.0.0.1:{self.port}", "--no-control-socket"),
        ]
        with (self.folder / "server.log").open("wb") as log:
            self._server = subprocess.Popen(
                command, cwd=self.folder, env=environ, stdout=log, stderr=log, start_new_session=True
            )
        until(self._answers, START_SECONDS, f"an answer of pretix; {self.said()}", pause_seconds=0.1)

    def _answers(self) -> bool:
        assert self._server is not None
        assert self._server.poll() is None, f"pretix ended: {self.said()}"
        try:
            with urllib.request.urlopen(f"{self.url}/control/login", timeout=30) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def said(self) -> str:
        """The end of the server's log."""
        log = self.folder / "server.log"
        return log.read_text(errors="replace")[-3000:] if log.exists() else ""

    # ------------------------------------------------------------ what it holds

    def quotas(self) -> list[str]:
        """The name of every quota, in the order they were made; a name that was made twice stands twice."""
        return [name for (name,) in self._rows("SELECT name FROM pretixbase_quota ORDER BY id")]

    def codes(self) -> list[str]:
        """Every code of the authenticator app that was sent, oldest first."""
        return self._codes.read_text().split()

    def rejected_codes(self) -> int:
        """How many wrong codes in a row pretix has seen."""
        return int(self._rows("SELECT throttling_failure_count FROM otp_totp_totpdevice")[0][0])

    def end_sessions(self) -> int:
        """Log everybody out, as a restart with another secret would; how many sessions there were."""
        with closing(sqlite3.connect(self._database, timeout=30)) as connection, connection:
            return connection.execute("DELETE FROM django_session").rowcount

    @property
    def _database(self) -> Path:
        return self.folder / "data" / "db.sqlite3"

    def _rows(self, sql: str) -> list[Any]:
        with closing(sqlite3.connect(f"{self._database.as_uri()}?mode=ro", uri=True, timeout=30)) as connection:
            return connection.execute(sql).fetchall()
