"""What others want of an attempt that is under way: stop, park, hand back, and answers. Set by the runner's inbox."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from kernel.domain.task import Answer


@dataclass(slots=True)
class Orders:
    """Flags only ever go up."""

    stop: bool = False
    park: bool = False
    release: bool = False
    answers: dict[str, Answer] = field(default_factory=dict)
    """By path of the step that asked."""
    _waiting: set[asyncio.Future[None]] = field(default_factory=set)

    def changed(self) -> None:
        """Wake whoever waits, after a change."""
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, condition: Callable[[], bool]) -> None:
        """Return once `condition()` holds; it is looked at after every change."""
        while not condition():
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.add(waiter)
            try:
                await waiter
            finally:
                self._waiting.discard(waiter)
