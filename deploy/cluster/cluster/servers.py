"""The three servers that the services stand on, and what a service is told about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster.components.kafka import LocalKafka
from cluster.components.postgres import LocalPostgres
from cluster.components.s3 import LocalS3
from cluster.layout import Layout
from embedded.folder import write_private

BUCKET = "towpath"


class Startable(Protocol):
    """What the three have in common."""

    @property
    def is_running(self) -> bool: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def kill(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Server:
    """One of the servers, as a part that the launcher keeps running."""

    name: str
    server: Startable
    address: str
    pids_now: Callable[[], Sequence[int]]

    @property
    def is_running(self) -> bool:
        """Whether its process exists."""
        return self.server.is_running

    @property
    def pids(self) -> Sequence[int]:
        """Its process, while it runs."""
        return self.pids_now()

    def start(self) -> None:
        """Start it; blocks until it answers. Raises `Permanent` when it cannot."""
        self.server.start()

    def stop(self) -> None:
        """End it in order; blocks."""
        self.server.stop()

    def kill(self) -> None:
        """End it at once."""
        self.server.kill()


class Servers:
    """Kafka, PostgreSQL and the S3 server of one folder."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.kafka = LocalKafka(layout.kafka)
        self.postgres = LocalPostgres(layout.postgres)
        self.s3 = LocalS3(layout.s3)
        self.parts = [
            Server("kafka", self.kafka, self.kafka.bootstrap, lambda: list(self.kafka.pids.values())),
            Server("postgres", self.postgres, f"127.0.0.1:{self.postgres.port}", lambda: _known(self.postgres.pid)),
            Server("s3", self.s3, self.s3.endpoint, lambda: _known(self.s3.pid)),
        ]

    def environment(self) -> Mapping[str, str]:
        """Where services find them, once they have been started; secrets as files."""
        url = self._layout.keys.of("postgres", "url")
        write_private(url, self.postgres.url + "\n")
        return {
            "TOWPATH_KAFKA": self.kafka.bootstrap,
            "TOWPATH_POSTGRES_URL_FILE": str(url),
            "ARTIFACT_STORE_S3_BUCKET": BUCKET,
            "ARTIFACT_STORE_S3_ENDPOINT": self.s3.endpoint,
            "ARTIFACT_STORE_S3_ACCESS_KEY_PATH": str(self.s3.access_key_file),
            "ARTIFACT_STORE_S3_SECRET_KEY_PATH": str(self.s3.secret_key_file),
        }


def _known(pid: int | None) -> list[int]:
    return [] if pid is None else [pid]
