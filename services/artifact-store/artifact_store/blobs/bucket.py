"""One bucket of an S3-compatible store: the calls that blobs need, with time-outs, retries and errors in our words.

Nothing else knows the vendor. Every call ends: connecting, waiting for an answer and all tries together are bounded.
Retries wait with jitter. So many calls run at once and no more; who comes later waits, and so does the line behind it.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from aiohttp import ClientPayloadError
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from kernel.errors import Permanent, Temporary

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import (
        CopySourceTypeDef,
        ListMultipartUploadsRequestTypeDef,
        ListObjectsV2OutputTypeDef,
        ListObjectsV2RequestTypeDef,
        ObjectIdentifierTypeDef,
        PutObjectRequestTypeDef,
    )

CALLS_MAX = 32
"""Calls at once to the store, of one process."""
_COPIES_MAX = 8
"""Of them for one blob that is put together from segments."""
_CONNECT_SECONDS = 5.0
_KEYS_MAX = 1000
"""Of one page of a listing, and of one deletion."""
_TRIES = 4
_DELAY_SECONDS = 1.0
_MISSING = frozenset({"NoSuchKey", "NotFound", "404", "NoSuchUpload"})
_REFUSED = frozenset({301, 400, 401, 403, 404})
"""Statuses that no waiting turns into others: keys, bucket, region."""
_CODE = re.compile(r"[A-Za-z0-9.]{1,64}")


@dataclass(frozen=True, slots=True)
class BucketSettings:
    """Where blobs lie, and what opens it."""

    bucket: str
    endpoint: str | None = None
    """`http(s)://host:port`; None for Amazon's own."""
    region: str = "us-east-1"
    prefix: str = ""
    """What every key begins with, so that a bucket may be shared."""
    access_key: str | None = None
    """None, with the secret key: as Amazon's tools find credentials (role of the machine, profile)."""
    secret_key: str | None = field(default=None, repr=False)
    answer_seconds: float = 20.0
    """How long one try of a call may hear nothing; all tries together may take three times as long."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One object of a listing."""

    key: str
    size: int


@dataclass(frozen=True, slots=True)
class Window:
    """A part of an object, and how long the whole is."""

    data: bytes
    total: int


class ObjectMissingError(Exception):
    """There is no object of this key."""


class ObjectExistsError(Exception):
    """There is an object of this key already."""


