"""When Python looks for cycles: seldom, and not at all while ledgers are read at the start.

The newest records of every partition and all live runs stay in memory. Walking over them again and again took a tenth
of the CPU under load and a quarter of a restart. Hardly anything here makes cycles, and what does is small.
"""

from __future__ import annotations

import gc


class Collecting:
    """Off until `partitions` partitions are restored; then on, leaving alone what was loaded by then."""

    def __init__(self, partitions: int) -> None:
        self._left = partitions
        gc.disable()
        gc.set_threshold(50_000, 20, 100)

    def restored(self) -> None:
        """One more partition; a partition that is restored again does no harm."""
        self._left -= 1
        if self._left == 0:
            gc.freeze()
            gc.enable()
