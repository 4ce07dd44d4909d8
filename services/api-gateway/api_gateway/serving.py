"""The gateway's socket: Granian inside the event loop that everything else runs on."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any

from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server

from api_gateway.app import create_app
from api_gateway.gateway import Services

LAST_ANSWERS_SECONDS = 2.0
"""What requests that are under way get to be answered."""


async def serve(gateway: Services, host: str, port: int) -> None:
    """Serve `gateway` on `host`:`port` until cancelled, and then take nothing new and end what is under way.

    Open streams are told to end by its drain.
    """
    app = create_app(gateway)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server = Server(
            app,
            address=host,
            port=port,
            interface=Interfaces.ASGI,
            http=HTTPModes.http1,
            websockets=False,
            log_enabled=False,
            backlog=1024,
        )
    serving = asyncio.create_task(server.serve())
    try:
        await asyncio.shield(serving)
    finally:
        gateway.drain.begin()
        server.stop()  # type: ignore[no-untyped-call]  # Granian annotates its constructor only
        await asyncio.wait([serving], timeout=LAST_ANSWERS_SECONDS)
        if serving.cancel():
            _expect_a_late_end(asyncio.get_running_loop())


def _expect_a_late_end(loop: asyncio.AbstractEventLoop) -> None:
    """Granian tells a future that it has ended, though that was cancelled because somebody held a request open: nothing
    is wrong then, and its traceback would hide what is.
    """
    others = loop.get_exception_handler() or (lambda loop, context: loop.default_exception_handler(context))

    def told(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        is_late = isinstance(context.get("exception"), asyncio.InvalidStateError)
        if not (is_late and "shutdown_glue" in str(context.get("handle", context["message"]))):
            others(loop, context)

    loop.set_exception_handler(told)
