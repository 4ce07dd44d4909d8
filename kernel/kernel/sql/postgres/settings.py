"""Where PostgreSQL is, from the environment.

A password that stands in the URL as it is may end the URL too soon, and what is left of it reads as a host, a port or
an option. A URL in which that may have happened is refused: it must be written as in every URL, or have its own file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated
from urllib.parse import parse_qs, quote, unquote, urlsplit, urlunsplit

from kernel.errors import Permanent
from kernel.settings import SecretText, Within, read_settings, text_or_file
from kernel.sql.postgres.database import UNHURRIED, PostgresDatabase
from kernel.sql.postgres.signals import PostgresSignals

_URL = "TOWPATH_POSTGRES_URL"
_PASSWORD = "TOWPATH_POSTGRES_PASSWORD"  # noqa: S105 (the name of a variable)
_FORM = (
    "postgresql://user:password@host:port/database; in a password write % as %25, / as %2F, # as %23, ? as %3F,"
    f" @ as %40, [ as %5B, a space as %20, or put it as it is into the file that {_PASSWORD}_FILE names"
)
_NOT_OF_A_URL = re.compile(r"[\x00-\x20\x7f#]|%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class PostgresSettings:
    """What every process with tables reads, from `TOWPATH_POSTGRES_<FIELD>`."""

    url: SecretText = field(default=SecretText(""), repr=False)
    """`postgresql://user:password@host:port/database`. It holds a password, so a file is better; the variable
    `TOWPATH_POSTGRES_URL` is read, too. A password in it is written as in every URL, such as `%2F` for `/`."""
    password: SecretText = field(default=SecretText(""), repr=False)
    """The password as it is, nothing escaped, where the URL holds none; white space around it does not count. The
    variable `TOWPATH_POSTGRES_PASSWORD` is read, too."""
    schema: str = ""
    """Where the tables are; empty: where the server looks first, usually `public`."""
    connections: Annotated[int, Within(1, 1000)] = 10
    """Connections that one process holds at most; all processes together must stay below the server's own bound."""

    @property
    def place(self) -> str:
        """The server and database without the password, for people."""
        parts = urlsplit(self.url)
        return f"{parts.hostname or 'localhost'}:{parts.port or 5432}{parts.path}"

    async def open(self) -> PostgresDatabase:
        """The database; errors are those of `PostgresDatabase.open`."""
        return await PostgresDatabase.open(self.url, pool_max=self.connections, schema=self.schema or None)

    async def open_unhurried(self) -> PostgresDatabase:
        """As `open`, for migrations: a statement may take any time."""
        return await PostgresDatabase.open(self.url, pool_max=2, schema=self.schema or None, timeouts=UNHURRIED)

    def signals(self) -> PostgresSignals:
        """The signals of the same schema."""
        return PostgresSignals(self.url, schema=self.schema or None)


def postgres_settings(environment: Mapping[str, str]) -> PostgresSettings:
    """Settings of an environment; `Permanent` names the variable that is missing or wrong."""
    url = text_or_file(_URL, environment)
    if not url:
        raise Permanent("setting_missing", f"set {_URL}_FILE")
    if not _is_url(url):
        raise Permanent("setting_malformed", f"{_URL} is no {_FORM}")
    rest = {name: value for name, value in environment.items() if name != f"{_URL}_FILE"}
    settings = read_settings(PostgresSettings, "TOWPATH_POSTGRES_", rest)
    password = settings.password or environment.get(_PASSWORD, "")
    return replace(settings, url=SecretText(_with_password(url, password)), password=SecretText(password))


def _is_url(text: str) -> bool:
    """Whether it reads as the URL of a server. What it is instead nobody tells: it may be a piece of the password."""
    try:
        parts = urlsplit(text)
        _ = parts.port, unquote(text, errors="strict")
        if parts.query:
            parse_qs(parts.query, strict_parsing=True)
    except ValueError:
        return False
    # An @ elsewhere than before the host is one of the password, or stands behind the piece that was cut off.
    is_whole = text.count("@") == parts.netloc.count("@") <= 1 and not _NOT_OF_A_URL.search(text)
    return parts.scheme in {"postgresql", "postgres"} and is_whole


def _with_password(url: str, password: str) -> str:
    """The URL with the password that has a file of its own."""
    if not password:
        return url
    parts = urlsplit(url)
    if parts.password or "password" in parse_qs(parts.query):
        raise Permanent("setting_malformed", f"{_URL} holds a password, and {_PASSWORD}_FILE another: leave one out")
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user.rstrip(':')}:{quote(password, safe='')}@{host}"))
