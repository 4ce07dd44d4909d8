"""Two processes of the artifact store over one PostgreSQL and one bucket: one is killed, and nobody notices."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from artifact_store.blobs.bucket import BucketSettings
from kernel.clock import SystemClock
from kernel.domain.ids import ConnectionId
from kernel.errors import Temporary
from kernel.ids import SystemEntropy
from kernel.store.port import PutHeader, SecretKind, Staged
from kernel.store.remote import RemoteStore
from tests.support.buckets import make_bucket, s3_blobs
from tests.support.components import needs_postgres, needs_s3
from tests.support.databases import schema_of_its_own
from tests.support.stores import ACME, GATEWAY, run_opener

pytestmark = [needs_postgres, needs_s3]
CHANCE = SystemEntropy()
ROOT = Path(__file__).resolve().parents[3]
BIG = bytes(range(256)) * (16 * 1024 * 1024 // 256)
PROCESS = """
import asyncio, os, sys
from contextlib import AsyncExitStack
from artifact_store.blobs.opening import open_blobs
from artifact_store.main import serve
from artifact_store.settings import settings_from
from kernel.clock import SystemClock
from kernel.ids import SystemEntropy
from kernel.sql.postgres import PostgresDatabase
from tests.support.stores import Tokens

async def main():
    settings, clock, chance = settings_from(os.environ), SystemClock(), SystemEntropy()
    async with AsyncExitStack() as stack:
        db = await PostgresDatabase.open(sys.argv[1], schema=sys.argv[2])
        blobs = await open_blobs(settings, stack, clock, chance)
        await serve(
            settings, blobs, db, Tokens(), clock=clock, entropy=chance, stop=asyncio.Event(),
            listening=lambda port: print("listening", port, flush=True),
        )