class Bucket:
    """An open bucket. Keys are given without the prefix."""

    def __init__(self, client: S3Client, settings: BucketSettings) -> None:
        self._client = client
        self._bucket = settings.bucket
        self._prefix = settings.prefix
        self._call_seconds = 3 * settings.answer_seconds
        self._room = asyncio.Semaphore(CALLS_MAX)

    async def put(self, key: str, data: bytes, sha256: bytes, *, began_ms: int, fresh: bool = False) -> None:
        """Write one whole object, checked by the store against `sha256`; `ObjectExistsError` when `fresh` and there."""
        request: PutObjectRequestTypeDef = {
            "Bucket": self._bucket,
            "Key": self._prefix + key,
            "Body": data,
            "ChecksumSHA256": base64.b64encode(sha256).decode(),
            "Metadata": {"began-ms": str(began_ms)},
        }
        if fresh:
            request["IfNoneMatch"] = "*"
        async with self._calling("put"):
            await self._client.put_object(**request)

    async def get(self, key: str, offset: int, length: int) -> Window:
        """Up to `length` bytes from `offset` on; `ObjectMissingError`. Behind the end it is empty."""
        if length <= 0:
            return Window(b"", (await self.head(key))[0])
        at, wanted = self._prefix + key, f"bytes={offset}-{offset + length - 1}"
        async with self._calling("get"):
            try:
                answer = await self._client.get_object(Bucket=self._bucket, Key=at, Range=wanted)
            except ClientError as error:
                if _code(error) != "InvalidRange":
                    raise
                return Window(b"", 0)
            async with answer["Body"] as body:
                data = await body.read()
        total = int(answer["ContentRange"].rpartition("/")[2])
        if len(data) != min(length, total - offset):
            raise Temporary("store_unavailable", "the object store cut an answer short", _DELAY_SECONDS)
        return Window(data, total)

    async def head(self, key: str) -> tuple[int, int]:
        """Size in bytes and the time given when it was written; `ObjectMissingError`."""
        at = self._prefix + key
        async with self._calling("head"):
            answer = await self._client.head_object(Bucket=self._bucket, Key=at)
        return answer["ContentLength"], int(answer["Metadata"].get("began-ms", "0"))

    async def pages(self, prefix: str) -> AsyncIterator[list[Listed]]:
        """All objects whose keys begin with `prefix`, a page at a time."""
        start = len(self._prefix)
        async for answer in self._answers({"Bucket": self._bucket, "Prefix": self._prefix + prefix}):
            yield [Listed(found["Key"][start:], found["Size"]) for found in answer.get("Contents", [])]

    async def folders(self, prefix: str) -> list[str]:
        """The names directly below `prefix` that have objects below themselves."""
        start = len(self._prefix) + len(prefix)
        asked: ListObjectsV2RequestTypeDef = {
            "Bucket": self._bucket, "Prefix": self._prefix + prefix, "Delimiter": "/",
        }  # fmt: skip
        found: list[str] = []
        async for answer in self._answers(asked):
            found += [folder["Prefix"][start:].rstrip("/") for folder in answer.get("CommonPrefixes", [])]
        return found

    async def _answers(self, request: ListObjectsV2RequestTypeDef) -> AsyncIterator[ListObjectsV2OutputTypeDef]:
        request["MaxKeys"] = _KEYS_MAX
        while True:
            async with self._calling("list"):
                answer = await self._client.list_objects_v2(**request)
            yield answer
            if not answer["IsTruncated"]:
                return
            request["ContinuationToken"] = answer["NextContinuationToken"]

    async def remove(self, keys: Sequence[str]) -> None:
        """Delete objects. Repeatable."""
        for begin in range(0, len(keys), _KEYS_MAX):
            objects: list[ObjectIdentifierTypeDef] = [
                {"Key": self._prefix + key} for key in keys[begin : begin + _KEYS_MAX]
            ]
            async with self._calling("delete"):
                answer = await self._client.delete_objects(
                    Bucket=self._bucket,
                    Delete={"Objects": objects, "Quiet": True},
                )
            if answer.get("Errors"):
                raise Temporary("store_unavailable", "the object store did not delete everything", _DELAY_SECONDS)

    async def join(self, sources: Sequence[str], key: str, size: int, *, began_ms: int) -> None:
        """Make one object of `size` bytes of others, inside the store; `ObjectExistsError` when it is there already.

        It is whole or not there. All sources but the last have at least 5 MiB.
        """
        at = self._prefix + key
        async with self._calling("begin"):
            begun = await self._client.create_multipart_upload(
                Bucket=self._bucket,
                Key=at,
                Metadata={"began-ms": str(began_ms)},
                ContentType="application/octet-stream",
            )
        upload_id = begun["UploadId"]
        room = asyncio.Semaphore(_COPIES_MAX)
        try:
            async with asyncio.TaskGroup() as group:
                copies = [
                    group.create_task(self._copy(source, key, upload_id, number, room))
                    for number, source in enumerate(sources, 1)
                ]
            await self._complete(key, upload_id, [copy.result() for copy in copies], size)
        except ExceptionGroup as failures:
            await self._abort(key, upload_id)
            raise failures.exceptions[0] from None
        except BaseException:
            await self._abort(key, upload_id)
            raise

    async def _copy(self, source: str, key: str, upload_id: str, number: int, room: asyncio.Semaphore) -> str:
        at = self._prefix + key
        origin: CopySourceTypeDef = {"Bucket": self._bucket, "Key": self._prefix + source}
        try:
            async with room, self._calling("copy"):
                answer = await self._client.upload_part_copy(
                    Bucket=self._bucket,
                    Key=at,
                    UploadId=upload_id,
                    PartNumber=number,
                    CopySource=origin,
                )
        except ObjectMissingError:
            raise Temporary("store_unavailable", "parts of the upload went meanwhile", _DELAY_SECONDS) from None
        return answer["CopyPartResult"]["ETag"]

    async def _complete(self, key: str, upload_id: str, etags: Sequence[str], size: int) -> None:
        """End a join. A call whose answer was lost is asked again, and then the store may know no such join any more:
        whether the object is there tells which of the two happened.
        """
        try:
            async with self._calling("join"):
                await self._client.complete_multipart_upload(
                    Bucket=self._bucket,
                    Key=self._prefix + key,
                    UploadId=upload_id,
                    IfNoneMatch="*",
                    MultipartUpload={"Parts": [{"PartNumber": at, "ETag": etag} for at, etag in enumerate(etags, 1)]},
                )
        except ObjectMissingError:
            if not await self._stands(key, size):
                raise Temporary("store_unavailable", "the object store forgot a join", _DELAY_SECONDS) from None

    async def _stands(self, key: str, size: int) -> bool:
        try:
            return (await self.head(key))[0] == size
        except ObjectMissingError:
            return False

    async def abort_older_than(self, before: datetime) -> None:
        """Let go of joins that began before `before`, by the store's clock, and never ended."""
        old = [(key, upload_id) async for key, upload_id, begun in self._joins() if begun < before]
        for key, upload_id in old:
            await self._abort(key, upload_id)

    async def _joins(self) -> AsyncIterator[tuple[str, str, datetime]]:
        """Key, id and beginning of the joins that have not ended.

        Paged by key alone, which every compatible store can: of many joins of one key, some are told only by a later
        call, when others of them are gone.
        """
        request: ListMultipartUploadsRequestTypeDef = {
            "Bucket": self._bucket, "Prefix": self._prefix, "MaxUploads": _KEYS_MAX,
        }  # fmt: skip
        while True:
            async with self._calling("list"):
                answer = await self._client.list_multipart_uploads(**request)
            for begun in answer.get("Uploads", []):
                yield begun["Key"][len(self._prefix) :], begun["UploadId"], begun["Initiated"]
            if not answer.get("IsTruncated"):
                return
            request["KeyMarker"] = answer["NextKeyMarker"]

    async def _abort(self, key: str, upload_id: str) -> None:
        """Best effort: what is left over is found again by its age."""
        at = self._prefix + key
        try:
            async with self._calling("abort"):
                await self._client.abort_multipart_upload(Bucket=self._bucket, Key=at, UploadId=upload_id)
        except (Temporary, ObjectMissingError):
            return

    @asynccontextmanager
    async def _calling(self, what: str) -> AsyncIterator[None]:
        try:
            async with self._room, asyncio.timeout(self._call_seconds):
                yield
        except ClientError as error:
            code = _code(error)
            if code in _MISSING:
                raise ObjectMissingError from None
            if code in {"PreconditionFailed", "412", "ConditionalRequestConflict"}:
                raise ObjectExistsError from None
            raise Temporary(
                "store_unavailable", f"the object store refused to {what}: {code}", _DELAY_SECONDS
            ) from None
        except (BotoCoreError, HTTPClientError, ClientPayloadError, OSError, TimeoutError) as error:
            text = f"the object store does not answer ({what}): {type(error).__name__}"
            raise Temporary("store_unavailable", text, _DELAY_SECONDS) from None


