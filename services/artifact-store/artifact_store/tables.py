"""The tables of the artifact store. They belong into the backup: little in them can be rebuilt from the log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kernel.sql.port import Dialect, Migration

HELD: Final[Mapping[str, str]] = {"sqlite": "", "postgres": "FOR SHARE OF subjects"}
"""Behind a SELECT from `subjects` that something is inserted from: until the insert is durable no erasure passes it."""

_FIRST = (
    """
    CREATE TABLE subjects (
        subject_id TEXT PRIMARY KEY,
        organization_id TEXT NOT NULL,
        lookup {bytes} NOT NULL UNIQUE,
        kek_id TEXT NOT NULL,
        wrapped_key {bytes} NOT NULL,
        created_ms BIGINT NOT NULL
    )
    """,
    """
    CREATE TABLE secrets (
        secret_id TEXT PRIMARY KEY,
        organization_id TEXT NOT NULL,
        subject_id TEXT NOT NULL,
        kind TEXT NOT NULL,
        kek_id TEXT NOT NULL,
        wrapped_key {bytes} NOT NULL,
        box {bytes} NOT NULL,
        created_ms BIGINT NOT NULL,
        expires_ms BIGINT
    )
    """,
    "CREATE INDEX secrets_by_subject ON secrets (subject_id)",
    "CREATE INDEX secrets_by_expiry ON secrets (expires_ms)",
    """
    CREATE TABLE sessions (
        connection_id TEXT PRIMARY KEY,
        organization_id TEXT NOT NULL,
        subject_id TEXT NOT NULL,
        version BIGINT NOT NULL,
        kek_id TEXT NOT NULL,
        wrapped_key {bytes} NOT NULL,
        box {bytes} NOT NULL,
        saved_ms BIGINT NOT NULL,
        expires_ms BIGINT NOT NULL
    )
    """,
    "CREATE INDEX sessions_by_subject ON sessions (subject_id)",
    "CREATE INDEX sessions_by_expiry ON sessions (expires_ms)",
    """
    CREATE TABLE credential_guards (
        connection_id TEXT NOT NULL,
        organization_id TEXT NOT NULL,
        round BIGINT NOT NULL,
        task_id TEXT NOT NULL,
        refs TEXT NOT NULL,
        version BIGINT NOT NULL,
        PRIMARY KEY (connection_id, organization_id)
    )
    """,
    """
    CREATE TABLE vault_audit (
        audit_id TEXT PRIMARY KEY,
        at_ms BIGINT NOT NULL,
        organization_id TEXT NOT NULL,
        opener TEXT NOT NULL,
        root_run_id TEXT NOT NULL,
        workflow_run_id TEXT NOT NULL,
        task_id TEXT NOT NULL,
        attempt BIGINT NOT NULL,
        action TEXT NOT NULL,
        kind TEXT NOT NULL,
        ref TEXT NOT NULL,
        outcome TEXT NOT NULL
    )
    """,
    "CREATE INDEX vault_audit_by_time ON vault_audit (organization_id, at_ms)",
    """
    CREATE TABLE blob_owners (
        sha256 TEXT NOT NULL,
        subject_id TEXT NOT NULL,
        organization_id TEXT NOT NULL,
        created_ms BIGINT NOT NULL,
        named BIGINT NOT NULL,
        PRIMARY KEY (sha256, subject_id)
    )
    """,
    "CREATE INDEX blob_owners_by_subject ON blob_owners (subject_id)",
    "CREATE INDEX blob_owners_unnamed ON blob_owners (created_ms) WHERE named = 0",
)

_CODE_WINDOWS = (
    """
    CREATE TABLE code_windows (
        seed {bytes} PRIMARY KEY,
        last_window BIGINT NOT NULL,
        used_ms BIGINT NOT NULL
    )
    """,
    "CREATE INDEX code_windows_by_time ON code_windows (used_ms)",
)

_SHARED = (
    """
    CREATE TABLE blob_removals (
        sha256 TEXT PRIMARY KEY,
        mark TEXT NOT NULL,
        begun_ms BIGINT NOT NULL,
        done BIGINT NOT NULL
    )
    """,
    "CREATE INDEX blob_removals_by_mark ON blob_removals (mark)",
    """
    CREATE TABLE named_blobs (
        sha256 TEXT NOT NULL,
        name TEXT NOT NULL,
        PRIMARY KEY (sha256, name)
    )
    """,
    "CREATE INDEX named_blobs_by_name ON named_blobs (name)",
    """
    CREATE TABLE naming_offsets (
        topic TEXT NOT NULL,
        partition BIGINT NOT NULL,
        topic_id TEXT NOT NULL,
        next_offset BIGINT NOT NULL,
        PRIMARY KEY (topic, partition)
    )
    """,
    "CREATE TABLE names_to_forget (name TEXT PRIMARY KEY)",
    """
    CREATE TABLE store_turns (
        name TEXT PRIMARY KEY,
        holder TEXT NOT NULL,
        until_ms BIGINT NOT NULL
    )
    """,
)
"""What processes over one store tell each other: removals, names of blobs, how far they were read, whose turn it is."""


def migrations(dialect: Dialect) -> tuple[Migration, ...]:
    """All migrations of this component, for `kernel.sql.port.migrate`."""
    binary = {"sqlite": "BLOB", "postgres": "BYTEA"}[dialect]
    named = (("vault_and_owners", _FIRST), ("code_windows", _CODE_WINDOWS), ("shared_store", _SHARED))
    return tuple(
        Migration("artifact_store", number, name, tuple(_typed(sql, binary) for sql in statements))
        for number, (name, statements) in enumerate(named, 1)
    )


def _typed(sql: str, binary: str) -> str:
    return " ".join(sql.replace("{bytes}", binary).split())
