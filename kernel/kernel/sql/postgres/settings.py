"""Where PostgreSQL is, from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated
from urllib.parse import urlsplit

from kernel.errors import Permanent
from kernel.settings import SecretText, Within, read_settings, text_or_file
from kernel.sql.postgres.database import UNHURRIED, PostgresDatabase
from kernel.sql.postgres.signals import PostgresSignals

_URL = "TOWPATH_POSTGRES_URL"


@dataclass(frozen=True, slots=True)
class PostgresSettings:
    """What every process with tables reads, from `TOWPATH_POSTGRES_<FIELD>`."""

    url: SecretText = field(default=SecretText(""), repr=False)
    """`postgresql://user:password@host:port/database`. It holds a password, so a file is better; the variable
    `TOWPATH_POSTGRES_URL` is read, too."""
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
        how = (
            "postgresql://user:password@host:port/database; in a password write / as %2F, # as %23, ? as %3F, [ as %5B"
        )
        raise Permanent("setting_malformed", f"{_URL} is no {how}")
    rest = {name: value for name, value in environment.items() if name != f"{_URL}_FILE"}
    settings = read_settings(PostgresSettings, "TOWPATH_POSTGRES_", rest)
    return PostgresSettings(SecretText(url), settings.schema, settings.connections)


def _is_url(text: str) -> bool:
    """Whether it reads as the URL of a server. What it is instead nobody tells: it may be a piece of the password."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme in {"postgresql", "postgres"} and not parts.fragment
