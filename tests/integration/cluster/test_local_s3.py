"""The local S3 server: objects and keys survive a kill."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiobotocore.session import get_session
from botocore.exceptions import ClientError

from cluster.components.s3 import LocalS3
from tests.support.components import needs_s3

pytestmark = needs_s3


@asynccontextmanager
async def client(server: LocalS3, secret: str | None = None) -> AsyncIterator[Any]:
    async with get_session().create_client(
        "s3",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=server.access_key,
        aws_secret_access_key=secret or server.secret_key,
    ) as opened:
        yield opened


async def test_an_object_is_there_after_a_kill_and_a_start(tmp_path: Path) -> None:
    with LocalS3(tmp_path) as server:
        async with client(server) as s3:
            await s3.create_bucket(Bucket="kept")
            await s3.put_object(Bucket="kept", Key="a/b", Body=b"bytes")

        server.kill()
        server.start()

        async with client(server) as s3:
            answer = await s3.get_object(Bucket="kept", Key="a/b")
            assert await answer["Body"].read() == b"bytes"


async def test_address_and_keys_are_kept_from_one_server_to_the_next(tmp_path: Path) -> None:
    with LocalS3(tmp_path) as first:
        pass
    with LocalS3(tmp_path) as second:
        async with client(second) as s3:
            await s3.list_buckets()

    assert (second.endpoint, second.access_key, second.secret_key) == (
        first.endpoint,
        first.access_key,
        first.secret_key,
    )
    assert second.secret_key_file.stat().st_mode & 0o077 == 0


async def test_a_wrong_key_opens_nothing(tmp_path: Path) -> None:
    with LocalS3(tmp_path) as server:
        async with client(server, secret="guess") as s3:
            with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
                await s3.list_buckets()
