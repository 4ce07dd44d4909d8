"""PostgreSQL as a local process, from the binaries of this machine.

The server refuses to run as root; then it runs as the system user `postgres`, which owns the data folder. That user is
given one right of root's, to pass through folders that only root may enter, as the data folder may lie below one.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from cluster.components.process import Process, end_those_in, kept_port
from cluster.components.tools import bring
from embedded.folder import kept_text
from kernel.errors import Permanent

_START_SECONDS = 60.0
_STOP_SECONDS = 20.0
_USER = "towpath"
_SYSTEM_USER = "postgres"


class LocalPostgres:
    """A server in `folder`; `with` starts it, and stops it at the end. The folder is kept unless somebody removes it.

    No second object may have the folder: who starts a server there ends what a former one left behind.

    `durable=False` does not wait for the disk, for tests: what was committed is lost with the machine, not with the
    server. `start` raises `Permanent("component_missing")` without PostgreSQL, `Permanent("component_failed")` when it
    does not come up.
    """

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = kept_port(folder / "port")
        self._durable = durable
        self._data = folder / "data"
        self._password = folder / "password"
        self._process = Process("PostgreSQL", folder / "postgres.log")

    @property
    def url(self) -> str:
        """How the superuser of this server reaches the database `towpath`; a secret, as it holds the password."""
        password = quote(self._password.read_text().strip(), safe="")
        return f"postgresql://{_USER}:{password}@127.0.0.1:{self.port}/{_USER}"

    @property
    def pid(self) -> int | None:
        """The process of the running server."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the server exists, be it paused."""
        return self._process.is_running

    def start(self) -> None:
        """Make the data folder at the first start, start the server, wait until it takes connections."""
        binaries = bring("postgres")
        if not (self._data / "PG_VERSION").exists():
            self._make(binaries)
        # Workers of a server that was killed alone may still write. With them gone, so is the reason for its lock file.
        end_those_in(self._data)
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        fast = [] if self._durable else ["-c", "fsync=off", "-c", "full_page_writes=off"]
        where = ["-D", str(self._data), "-p", str(self.port), "-c", "listen_addresses=127.0.0.1"]
        limits = ["-c", "unix_socket_directories=", "-c", "max_connections=200"]
        self._process.start(_as_server([str(binaries / "postgres"), *where, *limits, *fast]))
        self._process.await_ready(self._is_ready, _START_SECONDS)

    def stop(self) -> None:
        """End it in order; connections are cut, transactions that are open are undone."""
        self._process.stop(signal.SIGINT, _STOP_SECONDS)

    def kill(self) -> None:
        """End the server and all its workers by SIGKILL."""
        self._process.kill()

    def pause(self) -> None:
        """Let the server and all its workers hang until `resume`."""
        self._process.pause()

    def resume(self) -> None:
        """Let a paused server go on."""
        self._process.resume()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _is_ready(self) -> bool:
        """What `pg_ctl -w` looks for: the server writes its state as the last line of its lock file."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[7].strip() == "ready"

    def _make(self, binaries: Path) -> None:
        """`initdb`, and the database. What was begun and not finished is thrown away."""
        making = self.folder / "data.part"
        shutil.rmtree(making, ignore_errors=True)
        shutil.rmtree(self._data, ignore_errors=True)
        making.mkdir(mode=0o700)
        password = kept_text(self._password, lambda: secrets.token_urlsafe(24))
        if os.geteuid() == 0:
            owner = pwd.getpwnam(_SYSTEM_USER)
            os.chown(making, owner.pw_uid, owner.pw_gid)
        sync = [] if self._durable else ["--no-sync"]
        how = ["-A", "scram-sha-256", "-U", _USER, "--encoding=UTF8", "--locale=C.UTF-8", "--pwfile=/dev/stdin"]
        _run([str(binaries / "initdb"), "-D", str(making), *how, *sync], password)
        _run([str(binaries / "postgres"), "--single", "-D", str(making), "postgres"], f"CREATE DATABASE {_USER}\n")
        making.rename(self._data)


def _as_server(command: list[str]) -> list[str]:
    """`command` as it is for an ordinary user; for root as the system user, still dying with its parent."""
    if os.geteuid() != 0:
        return command
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise Permanent("component_missing", "PostgreSQL does not run as root, and `setpriv` is missing (util-linux)")
    change = ["--reuid", _SYSTEM_USER, "--regid", _SYSTEM_USER, "--clear-groups", "--pdeathsig", "KILL"]
    return [setpriv, *change, "--inh-caps=+dac_override", "--ambient-caps=+dac_override", "--", *command]


def _run(command: list[str], told: str) -> None:
    done = subprocess.run(_as_server(command), input=told, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Permanent("component_failed", f"{Path(command[0]).name} failed:\n{done.stdout}{done.stderr}")
