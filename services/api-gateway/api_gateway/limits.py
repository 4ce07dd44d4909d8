"""All limits of the gateway, as its settings name them: calls a minute, and open calls."""

from __future__ import annotations

from dataclasses import dataclass

from api_gateway.client_address import Networks
from api_gateway.limiter import Limiter
from api_gateway.open_calls import OpenCalls
from api_gateway.rates import Rate
from api_gateway.settings import Settings
from kernel.clock import Clock
from kernel.sql.port import Database


@dataclass(frozen=True, slots=True)
class Limits:
    """`keys` and `addresses` are shared by all replicas, what is open is counted in each."""

    keys: Limiter
    addresses: Limiter
    requests: OpenCalls
    streams: OpenCalls
    trusted_proxies: Networks


def limits_of(settings: Settings, db: Database, clock: Clock) -> Limits:
    """The limits that `settings` name."""
    return Limits(
        keys=Limiter(db, clock, "key", Rate(settings.rate_per_minute, settings.rate_burst)),
        addresses=Limiter(db, clock, "address", Rate(settings.address_rate_per_minute, settings.address_rate_burst)),
        requests=OpenCalls("requests", settings.open_requests_max),
        streams=OpenCalls("streams", settings.open_streams_max),
        trusted_proxies=settings.trusted_proxies,
    )
