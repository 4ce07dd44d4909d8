"""A gateway that ends while somebody holds a request open says nothing of it: its last line is to be read."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from api_gateway import serving
from tests.support.platform_process import free_ports


async def test_a_request_that_outlasts_the_gateway_leaves_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, told = asyncio.Event(), list[dict[str, Any]]()
    loop, port = asyncio.get_running_loop(), free_ports(1)

    async def hang(scope: dict[str, Any], _receive: object, _send: object) -> None:
        if scope["type"] == "http":
            asked.set()
            await asyncio.Event().wait()

    monkeypatch.setattr(serving, "create_app", lambda _: hang)
    monkeypatch.setattr(serving, "LAST_ANSWERS_SECONDS", 0.1)
    loop.set_exception_handler(lambda _, context: told.append(context))
    gateway: Any = SimpleNamespace(drain=SimpleNamespace(begin=lambda: None))
    running = asyncio.create_task(serving.serve(gateway, "127.0.0.1", port))
    writer = await _ask(port)
    await asked.wait()
    running.cancel()
    await asyncio.wait([running])
    late: dict[str, Any] = {
        "message": "Exception in callback <function Server._spawn_asgi_lifespan_worker.<locals>.shutdown_glue...>",
        "exception": asyncio.InvalidStateError("invalid state"),
    }
    loop.call_exception_handler(late)
    loop.call_exception_handler({"message": "another", "exception": ValueError("ours")})
    writer.close()
    assert [context["message"] for context in told] == ["another"]


async def _ask(port: int) -> asyncio.StreamWriter:
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.01)
            else:
                writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                return writer
