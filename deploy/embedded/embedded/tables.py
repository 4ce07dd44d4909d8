"""The embedded form's own tables, beside those of the services: what can be found out anew by reading the log."""

from __future__ import annotations

from kernel.sql.port import Migration

MIGRATIONS = (
    Migration(
        "embedded",
        1,
        "blob_names",
        (
            (
                "CREATE TABLE blob_names (sha256 TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (sha256, name))"
                " WITHOUT ROWID"
            ),
            "CREATE INDEX blob_names_by_name ON blob_names (name)",
            (
                "CREATE TABLE naming_positions (topic TEXT NOT NULL, partition INTEGER NOT NULL, topic_id TEXT NOT"
                " NULL, next_offset INTEGER NOT NULL, PRIMARY KEY (topic, partition)) WITHOUT ROWID"
            ),
        ),
    ),
    Migration(
        "embedded",
        2,
        "snapshot_hints",
        (
            (
                "CREATE TABLE snapshot_hints (ledger TEXT NOT NULL, partition INTEGER NOT NULL, start INTEGER NOT NULL,"
                " PRIMARY KEY (ledger, partition)) WITHOUT ROWID"
            ),
        ),
    ),
    Migration(
        "embedded",
        3,
        "names_move_to_the_store",
        (
            "INSERT INTO named_blobs (sha256, name) SELECT sha256, name FROM blob_names",
            (
                "INSERT INTO naming_offsets (topic, partition, topic_id, next_offset)"
                " SELECT topic, partition, topic_id, next_offset FROM naming_positions"
            ),
            "DROP TABLE blob_names",
            "DROP TABLE naming_positions",
        ),
    ),
)
