"""The contract of `ByteStore`, in process and over gRPC."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from artifact_store.blobs.local import LocalBlobs
from artifact_store.owned_bytes import STAGED_MS_MAX
from kernel.domain.ids import SubjectId
from kernel.errors import Permanent, Rejected, SecretUnavailable
from kernel.store.port import CHUNK_BYTES, GatewayOpener, PutHeader
from tests.support.components import needs_s3
from tests.support.stores import (
    ACME,
    CLUSTER,
    GATEWAY,
    OTHER,
    WAYS,
    BrokenLineError,
    OpenedStore,
    broken_after,
    run_opener,
    store_in,
    stream,
)

BIG = bytes(range(256)) * 2500 + b"tail"


@pytest.fixture(params=[*WAYS, pytest.param(CLUSTER, marks=needs_s3)])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenedStore]:
    async with store_in(tmp_path, request.param) as opened:
        yield opened


@pytest.fixture
async def subject(store: OpenedStore) -> SubjectId:
    return await store.vault.subject_for(ACME, "customer 7")


async def kept_in(store: OpenedStore) -> list[str]:
    """The digests of all blobs, and the ids of all unfinished uploads."""
    blobs = store.inside.bytes._blobs
    return sorted([sha256 async for page in blobs.digests() for sha256 in page]) + await blobs.uploads()


async def test_what_was_put_comes_back_in_chunks(store: OpenedStore, subject: SubjectId) -> None:
    staged = await store.runner_bytes.put(stream(BIG[:1000], BIG[1000:]), PutHeader(subject, run_opener()))
    chunks = [chunk async for chunk in store.bytes.get(staged.sha256)]
    assert b"".join(chunks) == BIG
    assert max(map(len, chunks)) <= CHUNK_BYTES
    assert (staged.sha256, staged.size) == (hashlib.sha256(BIG).hexdigest(), len(BIG))
    assert await store.bytes.stat(staged.sha256) == len(BIG)


@pytest.mark.parametrize(("offset", "length"), [(0, 0), (0, 5), (7, None), (300_000, 290_000), (len(BIG), 4)])
async def test_a_range_is_read(store: OpenedStore, subject: SubjectId, offset: int, length: int | None) -> None:
    staged = await store.bytes.put_bytes(BIG, PutHeader(subject, GATEWAY))
    end = None if length is None else offset + length
    got = b"".join([chunk async for chunk in store.bytes.get(staged.sha256, offset=offset, length=length)])
    assert got == BIG[offset:end]


async def test_nothing_is_a_blob_too(store: OpenedStore, subject: SubjectId) -> None:
    staged = await store.bytes.put_bytes(b"", PutHeader(subject, GATEWAY))
    assert await store.bytes.get_bytes(staged.sha256) == b""
    assert await store.bytes.stat(staged.sha256) == 0


async def test_the_same_content_is_one_blob(store: OpenedStore, subject: SubjectId) -> None:
    first = await store.bytes.put_bytes(b"the same", PutHeader(subject, GATEWAY))
    second = await store.runner_bytes.put_bytes(b"the same", PutHeader(subject, run_opener()))
    assert first == second
    assert await kept_in(store) == [first.sha256]


async def test_an_unknown_blob_is_missing(store: OpenedStore) -> None:
    for name in ("0" * 64, "../../keyring.json", ""):
        with pytest.raises(Permanent, match="blob_missing"):
            await store.bytes.get_bytes(name)
    assert await store.bytes.stat("0" * 64) is None


@pytest.mark.parametrize(
    ("declared", "code"), [({"sha256": "0" * 64}, "hash_mismatch"), ({"size": 3}, "size_mismatch")]
)
async def test_other_bytes_than_declared_are_refused(
    store: OpenedStore, subject: SubjectId, declared: dict[str, str], code: str
) -> None:
    header = PutHeader(subject, GATEWAY, **declared)  # type: ignore[arg-type]  # one test over two fields
    with pytest.raises(Rejected) as refusal:
        await store.bytes.put(stream(b"data"), header)
    assert refusal.value.code == code
    assert await kept_in(store) == []


async def test_too_many_bytes_are_refused(store: OpenedStore, subject: SubjectId) -> None:
    with pytest.raises(Rejected, match="blob_too_large"):
        await store.bytes.put(stream(*[bytes(CHUNK_BYTES)] * 40), PutHeader(subject, GATEWAY))
    assert await kept_in(store) == []


async def test_a_broken_stream_leaves_nothing_visible_and_goes_on(store: OpenedStore, subject: SubjectId) -> None:
    half = len(BIG) // 2
    header = PutHeader(subject, run_opener(), upload_id="upload-1", size=len(BIG))
    writes_at_once = isinstance(store.inside.bytes._blobs, LocalBlobs)  # a bucket is written when the line breaks

    async def line() -> AsyncIterator[bytes]:
        yield BIG[:1000]
        yield BIG[1000:half]
        while writes_at_once and await store.inside.bytes.query_put("upload-1") < 1000:
            await store.clock.sleep(0.01)
        raise BrokenLineError

    with pytest.raises(BrokenLineError):
        await store.runner_bytes.put(line(), header)
    assert await store.bytes.stat(hashlib.sha256(BIG[:half]).hexdigest()) is None
    committed = await _settled_offset(store, "upload-1")
    assert 0 < committed <= half
    resumed = PutHeader(subject, run_opener(), upload_id="upload-1", offset=committed, size=len(BIG))
    staged = await store.runner_bytes.put(stream(BIG[committed:]), resumed)
    assert staged.sha256 == hashlib.sha256(BIG).hexdigest()
    assert await store.bytes.query_put("upload-1") == 0


async def _settled_offset(store: OpenedStore, upload_id: str) -> int:
    """The offset once the broken call is over on the far side as well."""
    blobs = store.inside.bytes._blobs
    while blobs._busy:  # type: ignore[attr-defined]  # the local folder knows who is writing
        await store.clock.sleep(0.01)
    return await store.runner_bytes.query_put(upload_id)


async def test_a_broken_stream_without_upload_id_leaves_nothing(store: OpenedStore, subject: SubjectId) -> None:
    with pytest.raises(BrokenLineError):
        await store.bytes.put(broken_after(BIG), PutHeader(subject, GATEWAY))
    while await kept_in(store):
        await store.clock.sleep(0.01)


async def test_chunks_at_another_offset_are_refused(store: OpenedStore, subject: SubjectId) -> None:
    header = PutHeader(subject, GATEWAY, upload_id="upload-2", offset=10)
    with pytest.raises(Rejected, match="offset_mismatch"):
        await store.bytes.put(stream(b"late"), header)


@pytest.mark.parametrize("upload_id", ["../../evil", "a" * 65, "with space", "dot.dot"])
async def test_an_upload_id_is_no_path(store: OpenedStore, subject: SubjectId, upload_id: str) -> None:
    with pytest.raises(Rejected, match="upload_id_malformed"):
        await store.bytes.put(stream(b"x"), PutHeader(subject, GATEWAY, upload_id=upload_id))


async def test_an_old_attempt_stages_nothing(store: OpenedStore, subject: SubjectId) -> None:
    store.tokens.current["run-1"] = 2
    with pytest.raises(SecretUnavailable, match="token"):
        await store.runner_bytes.put_bytes(b"late", PutHeader(subject, run_opener(1)))
    assert await kept_in(store) == []
    await store.runner_bytes.put_bytes(b"in time", PutHeader(subject, run_opener(2)))


async def test_a_token_that_lapses_during_the_stream_stages_nothing(store: OpenedStore, subject: SubjectId) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"begun in time"
        store.tokens.current["run-1"] = 2
        yield b", ended late"

    with pytest.raises(SecretUnavailable, match="token"):
        await store.runner_bytes.put(slow(), PutHeader(subject, run_opener(1)))
    assert await kept_in(store) == []


async def test_a_foreign_subject_owns_nothing_here(store: OpenedStore, subject: SubjectId) -> None:
    with pytest.raises(SecretUnavailable, match="subject"):
        await store.bytes.put_bytes(b"x", PutHeader(subject, GatewayOpener(OTHER)))


async def test_what_was_never_named_is_swept_after_a_day(store: OpenedStore, subject: SubjectId) -> None:
    named = await store.bytes.put_bytes(b"named", PutHeader(subject, GATEWAY))
    unnamed = await store.bytes.put_bytes(b"unnamed", PutHeader(subject, GATEWAY))
    await store.bytes.mark_named([named.sha256, "0" * 64])
    staged_ms = store.clock.now_ms()
    assert await store.inside.sweep(staged_ms + STAGED_MS_MAX) == 0
    assert await store.bytes.stat(unnamed.sha256) is not None
    assert await store.inside.sweep(staged_ms + STAGED_MS_MAX + 1) == 1
    assert await store.bytes.stat(unnamed.sha256) is None
    assert await store.bytes.get_bytes(named.sha256) == b"named"


async def test_a_blob_without_owner_is_swept_after_a_day(store: OpenedStore, subject: SubjectId) -> None:
    staged = await store.bytes.put_bytes(b"orphan", PutHeader(subject, GATEWAY))
    await store.db.execute("DELETE FROM blob_owners")
    now_ms = store.clock.now_ms()
    assert await store.inside.sweep(now_ms + STAGED_MS_MAX - 1) == 0
    assert await store.inside.sweep(now_ms + STAGED_MS_MAX + 1) == 1
    assert await store.bytes.stat(staged.sha256) is None


async def test_an_unfinished_upload_is_swept_after_a_day(store: OpenedStore, subject: SubjectId) -> None:
    header = PutHeader(subject, GATEWAY, upload_id="upload-3")
    with pytest.raises(BrokenLineError):
        await store.bytes.put(broken_after(b"half"), header)
    assert await _settled_offset(store, "upload-3") <= 4
    await store.inside.sweep(store.clock.now_ms() + STAGED_MS_MAX + 1)
    assert await kept_in(store) == []


async def test_an_erased_subject_keeps_what_others_own_too(store: OpenedStore, subject: SubjectId) -> None:
    other = await store.vault.subject_for(ACME, "customer 8")
    shared = await store.bytes.put_bytes(b"shared", PutHeader(subject, GATEWAY))
    await store.bytes.put_bytes(b"shared", PutHeader(other, GATEWAY))
    own = await store.bytes.put_bytes(b"own", PutHeader(subject, GATEWAY))
    with pytest.raises(BrokenLineError):
        await store.bytes.put(broken_after(b"half"), PutHeader(subject, GATEWAY, upload_id="upload-4"))
    await _settled_offset(store, "upload-4")
    await store.vault.erase_subject(subject)
    assert await store.bytes.stat(own.sha256) is None
    assert await kept_in(store) == [shared.sha256]
    await store.vault.erase_subject(other)
    assert await kept_in(store) == []
    with pytest.raises(SecretUnavailable):
        await store.bytes.put_bytes(b"again", PutHeader(subject, GATEWAY))
    assert await kept_in(store) == []


@pytest.mark.parametrize(
    ("head", "name", "hint", "mime_type"),
    [
        (b"\x89PNG\r\n\x1a\n....", "x.html", "text/html", "image/png"),
        (b"%PDF-1.7", "", "", "application/pdf"),
        (b"a;b\n1;2\n", "report.CSV", "", "text/csv"),
        (b"a;b\n1;2\n", "", "text/csv; charset=utf-8", "text/csv"),
        (b'{"a": 1}', "a.json", "", "application/json"),
        (b"\x00\x01\x02", "a.csv", "text/csv", "application/octet-stream"),
        (b" <!DOCTYPE html><p>", "a.txt", "text/plain", "text/html"),
        (b"<?xml version='1.0'?><svg>", "", "image/png", "image/svg+xml"),
        (b"plain words", "", "", "text/plain"),
    ],
)
async def test_the_media_type_is_sniffed(store: OpenedStore, head: bytes, name: str, hint: str, mime_type: str) -> None:
    subject = await store.vault.subject_for(ACME)
    staged = await store.bytes.put_bytes(head, PutHeader(subject, GATEWAY, name=name, mime_hint=hint))
    assert staged.mime_type == mime_type
