"""What an operator may set of the gateway; one field per environment variable `API_GATEWAY_<FIELD>`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from api_gateway.client_address import Networks
from api_gateway.signed_url import SigningKeys
from kernel.egress.policy import parse_networks
from kernel.errors import Permanent
from kernel.listening import Address
from kernel.settings import Form, SecretText, Within, read_settings

_PREFIX = "API_GATEWAY_"


@dataclass(frozen=True, slots=True)
class Settings:
    """Meaning, unit and default of each setting."""

    pepper: bytes = field(repr=False)
    """Server secret of the keyed hashes of API keys; 32 random bytes. Changing it makes every key unknown."""
    signing_keys: SigningKeys = field(repr=False)
    """Keys of signed artifact URLs; a second one is kept for the quarter of an hour after a rotation."""
    public_url: str = "http://127.0.0.1:8080"
    """Where callers reach this gateway; the start of every signed URL."""
    outcome_wait_seconds: float = 5.0
    """How long a POST waits for its outcome before it answers 503; the request itself is not lost."""
    request_validity_seconds: int = 600
    """A request read later than this is rejected: it may be a late copy."""
    body_bytes_max: int = 1024 * 1024
    """Longest request body."""
    body_seconds_max: float = 30.0
    """How long the body of a request may take to arrive."""
    rate_per_minute: int = 600
    """Calls that one API key may make a minute, over all replicas; 0: no limit."""
    rate_burst: int = 100
    """Of these, how many at once; what was not used gathers up to this."""
    address_rate_per_minute: int = 600
    """Calls without a valid key (failed ones, signed URLs, documents) from one address; 0: no limit."""
    address_rate_burst: int = 200
    """Of these, how many at once: a page that shows many artifacts fetches them together."""
    open_requests_max: int = 200
    """Requests of one organization under way at a time, in one process; 0: no limit."""
    open_streams_max: int = 200
    """Live streams, long polls and downloads of one organization at a time, in one process; 0: no limit."""
    trusted_proxies: Networks = ()
    """Networks of reverse proxies whose `X-Forwarded-For` is believed."""
    event_wait_seconds_max: int = 30
    """Longest long poll for run events."""
    heartbeat_seconds: float = 15.0
    """Silence after which a live stream sends a comment, so that proxies keep it open."""
    open_hosts: frozenset[str] = frozenset()
    """Private hosts that workflows may name; loopback is a development setting."""


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """What only a gateway that is a process of its own reads; meaning, unit and default of each setting."""

    store: str
    """Where the artifact store listens: `host:port` of a name that stands for all of them, or `ip:port,ip:port`."""
    store_key: SecretText = field(repr=False)
    """What the gateway proves itself to the artifact store by: its gateway key."""
    store_ca_path: Path | None = None
    """PEM certificate that the artifact store's is checked against; without it the line is plain text."""
    address: Address = Address("127.0.0.1", 8080)  # noqa: RUF009 (it never changes)
    """Where to listen; loopback until a wider address is set on purpose. TLS is the work of what stands in front."""
    session_ms: Annotated[int, Within(1000, 60_000)] = 2000
    """Silence after which others take over this process's share of definitions and projections; see the scheduler's."""
    retention_days: Annotated[int, Within(0, 36_500)] = 0
    """Ended runs are forgotten after so many days, with their rows and artifacts; 0: never. Their facts stay in the
    public topics for as long as these keep them (`retention.ms`)."""
    drain_seconds: Annotated[float, Within(0, 600)] = 5.0
    """What partitions get to be handed over after SIGTERM, once the open requests are answered."""


def settings_from(environment: Mapping[str, str]) -> tuple[Settings, ProcessSettings]:
    """Settings of an environment. `Permanent("setting_missing")` or `("setting_malformed")` names the variable."""
    settings = read_settings(Settings, _PREFIX, environment, FORMS)
    if not settings.pepper:
        raise Permanent("setting_missing", f"set {_PREFIX}PEPPER_FILE")
    return settings, read_settings(ProcessSettings, _PREFIX, environment, FORMS)


def signing_keys(text: str) -> SigningKeys:
    """Keys from lines of an id and hex digits; the first one signs. `ValueError` without naming what stands there."""
    try:
        keys = {name: bytes.fromhex(digits) for name, digits in (line.split() for line in text.splitlines() if line)}
    except ValueError:
        raise ValueError("is not made of lines with an id and hex digits") from None
    if not 0 < len(keys) <= 2:
        raise ValueError("holds no key, or more than two")
    return SigningKeys(next(iter(keys)), keys)


FORMS: Mapping[object, Form] = {
    SigningKeys: Form(signing_keys, is_secret=True),
    Address: Form(Address.parse),
    Networks: Form(parse_networks),
    frozenset[str]: Form(lambda text: frozenset(filter(None, (host.strip() for host in text.split(","))))),
}
