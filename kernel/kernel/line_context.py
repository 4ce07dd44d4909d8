"""What a log line is about (organization, run, step, request, trace) without handing it to whoever writes the line.

    with LineContext(root_run_id=...):          an attempt
        with LineContext(step="orders[2].open"):    a step of it: lines have both
    lines have neither

It holds in everything that is awaited inside, and in tasks and threads that are begun inside; it ends with the block
even for those of them that go on. What many callers share, such as a connection, is begun in an empty context
(`contextvars.Context()`), so that its lines are not told of the one who came first. Ids only: never a name, an address
or anything else that tells of a person.
"""

from __future__ import annotations

from contextvars import ContextVar
from types import TracebackType
from typing import Self

from structlog.typing import EventDict


class LineContext:
    """A block whose lines have `ids`, beside those of the blocks around it. Entered once."""

    __slots__ = ("ids", "outer")

    def __init__(self, **ids: str | int) -> None:
        """An id that is empty is left out of the lines."""
        self.ids = ids
        self.outer: LineContext | None = None

    def __enter__(self) -> Self:
        self.outer = _current.get()
        _current.set(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        _current.set(self.outer)
        self.ids = {}  # tasks that were begun inside may live on and still find this block


_current: ContextVar[LineContext | None] = ContextVar("line_context", default=None)


def add_to_lines(**ids: str | int) -> None:
    """Say more of the innermost block, as what becomes known only inside of it. Outside of any block it is nothing."""
    block = _current.get()
    if block is not None:
        block.ids.update(ids)


def with_line_context(_logger: object, _method: str, event: EventDict) -> EventDict:
    """The structlog processor: a line with what it is about. What it says itself stands, and inner before outer."""
    block = _current.get()
    while block is not None:
        for name, value in block.ids.items():
            if value != "":
                event.setdefault(name, value)
        block = block.outer
    return event
