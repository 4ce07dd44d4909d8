"""The tables of the artifact store. None can be rebuilt from the log: they belong into the backup."""

from __future__ import annotations

from typing import Literal

from kernel.sql.port import Migration

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


def migrations(dialect: Literal["sqlite", "postgres"]) -> tuple[Migration, ...]:
    """All migrations of this component, for `kernel.sql.port.migrate`."""
    binary = {"sqlite": "BLOB", "postgres": "BYTEA"}[dialect]
    named = (("vault_and_owners", _FIRST), ("code_windows", _CODE_WINDOWS))
    return tuple(
        Migration("artifact_store", number, name, tuple(_typed(sql, binary) for sql in statements))
        for number, (name, statements) in enumerate(named, 1)
    )


def _typed(sql: str, binary: str) -> str:
    return " ".join(sql.replace("{bytes}", binary).split())
