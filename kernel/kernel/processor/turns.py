"""Long work in turns, so that a takeover beside many keys does not hold up everything else in the process.

The work itself is pure: a generator that says by a bare `yield` that this is a good moment for others, and returns what
it was asked for. Whoever drives it decides whether others get a turn; the result is the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")
InTurns = Generator[None, None, T]

KEYS_A_TURN = 500
"""A few milliseconds of reading or folding values: next to nothing beside a session of the broker or a lease."""


def ends_turn(number: int) -> bool:
    """Whether the `number`th key, counted from 1, is the last one of a turn."""
    return number % KEYS_A_TURN == 0


async def giving_way(work: InTurns[T]) -> T:
    """What `work` returns. Between two turns whatever else is ready on the loop runs once."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: T = end.value
            return result
        await asyncio.sleep(0)
