"""The gateway's socket: Granian inside the platform's own event loop."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any

from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server

from api_gateway.draining import Drain


async def serve(app: Any, port: int, drain: Drain) -> None:
    """Serve `app` on 127.0.0.1:`port` until cancelled. Open streams are told to end by `drain`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server = Server(
            app,
            address="127.0.0.1",
            port=port,
            interface=Interfaces.ASGI,
            http=HTTPModes.http1,
            websockets=False,
            log_enabled=False,
            backlog=1024,
        )
    serving = asyncio.create_task(server.serve())
    try:
        await serving
    finally:
        drain.begin()
        server.stop()  # type: ignore[no-untyped-call]  # Granian annotates its constructor only
        await asyncio.wait([serving], timeout=2.0)
