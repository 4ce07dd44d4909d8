"""What may be set of the embedded platform, all from the environment, and where things lie in its folder."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kernel.egress.policy import parse_networks
from kernel.errors import Rejected

_SCRATCH_BYTES_MAX = 60
"""Of the 107 that a socket's path may have, Chromium adds up to 46."""

PARTITIONS = 4
"""Partitions of every topic: few batch better on few cores; fixed when the folder is made."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Meaning, default and reason of each setting."""

    data: Path
    """`TOWPATH_DATA`: the folder that holds everything; default `.towpath` below the working directory."""
    port: int = 8700
    """`TOWPATH_PORT`: where REST is served on 127.0.0.1."""
    demo: bool = True
    """`TOWPATH_DEMO`: 0 starts neither the demo shop nor the demo."""
    egress_allow: str = ""
    """`TOWPATH_EGRESS_ALLOW`: networks that workflows may reach although they are not public, comma separated."""
    browser: str = ""
    """`TOWPATH_BROWSER`: path of the Chromium binary. Empty: only workflows without pages run."""
    browser_slots: int = 2
    """`TOWPATH_BROWSER_SLOTS`: browser tasks at a time; one run per core is the sweet spot."""
    light_slots: int = 64
    """`TOWPATH_LIGHT_SLOTS`: tasks without pages at a time."""
    rate_per_minute: int = 600
    """`TOWPATH_RATE_PER_MINUTE`: calls that one API key may make a minute; 0: no limit."""
    rate_burst: int = 100
    """`TOWPATH_RATE_BURST`: how many of them at once; what was not used gathers up to this."""
    address_rate_per_minute: int = 600
    """`TOWPATH_ADDRESS_RATE_PER_MINUTE`: calls without a valid key from one address a minute, signed URLs among them;
    0: no limit."""
    address_rate_burst: int = 200
    """`TOWPATH_ADDRESS_RATE_BURST`: how many of them at once."""
    open_requests_max: int = 200
    """`TOWPATH_OPEN_REQUESTS_MAX`: requests of one organization under way at a time; 0: no limit."""
    open_streams_max: int = 200
    """`TOWPATH_OPEN_STREAMS_MAX`: live streams, long polls and downloads of one organization at a time; 0: no limit."""
    trusted_proxies: str = ""
    """`TOWPATH_TRUSTED_PROXIES`: networks of reverse proxies whose `X-Forwarded-For` is believed, comma separated."""
    retention_days: int = 0
    """`TOWPATH_RETENTION_DAYS`: ended runs are forgotten after so many days, with everything they left; 0: never."""
    drain_seconds: float = 20.0
    """`TOWPATH_DRAIN_SECONDS`: what running attempts get to end or hand back on Ctrl-C."""

    @property
    def url(self) -> str:
        """Where the gateway is reached."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def allows_loopback(self) -> bool:
        """Whether workflows may reach this machine, as the demo's do."""
        return any(network.is_loopback for network in parse_networks(self.egress_allow))

    @property
    def database(self) -> Path:
        """Log, read models and vault."""
        return self.data / "towpath.sqlite"

    @property
    def blobs(self) -> Path:
        """Bytes of artifacts."""
        return self.data / "blobs"

    @property
    def keyring(self) -> Path:
        """Keys that wrap the vault's keys; back it up apart from the rest."""
        return self.data / "keyring.json"

    @property
    def api_key(self) -> Path:
        """The key that was printed at the first start."""
        return self.data / "api-key"

    @property
    def log_file(self) -> Path:
        """What the platform says, as JSON lines."""
        return self.data / "platform.log"

    @property
    def scratch(self) -> Path:
        """Profiles and downloads while browsers use them; emptied at every start and after every death.

        Chromium opens a socket below it, and the path of a socket is short.
        """
        inside = self.data / "tmp"
        if len(os.fsencode(inside)) <= _SCRATCH_BYTES_MAX:
            return inside
        return Path(f"/tmp/towpath-{os.geteuid()}-{zlib.crc32(os.fsencode(self.data)):08x}")  # noqa: S108 (made anew, 0700)

    @property
    def shop_log(self) -> Path:
        """The demo shop's own memory: what was collected."""
        return self.data / "demo-shop" / "collected.jsonl"

    @property
    def shop_address(self) -> Path:
        """Where the demo shop serves, kept so that an interrupted run finds it again."""
        return self.data / "demo-shop" / "url"


def read_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from the environment; `Rejected("setting_invalid")` names the variable that is wrong."""
    source = os.environ if environ is None else environ
    return Settings(
        data=Path(source.get("TOWPATH_DATA") or ".towpath").absolute(),
        port=_number(source, "TOWPATH_PORT", 8700, 1, 65535),
        demo=source.get("TOWPATH_DEMO", "1") not in {"0", "no", "false"},
        egress_allow=_networks(source, "TOWPATH_EGRESS_ALLOW"),
        browser=source.get("TOWPATH_BROWSER", ""),
        browser_slots=_number(source, "TOWPATH_BROWSER_SLOTS", 2, 1, 64),
        light_slots=_number(source, "TOWPATH_LIGHT_SLOTS", 64, 1, 500),
        rate_per_minute=_number(source, "TOWPATH_RATE_PER_MINUTE", 600, 0, 1_000_000),
        rate_burst=_number(source, "TOWPATH_RATE_BURST", 100, 1, 1_000_000),
        address_rate_per_minute=_number(source, "TOWPATH_ADDRESS_RATE_PER_MINUTE", 600, 0, 1_000_000),
        address_rate_burst=_number(source, "TOWPATH_ADDRESS_RATE_BURST", 200, 1, 1_000_000),
        open_requests_max=_number(source, "TOWPATH_OPEN_REQUESTS_MAX", 200, 0, 100_000),
        open_streams_max=_number(source, "TOWPATH_OPEN_STREAMS_MAX", 200, 0, 100_000),
        trusted_proxies=_networks(source, "TOWPATH_TRUSTED_PROXIES"),
        retention_days=_number(source, "TOWPATH_RETENTION_DAYS", 0, 0, 36_500),
        drain_seconds=float(_number(source, "TOWPATH_DRAIN_SECONDS", 20, 1, 3600)),
    )


def _networks(source: Mapping[str, str], name: str) -> str:
    text = source.get(name, "")
    try:
        parse_networks(text)
    except ValueError as error:
        raise Rejected("setting_invalid", f"{name}: {error}") from None
    return text


def _number(source: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = source.get(name) or str(default)
    if not text.isdecimal() or not low <= int(text) <= high:
        raise Rejected("setting_invalid", f"{name}: {text!r} is no number from {low} to {high}")
    return int(text)
