"""The local PostgreSQL: durable when asked, hangs whole, and asks for its password."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from browser_runner.process_tree import state_of
from cluster.components.postgres import LocalPostgres
from tests.support.components import needs_postgres
from tests.support.eventually import until

pytestmark = needs_postgres


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LocalPostgres]:
    with LocalPostgres(tmp_path / "deep" / "below", durable=False) as started:
        yield started


async def run(server: LocalPostgres, *statements: str) -> object:
    connection = await asyncpg.connect(server.url)
    try:
        answer = None
        for statement in statements:
            answer = await connection.fetchval(statement)
        return answer
    finally:
        await connection.close()


async def test_committed_rows_are_there_after_a_kill_and_a_start(server: LocalPostgres) -> None:
    await run(server, "create table kept (n int)", "insert into kept values (7)")
    url = server.url

    server.kill()
    server.start()

    assert server.url == url
    assert await run(server, "select n from kept") == 7


async def test_a_worker_that_outlives_its_server_is_ended_before_the_next_one_starts(server: LocalPostgres) -> None:
    connection = await asyncpg.connect(server.url)
    worker = await connection.fetchval("select pg_backend_pid()")
    assert server.pid is not None
    os.kill(worker, signal.SIGSTOP)
    os.kill(server.pid, signal.SIGKILL)
    await until(lambda: not server.is_running)

    server.start()

    assert state_of(worker) in {"", "Z"}
    assert await run(server, "select 1") == 1
    connection.terminate()


async def test_a_durable_server_waits_for_the_disk_and_another_does_not(tmp_path: Path, server: LocalPostgres) -> None:
    assert await run(server, "show fsync") == "off"
    with LocalPostgres(tmp_path / "durable") as durable:
        assert await run(durable, "show fsync") == "on"


async def test_a_folder_is_kept_from_one_server_to_the_next(tmp_path: Path) -> None:
    with LocalPostgres(tmp_path, durable=False) as first:
        await run(first, "create table kept (n int)", "insert into kept values (7)")

    with LocalPostgres(tmp_path, durable=False) as second:
        assert second.url == first.url
        assert await run(second, "select n from kept") == 7


async def test_a_connection_that_is_open_hangs_while_the_server_is_paused(server: LocalPostgres) -> None:
    connection = await asyncpg.connect(server.url)
    server.pause()
    waiting = asyncio.ensure_future(connection.fetchval("select 1"))
    done, _ = await asyncio.wait([waiting], timeout=0.3)
    server.resume()

    assert not done
    assert await waiting == 1
    await connection.close()


async def test_nobody_comes_in_without_the_password(server: LocalPostgres) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(f"postgresql://towpath:guess@127.0.0.1:{server.port}/towpath")
