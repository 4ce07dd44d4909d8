"""What lies on the disk: tampering, copied rows, rotation of keys, and what an erasure leaves behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag

from artifact_store.inprocess import Store, open_local, open_store
from artifact_store.vault.envelope import Place
from artifact_store.vault.keyring import Keyring, add_kek, drop_kek, open_keyring
from artifact_store.vault.rotation import kek_ids_in_use, rewrap, rotate
from kernel.domain.ids import ConnectionId, SubjectId
from kernel.errors import Permanent, SecretUnavailable
from kernel.ids import SystemEntropy
from kernel.store.port import PutHeader, SecretKind, SecretRef
from tests.support.stores import ACME, GATEWAY, OpenedStore, run_opener, store_in

CHANCE = SystemEntropy()
BANK = ConnectionId("connection-bank")
VALUE = b"correct horse battery staple"
NONCE_BYTES, KEY_BYTES, TAG_BYTES = 12, 32, 16


@pytest.fixture(params=["in process", "on postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenedStore]:
    async with store_in(tmp_path, request.param) as opened:
        yield opened


@pytest.fixture
async def subject(store: OpenedStore) -> SubjectId:
    return await store.vault.subject_for(ACME, "customer 7")


async def put(store: OpenedStore, subject: SubjectId, value: bytes = VALUE) -> SecretRef:
    return await store.vault.put_secret(ACME, subject, SecretKind.INPUT, value)


async def reopened(store: OpenedStore) -> Store:
    """The store of a new process over the same folder."""
    blobs = await open_local(store.folder / "bytes")
    return await open_store(
        blobs, store.folder / "keyring.json", store.db, store.tokens, clock=store.clock, entropy=CHANCE
    )


@pytest.mark.parametrize("column", ["box", "wrapped_key"])
async def test_a_changed_row_does_not_open(store: OpenedStore, subject: SubjectId, column: str) -> None:
    ref = await put(store, subject)
    row = await store.db.fetch_one(f"SELECT {column} FROM secrets WHERE secret_id = ?", (ref,))
    assert row is not None
    changed = bytes([row[0][0] ^ 1]) + row[0][1:]
    await store.db.execute(f"UPDATE secrets SET {column} = ? WHERE secret_id = ?", (changed, ref))
    with pytest.raises(SecretUnavailable):
        await store.vault.open_secret(ref, run_opener())


async def test_a_row_copied_to_another_place_does_not_open(store: OpenedStore, subject: SubjectId) -> None:
    ref, other = await put(store, subject), await put(store, subject, b"other")
    row = await store.db.fetch_one("SELECT kek_id, wrapped_key, box FROM secrets WHERE secret_id = ?", (ref,))
    assert row is not None
    copy = "UPDATE secrets SET kek_id = ?, wrapped_key = ?, box = ? WHERE secret_id = ?"
    await store.db.execute(copy, (*row, other))
    with pytest.raises(SecretUnavailable):
        await store.vault.open_secret(other, run_opener())


async def test_an_older_session_does_not_pass_for_the_newer_one(store: OpenedStore, subject: SubjectId) -> None:
    until = store.clock.now_ms() + 1000
    await store.vault.save_session(BANK, subject, run_opener(), expected_version=0, state=b"one", expires_ms=until)
    old = await store.db.fetch_one("SELECT wrapped_key, box FROM sessions")
    await store.vault.save_session(BANK, subject, run_opener(), expected_version=1, state=b"two", expires_ms=until)
    assert old is not None
    await store.db.execute("UPDATE sessions SET wrapped_key = ?, box = ?", old)
    with pytest.raises(SecretUnavailable):
        await store.vault.load_session(BANK, run_opener())


async def test_a_rotation_wraps_all_keys_anew_and_everything_opens(store: OpenedStore, subject: SubjectId) -> None:
    path = store.folder / "keyring.json"
    refs = [await put(store, subject, b"value %d" % n) for n in range(5)]
    key = await store.vault.subject_key(subject, GATEWAY)
    until = store.clock.now_ms() + 1000
    await store.vault.save_session(BANK, subject, run_opener(), expected_version=0, state=b"one", expires_ms=until)
    boxes = await store.db.fetch_all("SELECT secret_id, box FROM secrets ORDER BY secret_id")
    old_id = open_keyring(path, CHANCE, create=False).active_id
    rotated = await rotate(store.db, path, CHANCE)
    assert rotated.wrapped == len(refs) + 2, "the subject's key and the session's, too"
    assert await kek_ids_in_use(store.db) == {rotated.kek_id} != {old_id}
    assert await store.db.fetch_all("SELECT secret_id, box FROM secrets ORDER BY secret_id") == boxes
    fresh = await reopened(store)
    assert [(await fresh.vault.open_secret(ref, run_opener())).reveal() for ref in refs][-1] == b"value 4"
    assert await fresh.vault.subject_key(subject, GATEWAY) == key
    session = await fresh.vault.load_session(BANK, run_opener())
    assert session is not None
    assert session.state == b"one"
    assert fresh.keyring.kek_ids == {old_id, rotated.kek_id}, "a vault that was open may have used the old one"
    assert (await rotate(store.db, path, CHANCE)).wrapped == len(refs) + 2
    assert old_id not in (await reopened(store)).keyring.kek_ids


async def test_a_rotation_that_was_broken_off_goes_on_with_the_key_it_added(
    store: OpenedStore, subject: SubjectId
) -> None:
    path = store.folder / "keyring.json"
    refs = [await put(store, subject, b"value %d" % n) for n in range(5)]
    keyring = add_kek(path, CHANCE)
    done = await rewrap(store.db, keyring, CHANCE, batch=2)
    assert 0 < done < len(refs)
    rotated = await rotate(store.db, path, CHANCE)
    assert (rotated.kek_id, rotated.wrapped) == (keyring.active_id, len(refs) + 1 - done)
    assert await kek_ids_in_use(store.db) == {keyring.active_id}


async def test_what_a_forgotten_vault_wrote_meanwhile_is_wrapped_by_the_next_call(
    store: OpenedStore, subject: SubjectId
) -> None:
    path = store.folder / "keyring.json"
    rotated = await rotate(store.db, path, CHANCE)
    late = await put(store, await store.vault.subject_for(ACME, "customer 8"), b"late")
    assert (await rotate(store.db, path, CHANCE)) == replace(rotated, wrapped=2)
    assert (await (await reopened(store)).vault.open_secret(late, run_opener())).reveal() == b"late"


async def test_a_rotation_without_a_key_that_rows_need_changes_nothing(store: OpenedStore, subject: SubjectId) -> None:
    path = store.folder / "keyring.json"
    await put(store, subject)
    old_id = open_keyring(path, CHANCE, create=False).active_id
    add_kek(path, CHANCE)
    kept = drop_kek(path, old_id)
    with pytest.raises(Permanent, match="keyring_incomplete"):
        await rotate(store.db, path, CHANCE)
    assert open_keyring(path, CHANCE, create=False).kek_ids == kept.kek_ids
    assert await kek_ids_in_use(store.db) == {old_id}


async def test_a_key_that_rows_need_may_not_be_missing(store: OpenedStore, subject: SubjectId) -> None:
    path = store.folder / "keyring.json"
    old_id = open_keyring(path, CHANCE, create=False).active_id
    add_kek(path, CHANCE)
    drop_kek(path, old_id)
    with pytest.raises(Permanent, match="keyring_incomplete"):
        await reopened(store)
    path.unlink()
    with pytest.raises(Permanent, match="keyring_missing"):
        await reopened(store)
    assert not path.exists(), "no fresh keyring beside rows that it cannot open"


@pytest.mark.parametrize("store", ["in process"], indirect=True)
async def test_nothing_of_an_erased_subject_can_be_had_from_the_folder(store: OpenedStore) -> None:
    alice = await store.vault.subject_for(ACME, "alice@customers.example")
    bob = await store.vault.subject_for(ACME, "bob@customers.example")
    wrapped, places, plain = {}, {}, [b"alice@customers.example", VALUE, b"alice's artifact", b"alice's cookies"]
    for subject in (alice, bob):
        row = await store.db.fetch_one("SELECT wrapped_key FROM subjects WHERE subject_id = ?", (subject,))
        assert row is not None
        wrapped[subject], places[subject] = bytes(row[0]), Place(ACME, "subject", subject)
    await put(store, alice)
    await store.bytes.put_bytes(b"alice's artifact", PutHeader(alice, GATEWAY))
    until = store.clock.now_ms() + 1000
    await store.vault.save_session(
        BANK, alice, run_opener(), expected_version=0, state=b"alice's cookies", expires_ms=until
    )
    await store.vault.erase_subject(alice)

    keyring = open_keyring(store.folder / "keyring.json", CHANCE, create=False)
    everything = b"\x00".join(path.read_bytes() for path in store.folder.rglob("*") if path.is_file())
    assert not [value for value in plain if value in everything]
    assert wrapped[alice] not in everything
    assert wrapped[bob] in everything, "the search looks where keys lie"
    assert unwrap_key_of(everything, keyring, places[alice]) is None
    assert unwrap_key_of(everything, keyring, places[bob]) is not None


def unwrap_key_of(everything: bytes, keyring: Keyring, place: Place) -> bytes | None:
    """Try every position of the raw bytes as a wrapped key, with the keyring at hand."""
    length, associated, kek = NONCE_BYTES + KEY_BYTES + TAG_BYTES, place.associated("key"), keyring.active
    for start in range(len(everything) - length):
        part = everything[start : start + length]
        if part.count(0) > 8:
            continue
        try:
            return kek.decrypt(part[:NONCE_BYTES], part[NONCE_BYTES:], associated)
        except InvalidTag:
            continue
    return None
