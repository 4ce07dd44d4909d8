"""Passwords with every character that means something in a URL, against a server that asks for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

import asyncpg
import pytest

from kernel.errors import LogRefused
from kernel.sql.postgres.settings import postgres_settings
from tests.support.components import needs_postgres, postgres_url, unique_name

pytestmark = needs_postgres

NASTY = (
    *("a?b", "12?sslmode=disable", "1/2", "a#b", "a@b", "100%", "a%41", "a b", ":", "[::1]", "a+b&c=d", "größe"),
    "'\\\"",
)


@asynccontextmanager
async def user(password: str) -> AsyncIterator[tuple[str, str]]:
    """A user with that password, and `host:port/database`."""
    url, name = await asyncio.to_thread(postgres_url), unique_name()
    connection = await asyncpg.connect(url)
    try:
        create = "SELECT format('CREATE ROLE %I LOGIN PASSWORD %L', $1::text, $2::text)"
        await connection.execute(await connection.fetchval(create, name, password))
        parts = urlsplit(url)
        yield name, f"{parts.hostname}:{parts.port}{parts.path}"
    finally:
        await connection.execute(f"DROP ROLE IF EXISTS {name}")
        await connection.close()


async def who(environ: dict[str, str]) -> str:
    """Whom the server takes for whoever comes with these settings."""
    db = await postgres_settings(environ).open()
    try:
        row = await db.fetch_one("SELECT current_user::text")
    finally:
        await db.close()
    assert row is not None
    return str(row[0])


@pytest.mark.parametrize("password", NASTY)
async def test_a_password_works_escaped_in_the_url_and_as_it_is_in_its_own_file(tmp_path: Path, password: str) -> None:
    file = tmp_path / "password"
    file.write_text(password + "\n")
    async with user(password) as (name, place):
        in_url = {"TOWPATH_POSTGRES_URL": f"postgresql://{name}:{quote(password, safe='')}@{place}"}
        assert await who(in_url) == name
        beside = {"TOWPATH_POSTGRES_URL": f"postgresql://{name}@{place}", "TOWPATH_POSTGRES_PASSWORD_FILE": str(file)}
        assert await who(beside) == name
        assert postgres_settings(beside).place == place
        with pytest.raises(LogRefused):
            await who({"TOWPATH_POSTGRES_URL": f"postgresql://{name}:another@{place}"})
