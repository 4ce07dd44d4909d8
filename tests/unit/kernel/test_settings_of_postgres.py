"""The URL of PostgreSQL: what it is not is said without it, for it holds a password."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernel.errors import LogRefused, Permanent
from kernel.sql.postgres.settings import postgres_settings

PASSWORD = "s3cr3t"


def url(password: str, *, scheme: str = "postgresql", more: str = "") -> dict[str, str]:
    return {"TOWPATH_POSTGRES_URL": f"{scheme}://towpath:{password}@127.0.0.1:9/towpath{more}"}


@pytest.mark.parametrize(
    "environ",
    [
        url(f"{PASSWORD}/x"),
        url(f"{PASSWORD}#x"),
        url(f"{PASSWORD}?x"),
        url(f"1/{PASSWORD}"),
        url(f"1#{PASSWORD}"),
        url(f"1?{PASSWORD}=x"),
        url(f"{PASSWORD}@x"),
        url(f"{PASSWORD}%x"),
        url(f"{PASSWORD}%FF"),
        url(f"{PASSWORD}\tx"),
        url(PASSWORD, more="?sslmode"),
        url(f"[{PASSWORD}"),
        url(PASSWORD, scheme="mysql"),
        {"TOWPATH_POSTGRES_URL": PASSWORD},
    ],
    ids=[
        *("slash", "hash", "question mark", "a port and a slash", "a port and a hash", "a port and a question mark"),
        *("at", "per cent", "no utf-8", "tab", "half an option", "bracket", "scheme", "no url"),
    ],
)
def test_a_url_that_cannot_be_read_is_refused_without_a_piece_of_its_password(environ: dict[str, str]) -> None:
    with pytest.raises(Permanent, match="TOWPATH_POSTGRES_URL") as refused:
        postgres_settings(environ)
    assert PASSWORD not in refused.value.message
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


def test_a_password_with_escaped_characters_is_taken_and_not_shown() -> None:
    settings = postgres_settings(url(f"{PASSWORD}%2F%23%3F%5B"))
    assert settings.place == "127.0.0.1:9/towpath"
    assert PASSWORD not in repr(settings)


async def test_an_unknown_option_of_the_url_is_refused_and_no_bug() -> None:
    with pytest.raises(LogRefused, match="sslmode"):
        await postgres_settings(url(PASSWORD, more="?sslmode=perhaps")).open()


def test_a_password_has_a_file_of_its_own_where_the_url_holds_none(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("a?b/c@d%41\n")
    environ = {"TOWPATH_POSTGRES_URL": "postgresql://towpath@db:9/towpath?sslmode=require"}
    settings = postgres_settings(environ | {"TOWPATH_POSTGRES_PASSWORD_FILE": str(file)})
    assert settings.url == "postgresql://towpath:a%3Fb%2Fc%40d%2541@db:9/towpath?sslmode=require"
    assert postgres_settings(environ | {"TOWPATH_POSTGRES_PASSWORD": "a?b/c@d%41"}) == settings
    assert settings.place == "db:9/towpath"
    assert "a" not in repr(settings).removeprefix("PostgresSettings").replace("schema", "")
    with pytest.raises(Permanent, match="leave one out"):
        postgres_settings(url("another") | {"TOWPATH_POSTGRES_PASSWORD_FILE": str(file)})