async def open_bucket(settings: BucketSettings, stack: AsyncExitStack) -> Bucket:
    """Connect and look once; what was opened is closed by `stack`.

    `Permanent("store_refused")` for wrong credentials, a missing bucket or a wrong region,
    `Temporary("store_unavailable")` when nobody answers.
    """
    client = await _connect(settings, stack)
    async with _judged(settings):
        await client.list_objects_v2(Bucket=settings.bucket, Prefix=settings.prefix, MaxKeys=1)
    return Bucket(client, settings)


async def make_bucket(settings: BucketSettings) -> None:
    """Make the bucket unless it is there; errors are those of `open_bucket`."""
    async with AsyncExitStack() as stack:
        client = await _connect(settings, stack)
        async with _judged(settings):
            try:
                await client.create_bucket(Bucket=settings.bucket)
            except ClientError as error:
                if _code(error) != "BucketAlreadyOwnedByYou":
                    raise


async def _connect(settings: BucketSettings, stack: AsyncExitStack) -> S3Client:
    config = AioConfig(
        s3={"addressing_style": "path"},
        connect_timeout=min(_CONNECT_SECONDS, settings.answer_seconds),
        read_timeout=settings.answer_seconds,
        max_pool_connections=CALLS_MAX,
        retries={"mode": "standard", "total_max_attempts": _TRIES},
        # Not every compatible store knows the newer default; what is written carries a SHA-256 of its own.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    try:
        return await stack.enter_async_context(
            get_session().create_client(
                "s3",
                region_name=settings.region,
                endpoint_url=settings.endpoint,
                aws_access_key_id=settings.access_key,
                aws_secret_access_key=settings.secret_key,
                config=config,
            )
        )
    except (ValueError, BotoCoreError) as error:
        raise Permanent("store_refused", f"the settings of the object store are wrong: {error}") from None


@asynccontextmanager
async def _judged(settings: BucketSettings) -> AsyncIterator[None]:
    """The first calls of all, of whose errors somebody reads who can mend the settings."""
    where = f"bucket {settings.bucket!r} at {settings.endpoint or 'Amazon S3'}"
    try:
        async with asyncio.timeout(3 * settings.answer_seconds):
            yield
    except ClientError as error:
        code = _code(error)
        if error.response["ResponseMetadata"]["HTTPStatusCode"] in _REFUSED:
            raise Permanent("store_refused", f"{where} cannot be used: {code}") from None
        raise Temporary("store_unavailable", f"{where} does not serve: {code}", _DELAY_SECONDS) from None
    except (BotoCoreError, HTTPClientError, OSError, TimeoutError) as error:
        text = f"{where} does not answer: {type(error).__name__}"
        raise Temporary("store_unavailable", text, _DELAY_SECONDS) from None


def _code(error: ClientError) -> str:
    """Its code alone: texts of stores hold addresses and signatures."""
    code = error.response.get("Error", {}).get("Code", "")
    return code if _CODE.fullmatch(code) else "unknown"
