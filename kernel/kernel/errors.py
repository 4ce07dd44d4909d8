"""Every error Towpath raises on purpose, drawn as one tree.

    TowpathError
    ├── Rejected            the caller's fault: `code` is stable, details point at the spot; changes nothing
    ├── Permanent           this work can never succeed; do not repeat it
    │   └── EgressDenied    the address policy does not let it out; `reason` says why
    ├── Temporary           this work may succeed after `delay_seconds`
    │   ├── LogUnavailable  the log did not answer; nothing is known to have been written
    │   └── EgressUnreachable  no allowed address of the host took the connection
    ├── UnknownOutcome      an append may or may not have landed; only a new claim settles it
    ├── NotOwner            another claim stands in the ledger; the owner stands down
    ├── LogRefused          the log can never serve this (other cluster, recreated topic, disk full, second process)
    ├── ConstraintViolated  a unique or check constraint refused a statement; its transaction changed nothing
    ├── UnknownType         a record of a type, or with an enum value, that this version does not know
    └── SecretUnavailable   the vault does not open this under this token
        └── ConnectionLocked  too many logins of this connection in a row were not proven good

A code never names an HTTP status; each surface owns a total table from code to status.
"""

from __future__ import annotations

from dataclasses import dataclass


class TowpathError(Exception):
    """Root of the tree."""


@dataclass(frozen=True, slots=True)
class Detail:
    """One spot of a rejected input: `path` is a JSON Pointer into what the caller sent."""

    path: str
    code: str
    message: str


class Rejected(TowpathError):
    """The request breaks a rule; `code` is what clients test, `message` is for people."""

    def __init__(self, code: str, message: str, details: tuple[Detail, ...] = ()) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.details = details


class Permanent(TowpathError):
    """Work that can never succeed: the failure's `code` goes into the run."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class Temporary(TowpathError):
    """Work that may succeed later; `delay_seconds` is the least wait before the next try."""

    def __init__(self, code: str, message: str, delay_seconds: float = 0.0) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.delay_seconds = delay_seconds


class LogUnavailable(Temporary):
    """The log did not take the call; nothing was written."""

    def __init__(self, message: str, delay_seconds: float = 0.1) -> None:
        super().__init__("log_unavailable", message, delay_seconds)


class TokenNotSeen(LogUnavailable):
    """Nobody was seen to assign the token so far: the assignment may be on its way, or there is none."""


class UnknownOutcome(TowpathError):
    """An append may or may not be in the log. The owner answers with a new claim and a restore (design 4.3)."""


class NotOwner(TowpathError):
    """The last claim in the ledger is not ours."""


class LogRefused(TowpathError):
    """A lasting refusal: full disk, a second process on the folder, a recreated topic, a damaged file."""


class ConstraintViolated(TowpathError):
    """A constraint of a table refused a statement; nothing of its transaction was written."""


class UnknownType(TowpathError):
    """A newer version wrote this record; readers step over it. The text names the type or the enum value."""


class SecretUnavailable(TowpathError):
    """The vault refuses: no such secret, subject erased, token not current."""


class ConnectionLocked(SecretUnavailable):
    """The vault opens no credential of this connection until its customer has repaired it."""


class EgressDenied(Permanent):
    """The address policy refuses `host`; `reason` is a `kernel.egress.policy.Reason`, free of anything personal."""

    def __init__(self, reason: str, host: str, port: int) -> None:
        super().__init__("egress_denied", f"{reason}: {host}:{port}")
        self.reason = reason


class EgressUnreachable(Temporary):
    """The host is allowed, and none of its allowed addresses answered in time."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__("egress_unreachable", f"{host}:{port} did not answer")
