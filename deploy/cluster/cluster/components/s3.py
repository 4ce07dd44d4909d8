"""An S3 server as a local process: versitygw over a folder. It has all that the artifact store uses, but lifecycles."""

from __future__ import annotations

import os
import secrets
import signal
from pathlib import Path
from types import TracebackType
from typing import Self

from cluster.components.process import Process, answers, kept_port
from cluster.components.tools import bring
from embedded.folder import kept_text

_START_SECONDS = 30.0
_STOP_SECONDS = 10.0


def key_files(folder: Path) -> tuple[Path, Path]:
    """Where the account of the server in `folder` is written down: access key, secret key."""
    return folder / "access-key", folder / "secret-key"


class LocalS3:
    """A server in `folder`; `with` starts it, and stops it at the end.

    The folder is kept unless somebody removes it, with the keys. `start` raises `Permanent("component_missing")`
    without the program, `Permanent("component_failed")` when it does not come up. Bring it beforehand: it may be built.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = kept_port(folder / "port")
        self.access_key_file, self.secret_key_file = key_files(folder)
        self.access_key = kept_text(self.access_key_file, lambda: f"towpath{secrets.token_hex(6)}")
        self.secret_key = kept_text(self.secret_key_file, lambda: secrets.token_urlsafe(30))
        self._data = folder / "data"
        self._process = Process("the S3 server", folder / "s3.log")

    @property
    def endpoint(self) -> str:
        """The base URL; buckets are the first part of the path."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """The process of the running server."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the server exists, be it paused."""
        return self._process.is_running

    def start(self) -> None:
        """Start the server, wait until it takes connections."""
        program = bring("versitygw")
        self._data.mkdir(exist_ok=True)
        environment = {**os.environ, "ROOT_ACCESS_KEY": self.access_key, "ROOT_SECRET_KEY": self.secret_key}
        where = ["--port", f"127.0.0.1:{self.port}", "--quiet", "posix"]
        self._process.start([str(program), *where, *self._attributes(), str(self._data)], environment)
        self._process.await_ready(lambda: answers(self.port), _START_SECONDS)

    def stop(self) -> None:
        """End it in order."""
        self._process.stop(signal.SIGTERM, _STOP_SECONDS)

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._process.kill()

    def pause(self) -> None:
        """Let it hang until `resume`."""
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

    def _attributes(self) -> list[str]:
        """Where it keeps what it knows about objects: with the files, else beside them where the disk cannot."""
        beside = self.folder / "attributes"
        try:
            os.setxattr(self._data, "user.towpath", b"1")
        except OSError:
            beside.mkdir(exist_ok=True)
        return ["--sidecar", str(beside)] if beside.exists() else []
