"""Holds one server for a run of pytest: `python -m tests.support.components_holder KIND FOLDER`."""

from __future__ import annotations

import fcntl
import json
import shutil
import sys
from pathlib import Path

from cluster.components.kafka import LocalKafka
from cluster.components.postgres import LocalPostgres
from cluster.components.s3 import LocalS3
from tests.support.components import kafka_nodes


def _start(kind: str, folder: Path) -> tuple[LocalKafka | LocalPostgres | LocalS3, dict[str, str]]:
    match kind:
        case "kafka":
            brokers = LocalKafka(folder, kafka_nodes())
            brokers.start()
            return brokers, {"bootstrap": brokers.bootstrap}
        case "postgres":
            database = LocalPostgres(folder, durable=False)
            database.start()
            return database, {"url": database.url}
        case _:
            store = LocalS3(folder)
            store.start()
            keys = {"access_key": store.access_key, "secret_key": store.secret_key}
            return store, {"endpoint": store.endpoint, **keys}


def main() -> None:
    """Start the server, tell its addresses, wait until nobody uses it, end it and remove its folder."""
    kind, folder = sys.argv[1], Path(sys.argv[2])
    server, addresses = _start(kind, folder / "server")
    part = folder / "addresses.part"
    part.write_text(json.dumps(addresses))
    part.rename(folder / "addresses.json")
    with (folder / "users").open("r+b") as users:
        fcntl.flock(users, fcntl.LOCK_EX)
        server.kill()
        ended = folder.with_name(f"ended-{folder.name}")
        folder.rename(ended)
        shutil.rmtree(ended)


if __name__ == "__main__":
    main()
