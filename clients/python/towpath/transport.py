"""One call of the API: headers, retries, errors.

Every POST carries an `Idempotency-Key` that stays the same over its retries, so a retry after a lost answer is safe;
reads, partial updates and deletes are safe by nature. Retried is: no connection, 429, 502, 503, 504, and a 409 that
says that our own first try is still being carried out. `Retry-After` is respected up to `RETRY_SECONDS_MAX`.
"""

from __future__ import annotations

import ipaddress
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, TypeVar

import httpx
import msgspec

from towpath.errors import ApiError, BadAnswer, ErrorDetail, Unreachable
from towpath.settings import Settings

T = TypeVar("T")

PREFIX = "/api/v2"
TRIES_MAX = 6
RETRY_SECONDS_MAX = 20.0
_FIRST_DELAY_SECONDS = 0.2
_READ_SECONDS = 30.0
_CONNECT_SECONDS = 5.0
RETRIED = frozenset({429, 502, 503, 504})
"""Statuses that say nothing about the request itself: too many calls, or a server that is away for the moment."""
_IN_PROGRESS = "idempotency_in_progress"
_USER_AGENT = f"towpath-python/{version('towpath')}"

Query = Mapping[str, str | int | bool | tuple[str, ...] | None]
"""A tuple is a parameter that is repeated."""