asyncio.run(main())
"""


@dataclass(frozen=True, slots=True)
class Replicas:
    """Two running processes, and a client of both."""

    processes: list[asyncio.subprocess.Process]
    gateway: RemoteStore
    bucket: BucketSettings


def environment_of(folder: Path, bucket: BucketSettings) -> dict[str, str]:
    files = {"GATEWAY_KEY_PATH": "gateway", "RUNNER_KEY_PATH": "runner"}
    files |= {"S3_ACCESS_KEY_PATH": bucket.access_key or "", "S3_SECRET_KEY_PATH": bucket.secret_key or ""}
    given = {"ADDRESS": "127.0.0.1:0", "KEYRING_PATH": str(folder / "keyring.json"), "S3_BUCKET": bucket.bucket}
    given |= {"S3_ENDPOINT": bucket.endpoint or "", "S3_PREFIX": bucket.prefix}
    for name, value in files.items():
        (folder / name).write_text(value)
        given[name] = str(folder / name)
    return {**os.environ, **{f"ARTIFACT_STORE_{name}": value for name, value in given.items()}}


@pytest.fixture
async def replicas(tmp_path: Path) -> AsyncIterator[Replicas]:
    bucket = await make_bucket()
    async with AsyncExitStack() as stack:
        url, schema = await stack.enter_async_context(schema_of_its_own())
        opened = [
            await stack.enter_async_context(process(url, schema, environment_of(tmp_path, bucket))) for _ in range(2)
        ]
        target = ",".join(f"127.0.0.1:{port}" for _, port in opened)
        gateway = RemoteStore(target, "gateway", clock=SystemClock(), entropy=CHANCE)
        stack.push_async_callback(gateway.close)
        yield Replicas([running for running, _ in opened], gateway, bucket)


@asynccontextmanager
async def process(
    url: str, schema: str, environment: dict[str, str]
) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROCESS, url, schema, stdout=asyncio.subprocess.PIPE, env=environment,
        cwd=ROOT,
    )  # fmt: skip
    assert running.stdout is not None
    try:
        line = b""
        while not line.startswith(b"listening"):
            line = await running.stdout.readline()
            assert line, "the process ended"
        yield running, int(line.split()[1])
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()


async def test_both_take_their_share_and_a_killed_one_is_not_missed(replicas: Replicas) -> None:
    vault, bytes_ = replicas.gateway.vault, replicas.gateway.bytes
    subject = await vault.subject_for(ACME, "customer")
    staged = await bytes_.put_bytes(b"kept", PutHeader(subject, GATEWAY))
    replicas.processes[0].kill()
    for _ in range(20):
        assert await bytes_.stat(staged.sha256) == 4
        assert await bytes_.get_bytes(staged.sha256) == b"kept"
        assert await vault.find_subject(ACME, "customer") == subject
        await bytes_.mark_named([staged.sha256])


async def test_uploads_go_on_at_the_other_process_when_one_is_killed(
    replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    bytes_, offsets = replicas.gateway.bytes, list[int]()
    subject = await replicas.gateway.vault.subject_for(ACME, "customer")
    put = bytes_.put

    async def noted(chunks: AsyncIterator[bytes], header: PutHeader) -> Staged:
        offsets.append(header.offset)
        return await put(chunks, header)

    monkeypatch.setattr(bytes_, "put", noted)
    values = [BIG + bytes([number]) for number in range(6)]
    async with s3_blobs(replicas.bucket) as blobs:
        putting = [asyncio.create_task(bytes_.put_bytes(value, PutHeader(subject, GATEWAY))) for value in values]
        async with asyncio.timeout(30):
            while len(await blobs.uploads()) < 4:  # noqa: ASYNC110 (the bucket tells nobody)
                await asyncio.sleep(0.01)
        replicas.processes[0].kill()
        staged = await asyncio.gather(*putting)
        assert len(offsets) > len(values), "the kill hit no upload"
        assert any(offsets), "no upload went on where it had stopped"
        for value, kept in zip(values, staged, strict=True):
            assert await bytes_.get_bytes(kept.sha256) == value
        assert await blobs.uploads() == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_download_goes_on_at_the_other_process_when_one_is_killed_or_stopped(
    replicas: Replicas, number: signal.Signals
) -> None:
    bytes_ = replicas.gateway.bytes
    subject = await replicas.gateway.vault.subject_for(ACME, "customer")
    staged = await bytes_.put_bytes(BIG, PutHeader(subject, GATEWAY))
    downloads = [bytes_.get(staged.sha256) for _ in range(2)]
    begun = [await anext(download) for download in downloads]
    replicas.processes[0].send_signal(number)
    for first, download in zip(begun, downloads, strict=True):
        assert first + b"".join([chunk async for chunk in download]) == BIG


async def test_a_process_that_is_stopped_is_left_within_seconds(replicas: Replicas) -> None:
    vault, bytes_ = replicas.gateway.vault, replicas.gateway.bytes
    subject = await vault.subject_for(ACME, "customer")
    staged = await bytes_.put_bytes(b"kept", PutHeader(subject, GATEWAY))
    replicas.processes[0].send_signal(signal.SIGSTOP)
    async with asyncio.timeout(20):  # each call that waits for its own deadline takes ten, and half of them go there
        for _ in range(4):
            assert await bytes_.stat(staged.sha256) == 4
            assert await vault.find_subject(ACME, "customer") == subject
    replicas.processes[0].send_signal(signal.SIGCONT)
    for _ in range(4):
        assert await bytes_.get_bytes(staged.sha256) == b"kept"


async def test_where_every_process_is_stopped_each_call_is_refused_in_time(replicas: Replicas) -> None:
    vault, bytes_ = replicas.gateway.vault, replicas.gateway.bytes
    header = PutHeader(await vault.subject_for(ACME, "customer"), GATEWAY)
    staged = await bytes_.put_bytes(b"kept", header)
    for running in replicas.processes:
        running.send_signal(signal.SIGSTOP)
    asked: list[tuple[float, Awaitable[object]]] = [
        (30, bytes_.stat(staged.sha256)),
        (30, vault.put_secret(ACME, header.subject_id, SecretKind.CREDENTIAL, b"secret")),
        (60, bytes_.get_bytes(staged.sha256)),
        (60, bytes_.put_bytes(b"more", header)),
    ]
    answers = await asyncio.gather(
        *(asyncio.wait_for(call, at_most) for at_most, call in asked), return_exceptions=True
    )
    assert [getattr(answer, "code", answer) for answer in answers] == ["store_unavailable"] * 4
    for running in replicas.processes:
        running.send_signal(signal.SIGCONT)
    assert await bytes_.get_bytes(staged.sha256) == b"kept"


async def test_what_may_not_be_done_twice_is_not_repeated_by_itself(replicas: Replicas) -> None:
    vault = replicas.gateway.vault
    subject = await vault.subject_for(ACME, "customer")
    refs = [await vault.put_secret(ACME, subject, SecretKind.CREDENTIAL, b"secret") for _ in range(2)]
    replicas.processes[0].kill()
    connection, opened = ConnectionId("connection"), 0
    while opened < 2:
        try:
            secret = await vault.open_secret(refs[opened], run_opener(), connection)
        except Temporary:
            continue
        assert secret.reveal() == b"secret"
        opened += 1


async def test_two_processes_count_the_openings_of_one_connection_together(replicas: Replicas) -> None:
    vault, connection = replicas.gateway.vault, ConnectionId("connection")
    subject = await vault.subject_for(ACME, "customer")
    ref = await vault.put_secret(ACME, subject, SecretKind.CREDENTIAL, b"secret")
    openings: list[Any] = await asyncio.gather(
        *(vault.open_secret(ref, run_opener(run=f"run-{number}"), connection) for number in range(6)),
        return_exceptions=True,
    )
    assert len([opening for opening in openings if not isinstance(opening, Exception)]) <= 3
