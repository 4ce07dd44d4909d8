"""The raw baseline of everything over HTTP: Litestar on Granian, one SQLite commit a POST, nothing else.

Started by `tests.bench.raw` as `python -m tests.bench.bare_service PORT FILE`. POST /one commits one row with one
fsync before it answers; GET /one answers a constant.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import warnings
from pathlib import Path

import uvloop
from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server
from litestar import Litestar, Response, get, post

_BODY = b'{"id":"00000000-0000-0000-0000-000000000000","status":"PENDING"}'


def bare_app(file: Path) -> Litestar:
    """The application; commits run in its event loop, for nobody else is to be served."""
    connection = open_raw(file)

    @post("/one")
    async def post_one() -> Response[bytes]:
        commit_one(connection)
        return Response(_BODY, media_type="application/json")

    @get("/one")
    async def get_one() -> Response[bytes]:
        return Response(_BODY, media_type="application/json")

    return Litestar([post_one, get_one], openapi_config=None, logging_config=None)


def open_raw(file: Path) -> sqlite3.Connection:
    """A fresh file with the durability that the platform has."""
    connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE IF NOT EXISTS rows (id INTEGER PRIMARY KEY, body BLOB NOT NULL)")
    return connection


def commit_one(connection: sqlite3.Connection) -> None:
    """One row, one commit, one fsync."""
    connection.execute("INSERT INTO rows (body) VALUES (?)", (b"x" * 300,))


async def _serve(port: int, file: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server = Server(
            bare_app(file),
            address="127.0.0.1",
            port=port,
            interface=Interfaces.ASGI,
            http=HTTPModes.http1,
            websockets=False,
            log_enabled=False,
        )
    await server.serve()


def main() -> None:
    """Serve until killed."""
    _, port, file = sys.argv
    try:
        uvloop.run(_serve(int(port), Path(file)))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return


if __name__ == "__main__":
    main()
