"""Rotation of the key-encrypting key: data keys are wrapped anew, values are not touched.

The job has no state of its own: what is still under an old key is what is left to do, so it may stop and go on at any
time, beside a working vault.
"""

from __future__ import annotations

from dataclasses import dataclass

from artifact_store.vault.envelope import Place, WrappedKey, rewrap_key
from artifact_store.vault.keyring import Keyring
from kernel.ids import Entropy
from kernel.sql.port import Database


@dataclass(frozen=True, slots=True)
class _Table:
    """How a table's envelopes are found: columns of its place (tenant, kind, id, version)."""

    name: str
    id_column: str
    place_columns: str


_TABLES = (
    _Table("subjects", "subject_id", "organization_id, 'subject', subject_id, 1"),
    _Table("secrets", "secret_id", "organization_id, kind, secret_id, 1"),
    _Table("sessions", "connection_id", "organization_id, 'session', connection_id, version"),
)


async def rewrap(db: Database, keyring: Keyring, entropy: Entropy, *, batch: int = 100) -> int:
    """Rewrap up to `batch` data keys of each table; returns how many. Call until it returns 0, then drop old KEKs.

    A row that changes meanwhile is left to the next call. `SecretUnavailable` for a row whose KEK is not there.
    """
    return sum([await _rewrap_table(db, keyring, entropy, table, batch) for table in _TABLES])


async def _rewrap_table(db: Database, keyring: Keyring, entropy: Entropy, table: _Table, batch: int) -> int:
    rows = await db.fetch_all(
        f"SELECT {table.place_columns}, kek_id, wrapped_key FROM {table.name} "  # noqa: S608 (names of this module)
        f"WHERE kek_id <> ? LIMIT {batch}",
        (keyring.active_id,),
    )
    update = (
        f"UPDATE {table.name} SET kek_id = ?, wrapped_key = ? "  # noqa: S608 (names of this module)
        f"WHERE {table.id_column} = ? AND kek_id = ? AND wrapped_key = ?"
    )
    for organization_id, kind, row_id, version, kek_id, wrapped in rows:
        old = WrappedKey(kek_id, bytes(wrapped))
        new = rewrap_key(keyring, old, Place(organization_id, kind, row_id, version), entropy)
        await db.execute(update, (new.kek_id, new.wrapped, row_id, old.kek_id, old.wrapped))
    return len(rows)


async def kek_ids_in_use(db: Database) -> frozenset[str]:
    """Ids of the keys that some row needs; all of them must be in the keyring."""
    rows = await db.fetch_all(
        "SELECT kek_id FROM subjects UNION SELECT kek_id FROM secrets UNION SELECT kek_id FROM sessions", ()
    )
    return frozenset(row[0] for row in rows)
