"""The URL of PostgreSQL: what it is not is said without it, for it holds a password."""

from __future__ import annotations

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
        url(f"[{PASSWORD}"),
        url(PASSWORD, scheme="mysql"),
        {"TOWPATH_POSTGRES_URL": PASSWORD},
    ],
    ids=["slash", "hash", "question mark", "bracket", "scheme", "no url"],
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
