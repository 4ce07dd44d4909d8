"""Ctrl-C that cannot get lost.

Python raises `KeyboardInterrupt` wherever it happens to be. Inside a callback, a finalizer or an import that a library
in C asks for, whoever called it drops the exception, or raises another one in its place; a command that follows
something would then go on for ever. So here an interrupt is also remembered.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Check = Callable[[], None]


@contextmanager
def remembered_interrupts() -> Iterator[Check]:
    """What raises `KeyboardInterrupt` if one came since this began; to be called wherever something is waited for.

    An error that was made of an interrupt leaves the block as `KeyboardInterrupt`. Where Python does not raise on
    Ctrl-C (it is ignored, or this is not the main thread), nothing changes.
    """
    came = False

    def remember(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        signal.default_int_handler(number, frame)

    def check() -> None:
        if came:
            raise KeyboardInterrupt

    try:
        handles = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        before = signal.signal(signal.SIGINT, remember) if handles else None
    except ValueError:  # not the main thread
        before = None
    try:
        yield check
    except Exception:
        check()
        raise
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)
