"""Health, version and metrics of a process that serves no HTTP of its own: four questions, each a short answer.

It speaks just enough HTTP/1.1 for probes and scrapers: one `GET` per connection, nothing is read of a body. The loop
that answers is the loop that works, so an answer to `/health/live` says that it turns.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
from collections.abc import Callable
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, generate_latest

from kernel.errors import Permanent

_HEAD_BYTES_MAX = 8192
_HEAD_SECONDS = 5.0
_REASONS = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}
_JSON = "application/json"
_METRICS = "text/plain; version=0.0.4; charset=utf-8"

Condition = Callable[[], bool]


@dataclass(slots=True)
class Health:
    """How a process is. All calls on its event loop."""

    conditions: dict[str, Condition] = field(default_factory=dict)
    """What must hold for work to be sent here, each with its name; asked anew for every probe."""
    is_started: bool = False
    is_draining: bool = False

    def waits_for(self) -> list[str]:
        """The conditions that do not hold."""
        return [name for name, holds in self.conditions.items() if not holds()]

    @property
    def is_ready(self) -> bool:
        return self.is_started and not self.is_draining and not self.waits_for()


def about(name: str) -> dict[str, str]:
    """What `/version` answers: the service and the version of the build."""
    return {"service": name, "version": importlib.metadata.version("kernel")}


class Probes:
    """The listener. `start` once, `close` once."""

    def __init__(self, address: str, health: Health, registry: CollectorRegistry, about: dict[str, str]) -> None:
        """`address` is `host:port`, port 0 for any; `about` is what `/version` answers."""
        self._address = address
        self._health = health
        self._registry = registry
        self._about = about
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """Where it listens, once started."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def start(self) -> None:
        """Listen. `Permanent("address_unusable")` when that cannot be."""
        host, _, port = self._address.rpartition(":")
        try:
            self._server = await asyncio.start_server(self._serve, host.strip("[]"), int(port), limit=_HEAD_BYTES_MAX)
        except (OSError, ValueError) as error:
            raise Permanent("address_unusable", f"probes cannot listen on {self._address}: {error}") from None

    async def close(self) -> None:
        """Listen no more. Answers under way are given."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_HEAD_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
            status, kind, body = self._answer(head.split(b"\r\n", 1)[0].decode("latin-1"))
            lines = [
                f"HTTP/1.1 {status} {_REASONS[status]}", f"Content-Type: {kind}", f"Content-Length: {len(body)}",
                "Connection: close", "Cache-Control: no-store",
            ]  # fmt: skip
            writer.write("\r\n".join([*lines, "", ""]).encode() + body)
            await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return  # no question was asked; it is not ours to answer
        finally:
            writer.close()

    def _answer(self, line: str) -> tuple[int, str, bytes]:
        method, _, rest = line.partition(" ")
        if method != "GET":
            return 405, _JSON, b'{"status":"method_not_allowed"}'
        match rest.partition(" ")[0].partition("?")[0]:
            case "/health/live":
                return 200, _JSON, b'{"status":"ok"}'
            case "/health/ready":
                return self._ready()
            case "/health/startup":
                is_started = self._health.is_started
                return (200, _JSON, b'{"status":"ok"}') if is_started else (503, _JSON, b'{"status":"starting"}')
            case "/version":
                return 200, _JSON, json.dumps(self._about).encode()
            case "/metrics":
                return 200, _METRICS, generate_latest(self._registry)
            case _:
                return 404, _JSON, b'{"status":"not_found"}'

    def _ready(self) -> tuple[int, str, bytes]:
        health = self._health
        if health.is_ready:
            return 200, _JSON, b'{"status":"ok"}'
        status = "draining" if health.is_draining else "not_ready" if health.is_started else "starting"
        return 503, _JSON, json.dumps({"status": status, "waits_for": health.waits_for()}).encode()
