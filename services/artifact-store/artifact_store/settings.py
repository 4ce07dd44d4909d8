"""What an operator may set of the artifact store; one field per environment variable `ARTIFACT_STORE_<FIELD>`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernel.errors import Permanent

_PREFIX = "ARTIFACT_STORE_"


@dataclass(frozen=True, slots=True)
class Settings:
    """Meaning, unit and default of each setting. Keys are files: an environment is too easily shown."""

    folder: Path
    """Where blobs lie; one process owns it."""
    keyring_path: Path
    """The keys above all secrets; made at the first start. Keep it apart from the database, and back it up."""
    gateway_key_path: Path
    """What the gateway proves itself by: a file with one line."""
    runner_key_path: Path
    """What runners prove themselves by: a file with one line, another than the gateway's."""
    address: str = "127.0.0.1:8443"
    """Where to listen; loopback until TLS and a wider address are set on purpose."""
    tls_certificate_path: Path | None = None
    """PEM chain of the listening port; without it the port speaks plain text."""
    tls_key_path: Path | None = None
    """PEM key of the certificate."""
    blob_bytes_max: int = 2 * 1024**3
    """Longest blob: a trace or a download of a long run stays far below."""
    sweep_seconds: float = 3600.0
    """Pause between two sweeps of what expired; bytes wait a day for their fact, so an hour is exact enough."""
    drain_seconds: float = 30.0
    """How long running streams may go on after SIGTERM; clients resume what is cut."""


def settings_from(environment: Mapping[str, str]) -> Settings:
    """Settings of an environment. `Permanent("setting_missing")` or `("setting_malformed")` names the variable."""
    read = _Reader(environment)
    certificate, key = read.path("tls_certificate_path"), read.path("tls_key_path")
    if (certificate is None) != (key is None):
        raise Permanent("setting_missing", f"{_PREFIX}TLS_CERTIFICATE_PATH and {_PREFIX}TLS_KEY_PATH go together")
    optional: dict[str, Any] = {
        "address": read.text("address"),
        "tls_certificate_path": certificate,
        "tls_key_path": key,
        "blob_bytes_max": read.number("blob_bytes_max", int),
        "sweep_seconds": read.number("sweep_seconds", float),
        "drain_seconds": read.number("drain_seconds", float),
    }
    return Settings(
        folder=read.required_path("folder"),
        keyring_path=read.required_path("keyring_path"),
        gateway_key_path=read.required_path("gateway_key_path"),
        runner_key_path=read.required_path("runner_key_path"),
        **{name: value for name, value in optional.items() if value is not None},
    )


@dataclass(frozen=True, slots=True)
class _Reader:
    """One environment; an empty variable counts as none."""

    environment: Mapping[str, str]

    def text(self, name: str) -> str | None:
        return self.environment.get(_PREFIX + name.upper()) or None

    def path(self, name: str) -> Path | None:
        value = self.text(name)
        return None if value is None else Path(value)

    def required_path(self, name: str) -> Path:
        path = self.path(name)
        if path is None:
            raise Permanent("setting_missing", f"set {_PREFIX}{name.upper()}")
        return path

    def number(self, name: str, kind: type[int | float]) -> float | None:
        value = self.text(name)
        try:
            return None if value is None else kind(value)
        except ValueError:
            raise Permanent("setting_malformed", f"{_PREFIX}{name.upper()} is no number") from None
