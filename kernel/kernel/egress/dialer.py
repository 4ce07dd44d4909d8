"""Resolve once, filter, dial only the checked address: the way out shared by the egress proxy and the webhook sender.

The resolver is an argument, so that tests answer as they like; an address literal is never sent to it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address

from kernel.egress.policy import Address, Allowed, Denied, Policy, Reason, decide, decide_host, parse_address
from kernel.errors import EgressDenied, EgressUnreachable

Resolver = Callable[[str], Awaitable[Sequence[str]]]
"""Host name to addresses as text, in the order of preference; raises `OSError` when there are none."""


async def system_resolver(host: str) -> Sequence[str]:
    """The operating system's answer."""
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


class Dialer:
    """Connections to allowed addresses only. Stateless; any number of calls at once."""

    def __init__(
        self,
        policy: Policy,
        *,
        resolve: Resolver = system_resolver,
        connect_seconds: float = 10.0,
        chunk_bytes: int = 65536,
    ) -> None:
        self._policy = policy
        self._resolve = resolve
        self._connect_seconds = connect_seconds
        self._chunk_bytes = chunk_bytes

    async def choose(self, host: str, port: int, *, allowed_hosts: Sequence[str] | None = None) -> tuple[Address, ...]:
        """The addresses of `host` that may be dialled, resolved once now. `EgressDenied` when there is none.

        Whoever dials by other means (an HTTP client's transport) dials one of these and nothing else.
        """
        reason = decide_host(host, port, allowed_hosts)
        if reason is not None:
            raise EgressDenied(reason, host, port)
        answer = decide(host, port, await self._addresses(host, port), self._policy, allowed_hosts)
        match answer:
            case Allowed(addresses):
                return addresses
            case Denied(why):
                raise EgressDenied(why, host, port)

    async def dial(
        self, host: str, port: int, *, allowed_hosts: Sequence[str] | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A plain TCP connection to one of the allowed addresses, tried in order within `connect_seconds` in all.

        `EgressDenied` when the policy says no, `EgressUnreachable` when no allowed address answers.
        """
        failure: Exception | None = None
        try:
            async with asyncio.timeout(self._connect_seconds):
                for address in await self.choose(host, port, allowed_hosts=allowed_hosts):
                    try:
                        return await asyncio.open_connection(str(address), port, limit=self._chunk_bytes)
                    except OSError as error:
                        failure = error
        except TimeoutError as error:
            failure = error
        raise EgressUnreachable(host, port) from failure

    async def _addresses(self, host: str, port: int) -> list[Address]:
        literal = parse_address(host)
        if literal is not None:
            return [literal]
        try:
            found = await self._resolve(host.removesuffix("."))
        except OSError as error:
            raise EgressDenied(Reason.UNRESOLVED, host, port) from error
        # A zone index (fe80::1%eth0) belongs to link-local addresses only, which the policy judges without it.
        return list(dict.fromkeys(ip_address(text.partition("%")[0]) for text in found))
