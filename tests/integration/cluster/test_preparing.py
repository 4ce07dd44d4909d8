"""What is made once before services start, and that making it again changes nothing."""

from __future__ import annotations

import hashlib
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from artifact_store.blobs.bucket import BucketSettings, make_bucket, open_bucket
from cluster.keys import Keys
from kernel.errors import Permanent
from kernel.ids import SystemEntropy
from tests.support.components import needs_s3, s3_server, unique_name


@needs_s3
async def test_a_bucket_is_made_and_left_alone_when_it_is_there() -> None:
    at = s3_server()
    settings = BucketSettings(unique_name("b"), at.endpoint, access_key=at.access_key, secret_key=at.secret_key)
    async with AsyncExitStack() as stack:
        with pytest.raises(Permanent, match="cannot be used"):
            await open_bucket(settings, stack)
        await make_bucket(settings)
        bucket = await open_bucket(settings, stack)
        await bucket.put("kept", b"bytes", hashlib.sha256(b"bytes").digest(), began_ms=0)
        await make_bucket(settings)
        assert (await bucket.get("kept", 0, 5)).data == b"bytes"
        with pytest.raises(Permanent, match="cannot be used"):
            await make_bucket(replace(settings, secret_key="guess"))


def test_secrets_are_made_once_and_each_service_gets_its_own(tmp_path: Path) -> None:
    keys, entropy = Keys(tmp_path), SystemEntropy()
    pepper = keys.make(entropy)
    keys.make_for_servers(entropy, "postgres:5432/towpath")
    made = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.glob("*/*")}

    assert keys.make(entropy) == pepper
    keys.make_for_servers(entropy, "postgres:5432/towpath")

    assert {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.glob("*/*")} == made
    assert set(made) == {
        *("api-gateway/pepper", "api-gateway/signing-keys", "api-gateway/store-key"),
        *("artifact-store/gateway-key", "artifact-store/runner-key", "browser-runner/store-key"),
        *("postgres/password", "postgres/url", "s3/access-key", "s3/secret-key"),
    }
    assert made["api-gateway/store-key"] == made["artifact-store/gateway-key"] != made["artifact-store/runner-key"]
    assert made["browser-runner/store-key"] == made["artifact-store/runner-key"]
    assert made["postgres/password"].strip() in made["postgres/url"]
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.glob("*/*"))
