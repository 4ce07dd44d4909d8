"""An S3 server that refuses, dies, hangs and is cut off: nothing acknowledged is lost, and every call ends."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from artifact_store.blobs import bucket as bucket_module
from artifact_store.blobs.bucket import BucketSettings
from artifact_store.blobs.opening import round_trip
from artifact_store.blobs.s3 import SEGMENT_BYTES, S3Blobs, open_s3
from cluster.components.s3 import LocalS3
from kernel.clock import SystemClock
from kernel.errors import Permanent, Temporary
from kernel.ids import SystemEntropy
from kernel.store.port import CHUNK_BYTES
from tests.support.buckets import make_bucket, s3_blobs
from tests.support.components import S3Server, needs_s3, s3_server
from tests.support.cutting import Cut, CuttingProxy, cutting_proxy
from tests.support.eventually import until
from tests.support.stores import BrokenLineError, broken_after, stream

pytestmark = needs_s3

BIG = bytes(range(256)) * (SEGMENT_BYTES // 256 * 2) + b"and the rest"
GIB = 1024**3


def pieces(value: bytes) -> list[bytes]:
    return [value[start : start + CHUNK_BYTES] for start in range(0, len(value), CHUNK_BYTES)]


async def put(blobs: S3Blobs, value: bytes, upload_id: str = "upload-1", offset: int = 0) -> str:
    uploaded = await blobs.upload(upload_id, offset, stream(*pieces(value[offset:])), GIB, 1000)
    await blobs.publish(uploaded)
    return uploaded.sha256


async def whole(blobs: S3Blobs, sha256: str) -> bytes:
    return b"".join([chunk async for chunk in blobs.read(sha256, 0, None)])


@pytest.fixture
async def proxy() -> AsyncIterator[CuttingProxy]:
    async with cutting_proxy(int(s3_server().endpoint.rpartition(":")[2])) as running:
        yield running


@pytest.fixture
async def settings(proxy: CuttingProxy) -> BucketSettings:
    """A bucket behind the proxy."""
    return replace(await make_bucket(), endpoint=f"http://127.0.0.1:{proxy.port}")


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[LocalS3]:
    with LocalS3(tmp_path / "s3") as server:
        yield server


async def own_bucket(server: LocalS3) -> BucketSettings:
    made = await make_bucket(S3Server(server.endpoint, server.access_key, server.secret_key))
    return replace(made, answer_seconds=1.0)


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"secret_key": "not-the-secret"}, "SignatureDoesNotMatch"),
        ({"access_key": "nobody"}, "UserNotFound"),  # Amazon says InvalidAccessKeyId
        ({"bucket": "no-such-bucket"}, "NoSuchBucket"),
    ],
)
async def test_what_cannot_be_used_is_refused_with_one_clear_line(wrong: dict[str, str], code: str) -> None:
    settings = await make_bucket()
    async with AsyncExitStack() as stack:
        with pytest.raises(Permanent, match="store_refused") as refusal:
            await open_s3(replace(settings, **wrong), stack, SystemClock(), SystemEntropy())  # type: ignore[arg-type]  # one test over three fields
    assert code in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert str(settings.secret_key) not in repr(settings) + str(refusal.value)


async def test_a_store_that_is_not_there_is_a_temporary_failure() -> None:
    settings = replace(await make_bucket(), endpoint="http://127.0.0.1:9", answer_seconds=0.5)
    async with AsyncExitStack() as stack:
        with pytest.raises(Temporary, match="does not answer"):
            await open_s3(settings, stack, SystemClock(), SystemEntropy())


async def test_an_address_that_is_none_is_refused() -> None:
    settings = replace(await make_bucket(), endpoint="not an address")
    async with AsyncExitStack() as stack:
        with pytest.raises(Permanent, match="store_refused"):
            await open_s3(settings, stack, SystemClock(), SystemEntropy())


async def test_keys_that_stop_being_right_are_a_temporary_failure(own_server: LocalS3) -> None:
    async with s3_blobs(await own_bucket(own_server)) as blobs:
        sha256 = await put(blobs, b"kept")
        own_server.stop()
        right = own_server.access_key
        own_server.access_key = "somebody-else"
        own_server.start()
        with pytest.raises(Temporary, match="store_unavailable"):
            await put(blobs, b"more")
        with pytest.raises(Temporary, match="store_unavailable"):
            await whole(blobs, sha256)
        own_server.stop()
        own_server.access_key = right
        own_server.start()
        assert await whole(blobs, sha256) == b"kept"


async def test_a_round_trip_proves_that_the_store_serves_and_leaves_nothing() -> None:
    settings = await make_bucket()
    async with s3_blobs(settings) as blobs:
        assert await round_trip(blobs, SystemClock(), SystemEntropy()) < 10
        assert [page async for page in blobs.digests() if page] == []
        assert await blobs.uploads() == []


# ---------------------------------------------------------------- cuts


@pytest.mark.parametrize("where", [Cut.BEFORE, Cut.BEHIND])
@pytest.mark.parametrize("word", [b"PUT /", b"POST /", b"x-amz-copy-source", b"<CompleteMultipartUpload", b"DELETE "])
async def test_a_cut_at_any_call_of_a_long_upload_loses_nothing(
    proxy: CuttingProxy, settings: BucketSettings, word: bytes, where: Cut
) -> None:
    async with s3_blobs(settings) as blobs:
        proxy.cut_at = (word, where)
        sha256 = await put(blobs, BIG)
        assert await whole(blobs, sha256) == BIG
        assert (proxy.cut_at is None) is (word != b"DELETE ")


@pytest.mark.parametrize("done", [True, False])
async def test_a_join_that_the_store_has_forgotten_is_published_only_when_the_blob_is_there(
    done: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with s3_blobs() as blobs:
        client = blobs._bucket._client
        complete = client.complete_multipart_upload

        async def forgotten(**request: Any) -> None:
            await (complete if done else client.abort_multipart_upload)(
                **{name: request[name] for name in request if done or name in {"Bucket", "Key", "UploadId"}}
            )
            raise ClientError({"Error": {"Code": "NoSuchUpload"}}, "CompleteMultipartUpload")

        monkeypatch.setattr(client, "complete_multipart_upload", forgotten)
        if not done:
            with pytest.raises(Temporary, match="forgot a join"):
                await put(blobs, BIG)
            monkeypatch.undo()
        assert await whole(blobs, await put(blobs, BIG)) == BIG


@pytest.mark.parametrize("where", [Cut.BEFORE, Cut.BEHIND])
async def test_a_cut_at_a_short_upload_and_at_a_read_loses_nothing(
    proxy: CuttingProxy, settings: BucketSettings, where: Cut
) -> None:
    async with s3_blobs(settings) as blobs:
        proxy.cut_at = (b"PUT /", where)
        sha256 = await put(blobs, b"short")
        assert proxy.cut_at is None
        proxy.cut_at = (b"GET /", where)
        assert await whole(blobs, sha256) == b"short"
        assert proxy.cut_at is None


async def test_a_store_that_hangs_is_given_up_in_bounded_time_and_used_again(
    proxy: CuttingProxy, settings: BucketSettings
) -> None:
    async with s3_blobs(replace(settings, answer_seconds=1.0)) as blobs:
        sha256 = await put(blobs, b"before")
        proxy.flowing.clear()
        async with asyncio.timeout(60):
            for call in (put(blobs, b"meanwhile"), whole(blobs, sha256), blobs.uploads()):
                with pytest.raises(Temporary, match="store_unavailable"):
                    await call
        proxy.flowing.set()
        assert await whole(blobs, sha256) == b"before"
        assert await whole(blobs, await put(blobs, b"after")) == b"after"


async def test_an_answer_that_is_cut_in_the_middle_of_its_bytes_is_asked_for_again() -> None:
    value, cuts = b"all of it", [4, 0, 9]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        if b"list-type" in asked:
            body = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body))
        else:
            head = b"HTTP/1.1 206 Partial Content\r\nContent-Length: 9\r\nContent-Range: bytes 0-8/9\r\n\r\n"
            writer.write(head + value[: cuts.pop(0)])
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server, AsyncExitStack() as stack:
        endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        cut = BucketSettings("b", endpoint, access_key="a", secret_key="s", answer_seconds=1.0)
        blobs = await open_s3(cut, stack, SystemClock(), SystemEntropy())
        assert await whole(blobs, hashlib.sha256(value).hexdigest()) == value
    assert cuts == []


async def test_a_slow_store_holds_the_line_back(proxy: CuttingProxy, settings: BucketSettings) -> None:
    taken = 0

    async def line() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += CHUNK_BYTES
            yield bytes(CHUNK_BYTES)

    async with s3_blobs(replace(settings, answer_seconds=30.0)) as blobs:
        proxy.flowing.clear()
        upload = asyncio.create_task(blobs.upload("upload-1", 0, line(), GIB, 1000))
        await until(lambda: taken >= SEGMENT_BYTES)
        for _ in range(200):
            await asyncio.sleep(0)
        assert taken == SEGMENT_BYTES
        proxy.flowing.set()
        await until(lambda: taken > 2 * SEGMENT_BYTES)
        upload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upload


async def test_a_server_killed_in_the_middle_of_an_upload_loses_nothing(own_server: LocalS3) -> None:
    async with s3_blobs(await own_bucket(own_server)) as blobs:
        kept = await put(blobs, b"acknowledged", "upload-0")

        async def line() -> AsyncIterator[bytes]:
            for number, piece in enumerate(pieces(BIG)):
                if number == 30:
                    await asyncio.to_thread(own_server.kill)
                yield piece

        with pytest.raises(Temporary, match="store_unavailable"):
            await blobs.upload("upload-1", 0, line(), GIB, 1000)
        await asyncio.to_thread(own_server.start)
        committed = await blobs.committed("upload-1")
        assert committed >= SEGMENT_BYTES
        sha256 = await put(blobs, BIG, "upload-1", committed)
        assert sha256 == hashlib.sha256(BIG).hexdigest()
        assert await whole(blobs, sha256) == BIG
        assert await whole(blobs, kept) == b"acknowledged"


# ---------------------------------------------------------------- two processes over one bucket


async def test_an_upload_goes_on_at_another_process_while_the_first_has_not_noticed() -> None:
    settings = await make_bucket()
    stuck, let_go = asyncio.Event(), asyncio.Event()

    async def line() -> AsyncIterator[bytes]:
        for piece in pieces(BIG[: SEGMENT_BYTES + 1000]):
            yield piece
        stuck.set()
        await let_go.wait()
        raise BrokenLineError

    async with s3_blobs(settings) as first, s3_blobs(settings) as second:
        broken = asyncio.create_task(first.upload("upload-1", 0, line(), GIB, 1000))
        await stuck.wait()
        assert await second.committed("upload-1") == SEGMENT_BYTES
        going_on = await second.upload("upload-1", SEGMENT_BYTES, stream(*pieces(BIG[SEGMENT_BYTES:])), GIB, 2000)
        let_go.set()
        with pytest.raises(BrokenLineError):
            await broken
        assert await second.committed("upload-1") == len(BIG)
        await second.publish(going_on)
        assert await whole(first, hashlib.sha256(BIG).hexdigest()) == BIG
        assert await first.uploads() == []


@pytest.mark.parametrize("value", [b"short", BIG], ids=["short", "long"])
async def test_equal_bytes_published_at_once_are_one_blob(value: bytes) -> None:
    settings = await make_bucket()
    async with s3_blobs(settings) as first, s3_blobs(settings) as second:
        stores = [first, second] * 3
        puts = [put(blobs, value, f"upload-{number}") for number, blobs in enumerate(stores)]
        assert set(await asyncio.gather(*puts)) == {hashlib.sha256(value).hexdigest()}
        assert [found async for page in first.digests() for found in page] == [hashlib.sha256(value).hexdigest()]
        assert await first.uploads() == []


async def test_what_a_killed_join_left_over_is_let_go() -> None:
    settings = await make_bucket()
    async with s3_blobs(settings) as blobs:
        client, key = blobs._bucket._client, f"{settings.prefix}blobs/ab/left"
        await client.create_multipart_upload(Bucket=settings.bucket, Key=key)
        await blobs.discard_older_than(1000)
        assert (await client.list_multipart_uploads(Bucket=settings.bucket)).get("Uploads")
        await blobs.discard_older_than(4_000_000_000_000)
        assert not (await client.list_multipart_uploads(Bucket=settings.bucket)).get("Uploads")


async def test_every_page_of_the_joins_that_were_left_over_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket_module, "_KEYS_MAX", 2)
    settings = await make_bucket()
    async with s3_blobs(settings) as blobs:
        client = blobs._bucket._client
        for number in range(5):
            await client.create_multipart_upload(Bucket=settings.bucket, Key=f"{settings.prefix}blobs/ab/left-{number}")
        await blobs.discard_older_than(4_000_000_000_000)
        assert not (await client.list_multipart_uploads(Bucket=settings.bucket)).get("Uploads")


async def test_long_listings_are_read_to_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket_module, "_KEYS_MAX", 3)
    async with s3_blobs() as blobs:
        kept = {await put(blobs, f"blob {number}".encode()) for number in range(10)}
        assert {found async for page in blobs.digests() for found in page} == kept
        for number in range(5):
            with pytest.raises(BrokenLineError):
                await blobs.upload(f"broken-{number}", 0, broken_after(b"half"), GIB, 1000 + number)
        assert len(await blobs.uploads()) == 5
        await blobs.discard_older_than(1003)
        assert await blobs.uploads() == ["broken-3", "broken-4"]
        await blobs.remove(await blobs.names(sorted(kept)))
        assert [page async for page in blobs.digests() if page] == []
