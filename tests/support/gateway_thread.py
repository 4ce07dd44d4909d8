"""A gateway on a loop of its own, for tests that are not asynchronous themselves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tests.support.gateways import RunningGateway, gateway_in

T = TypeVar("T")
Call = Callable[[Coroutine[Any, Any, T]], T]


@contextmanager
def gateway_on_a_thread(folder: Path, **settings: Any) -> Iterator[tuple[RunningGateway, Call[Any]]]:
    """The gateway, and a function that runs a coroutine beside it and waits for what it returns."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="gateway", daemon=True)
    thread.start()

    def call(coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(timeout=60)

    opened = gateway_in(folder, **settings)
    gateway = call(opened.__aenter__())
    try:
        yield gateway, call
    finally:
        call(opened.__aexit__(None, None, None))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
