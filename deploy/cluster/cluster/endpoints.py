"""What runs where, written down for programs: `endpoints.json` in the folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from cluster.components.s3 import key_files
from cluster.layout import Layout
from cluster.parts import Part, Service
from cluster.servers import BUCKET, Servers
from embedded.folder import write_private
from kernel.errors import Permanent


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


def environment_of(layout: Layout) -> Mapping[str, str]:
    """Where the running servers are, as services are told it. `Permanent("not_started")` when the file is not there."""
    try:
        told = json.loads(layout.endpoints.read_bytes())
    except FileNotFoundError as error:
        raise Permanent("not_started", f"{layout.endpoints} is not there: wait until everything is ready") from error
    access_key, secret_key = key_files(layout.s3)
    return {
        "TOWPATH_KAFKA": told["kafka"],
        "TOWPATH_POSTGRES_URL_FILE": str(layout.keys.of("postgres", "url")),
        "ARTIFACT_STORE_S3_BUCKET": told["s3_bucket"],
        "ARTIFACT_STORE_S3_ENDPOINT": told["s3"],
        "ARTIFACT_STORE_S3_ACCESS_KEY_PATH": str(access_key),
        "ARTIFACT_STORE_S3_SECRET_KEY_PATH": str(secret_key),
    }


def _process(part: Part) -> dict[str, object]:
    told: dict[str, object] = {"name": part.name, "address": part.address, "pids": list(part.pids)}
    if isinstance(part, Service):
        told |= {"health": part.health, "log": str(part.log)}
    return told
