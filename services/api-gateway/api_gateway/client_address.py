"""From which address a call comes, for limits of callers without a key. Pure.

Behind a proxy of our own every call comes from that proxy. What it says in `X-Forwarded-For` is believed only when the
peer is one of the networks that the operator names; the last address in it that is not such a proxy is the caller's.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

Networks = Sequence[IPv4Network | IPv6Network]
UNKNOWN = "unknown"
_V6_PREFIX = 64
"""One customer of a provider has this many leading bits for themselves."""


def client_address(peer: str | None, forwarded: str, trusted: Networks) -> str:
    """The caller's address; of an IPv6 one its network of 64 bits. What is no address counts as one unknown caller."""
    found = peer or UNKNOWN
    for hop in (text.strip() for text in reversed(forwarded.split(","))):
        if not hop or not _is_in(found, trusted):
            break
        found = hop
    return _shortened(found)


def _is_in(text: str, networks: Networks) -> bool:
    try:
        address = ip_address(text)
    except ValueError:
        return False
    return any(address in network for network in networks)


def _shortened(text: str) -> str:
    try:
        address = ip_address(text)
    except ValueError:
        return UNKNOWN
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Network((address, _V6_PREFIX), strict=False))
