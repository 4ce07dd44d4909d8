"""Keeping parts running: each that dies is started again, and somebody is told."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from cluster.parts import Part, Restarts, Service
from kernel.errors import Permanent
from kernel.refusing import REFUSED_EXIT_CODE


class Keeper:
    """Looks after parts that have been started. `look` is called again and again; it blocks while a server starts."""

    def __init__(
        self,
        parts: Sequence[Part],
        tell: Callable[[str], None],
        changed: Callable[[], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`tell` is given a line for people, `changed` is called when a process is another one than before."""
        self._parts = parts
        self._tell = tell
        self._changed = changed
        self._restarts = {part.name: Restarts(monotonic) for part in parts}
        self._refused: set[str] = set()

    def look(self) -> None:
        """Start what has died, unless it says that it cannot work, or its lives were short and it is too early."""
        for part in self._parts:
            restarts = self._restarts[part.name]
            if part.is_running or part.name in self._refused:
                continue
            if isinstance(part, Service) and part.exit_code == REFUSED_EXIT_CODE:
                self._refused.add(part.name)
                self._tell(f"{part.name} cannot work, and is not started again: {part.last_word()}")
            elif restarts.is_due():
                self._start(part, restarts)

    def _start(self, part: Part, restarts: Restarts) -> None:
        how = f" ({ending(part.exit_code)})" if isinstance(part, Service) else ""
        try:
            part.start()
        except Permanent as error:
            self._tell(f"{part.name} died{how} and does not start: {error.message.splitlines()[0]}")
        else:
            self._tell(f"{part.name} died{how}; started again as process {', '.join(map(str, part.pids))}")
            self._changed()
        restarts.restarted()


def ending(exit_code: int | None) -> str:
    """How a process ended, in words."""
    return f"signal {-exit_code}" if exit_code is not None and exit_code < 0 else f"code {exit_code}"
