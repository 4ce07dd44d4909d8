"""What an operator may set of the artifact store; one field per environment variable `ARTIFACT_STORE_<FIELD>`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from kernel.errors import Permanent
from kernel.settings import Within, read_settings

_PREFIX = "ARTIFACT_STORE_"


@dataclass(frozen=True, slots=True)
class Settings:
    """Meaning, unit and default of each setting. Keys are files: an environment is too easily shown."""

    keyring_path: Path
    """The keys above all secrets; made at the first start. Keep it apart from the database, and back it up."""
    gateway_key_path: Path
    """What the gateway proves itself by: a file with one line."""
    runner_key_path: Path
    """What runners prove themselves by: a file with one line, another than the gateway's."""
    folder: Path | None = None
    """Where blobs lie, when they lie in a folder; one process owns it. Either this or a bucket."""
    s3_bucket: str | None = None
    """Where blobs lie, when they lie in an S3-compatible store, which any number of processes may use at once."""
    s3_endpoint: str | None = None
    """The store's address, `http(s)://host:port`; without it Amazon's own."""
    s3_region: str = "us-east-1"
    """The bucket's region; stores that know none take any."""
    s3_prefix: str = ""
    """What every key begins with, so that a bucket may be shared."""
    s3_access_key_path: Path | None = None
    """A file with the access key; without it as Amazon's tools find credentials (role of the machine, profile)."""
    s3_secret_key_path: Path | None = None
    """A file with the secret key that goes with it."""
    address: str = "127.0.0.1:8443"
    """Where to listen; loopback until TLS and a wider address are set on purpose."""
    tls_certificate_path: Path | None = None
    """PEM chain of the listening port; without it the port speaks plain text."""
    tls_key_path: Path | None = None
    """PEM key of the certificate."""
    blob_bytes_max: Annotated[int, Within(1, 2**40)] = 2 * 1024**3
    """Longest blob: a trace or a download of a long run stays far below."""
    sweep_seconds: Annotated[float, Within(1, 86_400)] = 3600.0
    """Pause between two sweeps of what expired; bytes wait a day for their fact, so an hour is exact enough."""
    drain_seconds: Annotated[float, Within(0, 3600)] = 30.0
    """How long running streams may go on after SIGTERM; clients resume what is cut."""


def settings_from(environment: Mapping[str, str]) -> Settings:
    """Settings of an environment. `Permanent("setting_missing")` or `("setting_malformed")` names the variable."""
    settings = read_settings(Settings, _PREFIX, environment)
    if (settings.tls_certificate_path is None) != (settings.tls_key_path is None):
        raise Permanent("setting_missing", f"{_PREFIX}TLS_CERTIFICATE_PATH and {_PREFIX}TLS_KEY_PATH go together")
    if (settings.folder is None) == (not settings.s3_bucket):
        raise Permanent("setting_missing", f"set either {_PREFIX}FOLDER or {_PREFIX}S3_BUCKET")
    if (settings.s3_access_key_path is None) != (settings.s3_secret_key_path is None):
        raise Permanent("setting_missing", f"{_PREFIX}S3_ACCESS_KEY_PATH and {_PREFIX}S3_SECRET_KEY_PATH go together")
    return settings
