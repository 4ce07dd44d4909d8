"""What an operator may set of the gateway; one field per environment variable `API_GATEWAY_<FIELD>`."""

from __future__ import annotations

from dataclasses import dataclass, field

from api_gateway.client_address import Networks
from api_gateway.signed_url import SigningKeys


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
    """A request read later than this is rejected: it may be a late copy (design 4.7)."""
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