def fraction() -> float:
    """A number in [0, 1), for jitter."""
    return secrets.randbelow(1 << 30) / (1 << 30)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the client takes from the world beside the network; tests hand in their own."""

    sleep: Callable[[float], None] = time.sleep
    """Waits so many seconds."""
    monotonic: Callable[[], float] = time.monotonic
    """Seconds that pass, from an arbitrary origin."""
    now: Callable[[], float] = time.time  # noqa: TID251 (what people install has no kernel)
    """Seconds since 1970."""
    fraction: Callable[[], float] = fraction
    """Jitter in [0, 1)."""
    new_key: Callable[[], str] = secrets.token_hex
    """A fresh idempotency key."""


def delay_seconds(tries: int, retry_after: str | None, jitter: float) -> float | None:
    """Wait before the next try after `tries` of them; None when there shall be none. `jitter` lies in [0, 1)."""
    if tries >= TRIES_MAX:
        return None
    backoff = _FIRST_DELAY_SECONDS * 2 ** (tries - 1)
    spread = backoff * (0.5 + jitter / 2)
    asked = float(retry_after) if retry_after and retry_after.isascii() and retry_after.isdigit() else 0.0
    return None if asked > RETRY_SECONDS_MAX else asked + spread


class Transport:
    """Sends requests and decodes answers; safe to share between threads, as httpx is."""

    def __init__(
        self,
        settings: Settings,
        *,
        surroundings: Surroundings,
        network: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = settings.url
        self.surroundings = surroundings
        self._authorization = f"Bearer {settings.api_key}"
        self._http = httpx.Client(
            transport=network,
            timeout=httpx.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS),
            headers={"User-Agent": _USER_AGENT},
            # A proxy that the environment names for the outside world cannot reach our own loopback.
            trust_env=not _is_loopback(settings.url),
        )

    def close(self) -> None:
        """Close the connections. May be called twice."""
        self._http.close()

    def call(
        self,
        method: str,
        path: str,
        into: type[T],
        *,
        query: Query | None = None,
        body: Mapping[str, Any] | None = None,
        key: str | None = None,
    ) -> T:
        """Send and decode the answer into `into`. Blocks, with retries, for at most about a minute."""
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if method == "POST":
            headers["Idempotency-Key"] = key or self.surroundings.new_key()
        content = msgspec.json.encode(body) if body is not None else None
        request = self._request(method, path, query=query, headers=headers, content=content, read_seconds=_READ_SECONDS)
        return decode(self._send(request, stream=False).content, into)

    def delete(self, path: str, *, query: Query | None = None) -> None:
        """DELETE; there is nothing to decode. Blocks as `call` does."""
        headers = {"Accept": "application/json"}
        request = self._request("DELETE", path, query=query, headers=headers, content=None, read_seconds=_READ_SECONDS)
        self._send(request, stream=False)

    @contextmanager
    def stream(
        self, path: str, *, query: Query, headers: Mapping[str, str], read_seconds: float
    ) -> Iterator[httpx.Response]:
        """A 2xx answer of a GET whose body is still to be read; reading may raise `httpx.TransportError`."""
        request = self._request("GET", path, query=query, headers=headers, content=None, read_seconds=read_seconds)
        response = self._send(request, stream=True)
        try:
            yield response
        finally:
            response.close()

    @contextmanager
    def stream_signed(self, url: str, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """The unread answer of a signed URL; no API key is sent there. ApiError when it is no 2xx."""
        request = self._http.build_request("GET", httpx.URL(self.url).join(url), headers=dict(headers))
        response = self._send(request, stream=True)
        try:
            yield response
        finally:
            response.close()

    def _request(
        self,
        method: str,
        path: str,
        *,
        query: Query | None,
        headers: Mapping[str, str],
        content: bytes | None,
        read_seconds: float,
    ) -> httpx.Request:
        return self._http.build_request(
            method,
            f"{self.url}{PREFIX}{path}",
            params=list(_params(query or {})),
            headers={"Authorization": self._authorization, **headers},
            content=content,
            timeout=httpx.Timeout(read_seconds, connect=_CONNECT_SECONDS),
        )

    def _send(self, request: httpx.Request, *, stream: bool) -> httpx.Response:
        """A 2xx answer, with retries. With `stream` its body is unread and the caller closes it."""
        tries = 0
        while True:
            tries += 1
            delay: float | None
            try:
                response = self._http.send(request, stream=stream)
                problem = None if response.is_success else _problem(response)
            except httpx.TransportError as error:
                delay = delay_seconds(tries, None, self.surroundings.fraction())
                if delay is None:
                    raise Unreachable(self.url, str(error) or type(error).__name__) from error
            else:
                if problem is None:
                    return response
                delay = None
                if problem.status in RETRIED or problem.code == _IN_PROGRESS:
                    delay = delay_seconds(tries, response.headers.get("Retry-After"), self.surroundings.fraction())
                if delay is None:
                    raise problem
            self.surroundings.sleep(delay)


def _problem(response: httpx.Response) -> ApiError:
    try:
        return api_error(response.status_code, response.read(), response.headers.get("X-Request-Id", ""))
    finally:
        response.close()


def api_error(status: int, body: bytes, request_id: str) -> ApiError:
    """The refusal that `body` tells; a body of another shape (a proxy's page) still gives a usable error."""
    try:
        error = msgspec.json.decode(body, type=_Problem).error
    except msgspec.DecodeError:
        return ApiError(status, f"http_{status}", f"The server answered with HTTP status {status}.", (), request_id)
    details = tuple(ErrorDetail(d.path, d.code, d.message) for d in error.details or ())
    return ApiError(status, error.code, error.message, details, error.request_id or request_id)


def decode(body: bytes | str, into: type[T]) -> T:
    """`body` as `into`; BadAnswer when it is something else."""
    try:
        return msgspec.json.decode(body, type=into)
    except msgspec.DecodeError as error:
        raise BadAnswer(f"The answer is not what the API promises: {error}.") from error


class _Spot(msgspec.Struct):
    path: str = ""
    code: str = ""
    message: str = ""


class _Error(msgspec.Struct):
    code: str
    message: str = ""
    details: list[_Spot] | None = None
    request_id: str | None = None


class _Problem(msgspec.Struct):
    error: _Error


def _params(query: Query) -> Iterator[tuple[str, str]]:
    for name, value in query.items():
        yield from ((name, _text(one)) for one in (value if isinstance(value, tuple) else (value,)) if one is not None)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_loopback(url: str) -> bool:
    host = httpx.URL(url).host
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
