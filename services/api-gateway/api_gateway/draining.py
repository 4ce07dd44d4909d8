"""The end of a process, told to everybody who holds a connection open (SIGTERM drain).

Servers wait for open streams; streams never end by themselves. So the moment SIGTERM arrives, the drain begins: live
streams say goodbye and end, readiness turns false, and the server's own handler goes on as always.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import FrameType


class Drain:
    """Whether this process is on its way out. One per process; may be asked from anywhere on its event loop."""

    def __init__(self) -> None:
        self._begun = asyncio.Event()
        self._told: set[asyncio.Event] = set()

    @property
    def is_begun(self) -> bool:
        return self._begun.is_set()

    def begin(self) -> None:
        """Say it. Idempotent; only on the event loop."""
        self._begun.set()
        for event in self._told:
            event.set()

    @contextmanager
    def telling(self, event: asyncio.Event) -> Iterator[None]:
        """While open, `event` is set when it is said: for who waits for something else as well."""
        self._told.add(event)
        try:
            yield
        finally:
            self._told.discard(event)

    async def begun(self) -> None:
        """Wait until it was said."""
        await self._begun.wait()


@asynccontextmanager
async def drained_on_sigterm(drain: Drain) -> AsyncIterator[None]:
    """While open, SIGTERM begins `drain` first and then does what it did before. Main thread only."""
    loop = asyncio.get_running_loop()
    previous = signal.getsignal(signal.SIGTERM)

    def on_sigterm(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(drain.begin)
        if callable(previous):
            previous(number, frame)
        elif previous == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.raise_signal(signal.SIGTERM)

    signal.signal(signal.SIGTERM, on_sigterm)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
