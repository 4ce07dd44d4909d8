"""The dialer against a resolver that changes its mind, and real loopback sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence

import pytest

from kernel.egress.dialer import Dialer, system_resolver
from kernel.egress.policy import Policy, Reason, parse_networks
from kernel.errors import EgressDenied, EgressUnreachable

LOOPBACK = Policy(parse_networks("127.0.0.0/8,::1/128"))


class ScriptedResolver:
    """Answers one list after the other, the last one for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


async def _no_answer(host: str) -> Sequence[str]:
    raise socket.gaierror(socket.EAI_NONAME, host)


@contextlib.asynccontextmanager
async def _listener(host: str = "127.0.0.1") -> AsyncIterator[int]:
    async def hello(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(hello, host, 0)
    async with server:
        yield int(server.sockets[0].getsockname()[1])


async def test_a_name_is_resolved_once_and_the_checked_address_is_dialled() -> None:
    resolver = ScriptedResolver(["127.0.0.1"], ["169.254.169.254"])
    async with _listener() as port:
        reader, writer = await Dialer(LOOPBACK, resolve=resolver).dial("shop.example", port)
        assert await reader.read() == b"hello"
        writer.close()
        await writer.wait_closed()
    assert resolver.asked == ["shop.example"]


async def test_a_name_that_rebinds_to_loopback_is_refused_at_the_second_call() -> None:
    dialer = Dialer(Policy(), resolve=ScriptedResolver(["8.8.8.8"], ["127.0.0.1"]))
    assert [str(address) for address in await dialer.choose("shop.example", 443)] == ["8.8.8.8"]
    with pytest.raises(EgressDenied) as denied:
        await dialer.dial("shop.example", 443)
    assert denied.value.reason == Reason.ADDRESS


async def test_a_literal_is_never_sent_to_the_resolver() -> None:
    resolver = ScriptedResolver(["8.8.8.8"])
    with pytest.raises(EgressDenied) as denied:
        await Dialer(Policy(), resolve=resolver).dial("0x7f.1", 8080)
    assert denied.value.reason == Reason.ADDRESS
    assert resolver.asked == []


async def test_a_forbidden_host_is_not_even_resolved() -> None:
    resolver = ScriptedResolver(["8.8.8.8"])
    with pytest.raises(EgressDenied) as denied:
        await Dialer(Policy(), resolve=resolver).choose("evil.example", 443, allowed_hosts=[".shop.example"])
    assert denied.value.reason == Reason.HOST
    assert resolver.asked == []


async def test_a_name_without_an_answer_is_unresolved() -> None:
    with pytest.raises(EgressDenied) as denied:
        await Dialer(Policy(), resolve=_no_answer).choose("shop.example", 443)
    assert denied.value.reason == Reason.UNRESOLVED


async def test_the_next_allowed_address_is_tried_when_one_does_not_answer() -> None:
    async with _listener("127.0.0.1") as port:
        dialer = Dialer(LOOPBACK, resolve=ScriptedResolver(["127.0.0.2", "127.0.0.1"]))
        _, writer = await dialer.dial("shop.example", port)
        assert writer.get_extra_info("peername")[0] == "127.0.0.1"
        writer.close()
        await writer.wait_closed()


async def test_an_allowed_host_that_nobody_serves_is_unreachable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(EgressUnreachable):
            await Dialer(LOOPBACK).dial("127.0.0.1", unused.getsockname()[1])


async def test_a_resolver_that_hangs_ends_with_the_time_out() -> None:
    async def hang(_: str) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    with pytest.raises(EgressUnreachable):
        await Dialer(LOOPBACK, resolve=hang, connect_seconds=0.02).dial("shop.example", 443)


async def test_the_system_resolver_knows_localhost() -> None:
    assert set(await system_resolver("localhost")) <= {"127.0.0.1", "::1"}
