"""What a failure of the driver or of the server means to callers of the SQL port.

    cut         the connection broke, or the server did not answer in time: whatever was under way may have been done,
                if it was about to commit
    unsent      the connection was broken already: the server has not heard of this call
    busy        the server is there and says no for now: too many connections, locked, took too long, a deadlock
    refused     it can never serve this: wrong password, no such database or schema, damaged, full
    constraint  a unique, check or reference constraint
    mistake     wrong SQL, or parameters that do not fit: a bug, and the driver's own error

A class of SQLSTATE is its first two characters.
"""

from __future__ import annotations

from enum import Enum, auto

import asyncpg

from kernel.errors import ConstraintViolated, LogRefused, LogUnavailable, UnknownOutcome


class Failure(Enum):
    CUT = auto()
    UNSENT = auto()
    BUSY = auto()
    REFUSED = auto()
    CONSTRAINT = auto()
    MISTAKE = auto()


_BY_CODE = {
    "57P01": Failure.CUT,  # an administrator ends the server or the session
    "57P02": Failure.CUT,  # another process of the server crashed
    "57P05": Failure.CUT,  # idle for too long
    "25P03": Failure.CUT,  # idle in a transaction for too long: this process was paused
    "57P03": Failure.BUSY,  # starting up, shutting down
    "57014": Failure.BUSY,  # cancelled: it took too long
    "55P03": Failure.BUSY,  # a lock was not to be had in time
    "25006": Failure.BUSY,  # read only: a standby that is about to take over, or has not yet
    "53100": Failure.REFUSED,  # the disk is full
    "57P04": Failure.REFUSED,  # the database was dropped
    "42501": Failure.REFUSED,  # no right to do this
}
_BY_CLASS = {
    "08": Failure.CUT,
    "40": Failure.BUSY,  # a deadlock, or a transaction that has to be tried again
    "53": Failure.BUSY,  # too many connections, out of memory
    "23": Failure.CONSTRAINT,
    "28": Failure.REFUSED,  # wrong user or password
    "3D": Failure.REFUSED,  # no such database
    "3F": Failure.REFUSED,  # no such schema
    "58": Failure.REFUSED,  # the server's disk
    "XX": Failure.REFUSED,  # damaged
}
_GONE = ("closed", "closing", "released")
DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""Everything that a call of the driver raises for reasons outside of this program, and its mistakes."""


class Broken(LogUnavailable):
    """The connection is of no more use, and nothing was written: another one may be tried at once."""


def failure_of(error: BaseException) -> Failure:
    """What has happened."""
    if isinstance(error, asyncpg.PostgresError):
        code = error.sqlstate or ""
        return _BY_CODE.get(code) or _BY_CLASS.get(code[:2]) or Failure.MISTAKE
    if isinstance(error, OSError):  # `TimeoutError` is one
        return Failure.CUT
    if isinstance(error, asyncpg.InternalClientError):  # the server has said good-bye, and its end is not read yet
        return Failure.UNSENT
    if isinstance(error, asyncpg.ClientConfigurationError):  # what the URL says besides the server is wrong
        return Failure.REFUSED
    # The driver has no class of its own for this; every other error of its interface is a misuse.
    return Failure.UNSENT if any(word in str(error) for word in _GONE) else Failure.MISTAKE


def translated(error: BaseException, name: str, *, committing: bool = False) -> BaseException:
    """The error that callers know, or `error` itself when it is a mistake. `committing`: the server may have done it.

    `name` says which database, without a password.
    """
    text = f"{name}: {error or type(error).__name__}"
    match failure_of(error):
        case Failure.CUT if committing:
            return UnknownOutcome(f"{text}; the transaction may have been committed")
        case Failure.CUT | Failure.UNSENT:
            return Broken(f"{text}; nothing was written")
        case Failure.BUSY:
            return LogUnavailable(f"{text}; nothing was written")
        case Failure.REFUSED:
            return LogRefused(text)
        case Failure.CONSTRAINT:
            return ConstraintViolated(str(error))
        case Failure.MISTAKE:
            return error
