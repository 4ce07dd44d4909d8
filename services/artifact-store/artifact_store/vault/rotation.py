"""Rotation of the key-encrypting key: data keys are wrapped anew, values are not touched.

The job has no state of its own: what is still under an old key is what is left to do, so it may be broken off at any
time and called again. No vault works beside it: one that was opened before knows nothing of the new key.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from artifact_store.vault.envelope import Place, WrappedKey, rewrap_key
from artifact_store.vault.keyring import Keyring, add_kek, drop_kek, open_keyring
from kernel.errors import Permanent
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


@dataclass(frozen=True, slots=True)
class Rotated:
    """What a rotation has done: the id of the new key, and how many data keys it wraps now that another one had."""

    kek_id: str
    wrapped: int


async def rotate(db: Database, path: Path, entropy: Entropy) -> Rotated:
    """Wrap all data keys by a fresh KEK. No vault may be open.

    The KEK before it stays in the keyring at `path` until the next rotation, for a vault that was open nevertheless may
    have used it: called again, this wraps what such a vault has written, as it goes on after it was broken off.
    `Permanent` as of `open_keyring`, and `keyring_incomplete` when a row needs a KEK that is not there; nothing was
    changed then.
    """
    keyring = await asyncio.to_thread(open_keyring, path, entropy, create=False)
    in_use = await kek_ids_in_use(db)
    check_complete(keyring, in_use)
    if in_use <= {keyring.active_id}:
        for kek_id in sorted(keyring.kek_ids - {keyring.active_id}):
            await asyncio.to_thread(drop_kek, path, kek_id)
        keyring = await asyncio.to_thread(add_kek, path, entropy)
    wrapped = 0
    while done := await rewrap(db, keyring, entropy):
        wrapped += done
    return Rotated(keyring.active_id, wrapped)


def told(rotated: Rotated) -> str:
    """What to say to whoever asked for it."""
    return f"{rotated.kek_id} is the active key; {rotated.wrapped} data keys were wrapped anew."


def check_complete(keyring: Keyring, in_use: frozenset[str]) -> None:
    """`Permanent("keyring_incomplete")` when the keyring lacks a key that some row needs."""
    if missing := sorted(in_use - keyring.kek_ids):
        raise Permanent("keyring_incomplete", f"rows need keys that the keyring lacks: {', '.join(missing)}")


async def rewrap(db: Database, keyring: Keyring, entropy: Entropy, *, batch: int = 100) -> int:
    """Rewrap up to `batch` data keys of each table; returns how many. Call until it returns 0.

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
