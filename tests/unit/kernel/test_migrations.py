"""What a migration that only adds may do: nothing that an older build, which goes on beside it, could trip over."""

from __future__ import annotations

import re

import pytest

from api_gateway.migrations import migrations as gateway_migrations
from artifact_store.tables import migrations as store_migrations
from embedded.tables import MIGRATIONS
from kernel.sql.port import Dialect, Migration

_ADDS = re.compile(
    r"CREATE TABLE \w+ |CREATE INDEX \w+ ON |ALTER TABLE \w+ ADD COLUMN (?=.* DEFAULT |(?!.* NOT NULL))", re.DOTALL
)
_DIALECTS: tuple[Dialect, ...] = ("sqlite", "postgres")


def every(dialect: Dialect) -> list[Migration]:
    return [*gateway_migrations(dialect), *store_migrations(dialect), *MIGRATIONS]


@pytest.mark.parametrize("dialect", _DIALECTS)
def test_a_migration_that_any_older_build_may_work_on_only_adds(dialect: Dialect) -> None:
    adding = [migration for migration in every(dialect) if migration.oldest == 0]
    assert adding
    odd = [text for migration in adding for text in migration.statements if not _ADDS.match(text)]
    assert odd == []


@pytest.mark.parametrize("dialect", _DIALECTS)
def test_no_migration_claims_that_builds_may_work_on_it_which_come_after_it(dialect: Dialect) -> None:
    assert [one for one in every(dialect) if one.oldest is not None and not 0 <= one.oldest <= one.number] == []


@pytest.mark.parametrize(
    ("text", "adds"),
    [
        ("CREATE TABLE notes (id TEXT PRIMARY KEY)", True),
        ("CREATE INDEX notes_newest ON notes (id)", True),
        ("ALTER TABLE jobs ADD COLUMN note TEXT", True),
        ("ALTER TABLE jobs ADD COLUMN note TEXT NOT NULL DEFAULT ''", True),
        ("ALTER TABLE jobs ADD COLUMN note TEXT NOT NULL", False),
        ("ALTER TABLE jobs DROP COLUMN name", False),
        ("CREATE UNIQUE INDEX one_note ON notes (id)", False),
        ("UPDATE jobs SET name = ''", False),
        ("DROP INDEX jobs_newest", False),
    ],
)
def test_what_counts_as_adding(text: str, *, adds: bool) -> None:
    assert bool(_ADDS.match(text)) is adds
