"""What runs where, written down for programs: `endpoints.json` in the folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from cluster.parts import Part, Service
from cluster.servers import BUCKET, Servers
from embedded.folder import write_private


def write_endpoints(path: Path, gateways: Sequence[str], servers: Servers, parts: Sequence[Part]) -> None:
    """Write the file whole; only its owner reads it, as it holds passwords."""
    said = {
        "gateway": gateways[0],
        "gateways": list(gateways),
        "kafka": servers.kafka.bootstrap,
        "postgres": servers.postgres.url,
        "s3": servers.s3.endpoint,
        "s3_bucket": BUCKET,
        "s3_access_key": servers.s3.access_key,
        "s3_secret_key": servers.s3.secret_key,
        "processes": [_process(part) for part in parts],
    }
    write_private(path, json.dumps(said, indent=2) + "\n")


def _process(part: Part) -> dict[str, object]:
    told: dict[str, object] = {"name": part.name, "address": part.address, "pids": list(part.pids)}
    if isinstance(part, Service):
        told |= {"health": part.health, "log": str(part.log)}
    return told
