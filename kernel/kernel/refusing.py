"""How a process ends that cannot do its work: one clear line for whoever can mend it, and a code of its own.

A bug is none of this: it goes on to the interpreter, with its traceback.
"""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from kernel.errors import LogRefused, Permanent, Rejected, Temporary, TowpathError, UnknownOutcome

REFUSED_EXIT_CODE = 78
"""A setting, a file or a folder is wrong, or the log can never serve this: starting again does not help."""
UNREACHED_EXIT_CODE = 69
"""A part that is needed did not answer where nothing waits for it: starting again helps once it is there."""

_OF_THE_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM})


class Unreached(TowpathError):
    """What a process needs to start did not answer in time; the text says what, why and for how long."""


def run_command(name: str, command: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run what an operator asks for once; its exit code, or that of its refusal."""
    import asyncio  # noqa: PLC0415 (launchers and watchdogs, which import this, stay small)

    return run_plainly(name, lambda: asyncio.run(command()))


def run_plainly(name: str, run: Callable[[], int | None]) -> int:
    """What `run` gives, or the lines and the code of a refusal. A bug beside it may be its cause: that is told, too.

    `name` is what stands in the lines after the product's; it may be empty.
    """
    try:
        return run() or 0
    except Exception as error:  # the edge of the process: what is no refusal goes on to the interpreter
        lines, bug = refusals(error), _bug(error)
        if not lines:
            raise
        for line in lines:
            print(f"{f'towpath {name}'.rstrip()}: {line}", file=sys.stderr, flush=True)  # noqa: T201 (its last word)
        if bug is not None:
            traceback.print_exception(bug)
        return exit_code(error)


def refusals(error: BaseException) -> list[str]:
    """What of `error` is the fault of settings, disk or other parts, in words; empty for a bug."""
    return list(dict.fromkeys(_refusals(error)))


def exit_code(error: BaseException) -> int:
    """The code to end with after `refusals`; 1 when only another life can tell: what stands in the log, or whether
    anything but a bug was in the way.
    """
    if _is_there(error, UnknownOutcome) or _bug(error) is not None:
        return 1
    return UNREACHED_EXIT_CODE if _is_there(error, (Unreached, Temporary)) else REFUSED_EXIT_CODE


def _refusals(error: BaseException) -> Iterator[str]:
    match error:
        case BaseExceptionGroup():
            for inner in error.exceptions:
                yield from _refusals(inner)
        case Rejected() | Permanent() | Temporary():
            yield error.message
        case LogRefused() | UnknownOutcome() | Unreached():
            yield str(error)
        case OSError() if error.errno in _OF_THE_DISK:
            yield f"{error.filename or 'the disk'}: {error.strerror}"


def _bug(error: BaseException) -> BaseException | None:
    """What of `error` is no refusal."""
    if not isinstance(error, BaseExceptionGroup):
        return None if refusals(error) else error
    return error.split(lambda one: not isinstance(one, BaseExceptionGroup) and bool(refusals(one)))[1]


def _is_there(error: BaseException, kind: type[BaseException] | tuple[type[BaseException], ...]) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(kind) is not None
    return isinstance(error, kind)
