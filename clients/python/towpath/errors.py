"""Every error the client raises on purpose, drawn as one tree.

TowpathError
├── ApiError          the API refused: `code` is stable and is what callers test
├── Unreachable       no answer, after every allowed retry; a POST may have been carried out
├── BadAnswer         an answer that the contract does not allow, often from something between us and the API
├── DamagedDownload   the bytes are not those that the artifact names; nothing was kept
├── LogUnreachable    no broker of the event log answers, or it refuses
├── Unreadable        a sealed value that does not open
├── WrongSetting      a setting in the environment, or an option, that is of no use or cannot be used
├── MissingExtra      the command needs a part of this package that is not installed
└── MissingApiKey     no key in the environment nor in the data folder
"""

from __future__ import annotations

from dataclasses import dataclass


class TowpathError(Exception):
    """Root of the tree."""


@dataclass(frozen=True, slots=True)
class ErrorDetail:
    """One spot of a refused input: `path` is a JSON Pointer into what was sent."""

    path: str
    code: str
    message: str


class ApiError(TowpathError):
    """The API's refusal: HTTP `status`, stable `code`, `message` for people, spots of the input, id of the request."""

    def __init__(
        self, status: int, code: str, message: str, details: tuple[ErrorDetail, ...] = (), request_id: str = ""
    ) -> None:
        spots = "".join(f"\n  {detail.path}: {detail.message}" for detail in details)
        super().__init__(f"{code}: {message}{spots}")
        self.status = status
        self.code = code
        self.message = message
        self.details = details
        self.request_id = request_id


class Unreachable(TowpathError):
    """`url` did not answer; `reason` is the last network error in words."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"{url} does not answer: {reason}")
        self.url = url
        self.reason = reason


class BadAnswer(TowpathError):
    """The answer could not be read as what the contract promises."""


class DamagedDownload(TowpathError):
    """Size or SHA-256 of the downloaded bytes differ from those of the artifact."""


class LogUnreachable(TowpathError):
    """The brokers at `bootstrap` did not give what was asked; `reason` is their error in words."""

    def __init__(self, bootstrap: str, reason: str) -> None:
        super().__init__(f"the event log at {bootstrap} does not answer: {reason}")
        self.bootstrap = bootstrap
        self.reason = reason


class Unreadable(TowpathError):
    """A sealed value does not open: damaged, of another subject, or made for another purpose."""


class WrongSetting(TowpathError):
    """A setting or an option cannot be used, or is of no use beside the others; the message names it."""


class MissingExtra(TowpathError):
    """`extra` of this package is needed and not installed."""

    def __init__(self, extra: str) -> None:
        super().__init__(f"This needs a part that is not installed: pip install 'towpath[{extra}]'")
        self.extra = extra


class MissingApiKey(TowpathError):
    """No API key was found; the message names the places that were looked at."""
