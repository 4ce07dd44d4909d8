"""Which addresses, ports and host names Towpath may reach. Pure.

A name is judged by what it resolves to, never by how it is spelt: the caller resolves once, `decide` filters the
answer, and only an address that passed is dialled (`kernel.egress.dialer`), so a second resolution that says something
else (rebinding) is never asked for. `ipaddress.is_global` is no help: it calls NAT64 and 6to4 forms of loopback global,
so the networks are listed here. Hosts spelt as numbers (`0x7f.1`, `017700000001`, `[::ffff:127.0.0.1]`) go through one
parser that reads them as a browser does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

DENIED_NETWORKS: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # a cloud's host agent behind a public address
        "169.254.0.0/16",  # link-local, metadata services
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
        "::/96",  # unspecified, loopback, the old IPv4-compatible form
        "64:ff9b::/96",  # NAT64
        "64:ff9b:1::/48",  # NAT64, local use
        "100::/64",  # discard
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
        "5f00::/16",  # segment routing
        "fc00::/7",  # unique local
        "fe80::/10",  # link-local
        "fec0::/10",  # site-local
        "ff00::/8",  # multicast
    )
)

_NAT64 = IPv6Network("64:ff9b::/96")
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]{0,30}|0[0-7]{0,30}|[1-9][0-9]{0,30}")


class Reason(StrEnum):
    """Why something may not be reached; the label of `egress_denied_total`."""

    BAD_HOST = "bad_host"
    """Neither a name nor an address that every reader reads alike."""
    HOST = "host"
    """The run may not reach this host."""
    PORT = "port"
    ADDRESS = "address"
    """Every address of the host lies in a network that is closed."""
    UNRESOLVED = "unresolved"
    """The name has no address."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What this installation opens beside the public network: `allowed_networks` wins over the deny list."""

    allowed_networks: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class Allowed:
    """The addresses that may be dialled, in the resolver's order; at least one."""

    addresses: tuple[Address, ...]

    @property
    def address(self) -> Address:
        """The first of them."""
        return self.addresses[0]


@dataclass(frozen=True, slots=True)
class Denied:
    """Nothing may be dialled, and why."""

    reason: Reason


def parse_networks(text: str) -> tuple[Network, ...]:
    """Networks from a setting such as `127.0.0.0/8, ::1/128`; `ValueError` names the one that is none."""
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def parse_address(host: str) -> Address | None:
    """The address that `host` spells in any form a browser or a C library takes, or None for a name.

    `ValueError` when it looks like an address and is none (`1.2.3.256`, `0x7f.1.1.1.1`, a zone index), for such a host
    may mean one thing here and another to whoever resolves it.
    """
    if host.startswith("[") or ":" in host:
        return _parse_v6(host)
    parts = host.removesuffix(".").split(".")
    if not _is_number(parts[-1]):
        return None
    return _parse_v4(parts)


def _parse_v6(host: str) -> Address:
    inner = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if "%" in inner:
        raise ValueError(f"an address with a zone index: {host!r}")
    try:
        return canonical(IPv6Address(inner))
    except AddressValueError as error:
        raise ValueError(f"not an address: {host!r}") from error


def _is_number(part: str) -> bool:
    return part.isascii() and (part.isdigit() or part[:2].lower() == "0x")


def _parse_v4(parts: Sequence[str]) -> IPv4Address:
    numbers = [_parse_number(part) for part in parts]
    last_max = 256 ** (5 - len(numbers)) - 1
    if len(numbers) > 4 or any(number > 255 for number in numbers[:-1]) or numbers[-1] > last_max:
        raise ValueError(f"not an address: {'.'.join(parts)!r}")
    value = numbers[-1]
    for place, number in enumerate(numbers[:-1]):
        value |= number << (8 * (3 - place))
    return IPv4Address(value)


def _parse_number(part: str) -> int:
    """Decimal, octal with a leading zero, hexadecimal with `0x`; `0x` alone is zero, as browsers read it."""
    if _NUMBER.fullmatch(part) is None:
        raise ValueError(f"not a number: {part!r}")
    if part[:2].lower() == "0x":
        return int(part[2:] or "0", 16)
    return int(part, 8) if part.startswith("0") else int(part)


def canonical(address: Address) -> Address:
    """An IPv4-mapped address as the IPv4 address that the kernel dials for it; any other as it is."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _carried(address: Address) -> IPv4Address | None:
    """The IPv4 address that a NAT64 or 6to4 gateway on the way would dial for `address`."""
    if not isinstance(address, IPv6Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.sixtofour


def is_open_address(address: Address, policy: Policy) -> bool:
    """May `address` be dialled? A carried IPv4 address must be open itself, also where its NAT64 network is allowed."""
    address = canonical(address)
    carried = _carried(address)
    if carried is not None and not is_open_address(carried, policy):
        return False
    return _within(address, policy.allowed_networks) or not _within(address, DENIED_NETWORKS)


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def is_open_port(port: int) -> bool:
    """80, 443 and 1024 up: no mail, no shells, no databases on their privileged ports."""
    return port in (80, 443) or 1024 <= port <= 65535


def host_name(host: str) -> str:
    """`host` in the one form that rules are compared in: addresses canonical, names lower case, ASCII, no final dot.

    `ValueError` for what is neither.
    """
    address = parse_address(host)
    if address is not None:
        return str(address)
    name = host.removesuffix(".")
    try:
        name = name.encode("idna").decode("ascii").lower()
    except UnicodeError as error:
        raise ValueError(f"not a host name: {host!r}") from error
    if not name or len(name) > 253 or not all(_is_label(label) for label in name.split(".")):
        raise ValueError(f"not a host name: {host!r}")
    return name


def _is_label(label: str) -> bool:
    return 0 < len(label) <= 63 and all(char.isalnum() or char in "-_" for char in label)


def is_allowed_host(name: str, rules: Iterable[str]) -> bool:
    """Does a rule cover `name`, given as `host_name` spells it?

    `shop.example` covers itself, `.shop.example` covers itself and all below it.
    A rule that is no host name covers nothing.
    """
    return any(_covers(rule, name) for rule in rules)


def _covers(rule: str, name: str) -> bool:
    try:
        domain = host_name(rule.removeprefix("."))
    except ValueError:
        return False
    return name == domain or (rule.startswith(".") and name.endswith("." + domain))


def decide_host(host: str, port: int, allowed_hosts: Sequence[str] | None) -> Reason | None:
    """What speaks against `host` and `port` before anything is resolved; None: nothing.

    `allowed_hosts` None means no rule about hosts (webhooks); an empty one allows none.
    """
    try:
        name = host_name(host)
    except ValueError:
        return Reason.BAD_HOST
    if not is_open_port(port):
        return Reason.PORT
    if allowed_hosts is not None and not is_allowed_host(name, allowed_hosts):
        return Reason.HOST
    return None


def decide(
    host: str, port: int, addresses: Sequence[Address], policy: Policy, allowed_hosts: Sequence[str] | None
) -> Allowed | Denied:
    """May `host`:`port`, which resolved to `addresses`, be reached, and at which of them? See `decide_host`."""
    reason = decide_host(host, port, allowed_hosts)
    if reason is not None:
        return Denied(reason)
    if not addresses:
        return Denied(Reason.UNRESOLVED)
    open_ones = tuple(canonical(address) for address in addresses if is_open_address(address, policy))
    return Allowed(open_ones) if open_ones else Denied(Reason.ADDRESS)
