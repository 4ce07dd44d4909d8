"""Where things lie in the folder of a local cluster, and what may be set of it.

The settings are those of the embedded form, as far as they make sense here: the same `TOWPATH_PORT`, the same
`api-key` file, the same demo. Only the folder is another one, `.towpath-cluster`, and `TOWPATH_COPIES` says how many of
each service run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.keys import Keys
from embedded.settings import Settings, read_settings
from kernel.errors import Rejected

FOLDER = ".towpath-cluster"
PARTITIONS = 4
"""Of every topic: few batch better on one machine; fixed when the topics are made."""
COPIES = 2
"""Of each service: enough that others take over."""
_COPIES_MAX = 8


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths of one folder; `settings` are the operator's, `copies` how many of each service run."""

    settings: Settings
    copies: int = COPIES

    @property
    def data(self) -> Path:
        """The folder that holds everything."""
        return self.settings.data

    @property
    def kafka(self) -> Path:
        """The broker's own folder."""
        return self.data / "kafka"

    @property
    def postgres(self) -> Path:
        """PostgreSQL's own folder."""
        return self.data / "postgres"

    @property
    def s3(self) -> Path:
        """The S3 server's own folder."""
        return self.data / "s3"

    @property
    def logs(self) -> Path:
        """What each service says, a file for each."""
        return self.data / "logs"

    @property
    def log_files(self) -> Sequence[Path]:
        """What services and servers say, as far as there is any yet."""
        servers = (*self.kafka.glob("node-*.log"), self.postgres / "postgres.log", self.s3 / "s3.log")
        return [*self.logs.glob("*.log"), *servers]

    @property
    def keys(self) -> Keys:
        """Secrets of the services."""
        return Keys(self.data / "keys")

    @property
    def endpoints(self) -> Path:
        """What runs where, as JSON; only its owner reads it, as it holds the database's password."""
        return self.data / "endpoints.json"


def read_layout(environ: Mapping[str, str] | None = None) -> Layout:
    """The layout that the environment asks for. `Rejected("setting_invalid")` names the variable that is wrong."""
    source = os.environ if environ is None else environ
    settings = read_settings({**source, "TOWPATH_DATA": source.get("TOWPATH_DATA") or FOLDER})
    layout = Layout(settings, _copies(source.get("TOWPATH_COPIES") or str(COPIES)))
    if layout.settings.database.exists():
        raise Rejected("setting_invalid", f"TOWPATH_DATA: {layout.data} is a folder of `make run`; name another one")
    return layout


def _copies(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _COPIES_MAX:
        raise Rejected("setting_invalid", f"TOWPATH_COPIES: {text!r} is no number from 1 to {_COPIES_MAX}")
    return int(text)
