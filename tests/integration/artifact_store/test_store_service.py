"""The artifact store as its own service: who may call what, broken lines, drain."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from artifact_store.inprocess import open_local
from artifact_store.main import serve
from artifact_store.server import StoreServer, tls_credentials
from artifact_store.settings import Settings
from browser_runner.artifacts import connect, stage_file
from kernel.clock import SystemClock
from kernel.domain.ids import ConnectionId
from kernel.errors import Permanent, Rejected, SecretUnavailable, Temporary
from kernel.ids import SystemEntropy
from kernel.store.port import ByteStore, PutHeader, SecretKind, SecretRef
from kernel.store.remote import Deadlines, RemoteStore
from tests.support.stores import ACME, GATEWAY, KEYS, OpenedStore, run_opener, store_in
from tests.support.told_lines import telling

CHANCE = SystemEntropy()
BIG = bytes(range(256)) * 8000
PROCESS = """
import asyncio, os, signal, sys
from pathlib import Path
from artifact_store.inprocess import open_local
from artifact_store.main import serve
from artifact_store.settings import settings_from
from kernel.clock import SystemClock
from kernel.ids import SystemEntropy
from kernel.sql.sqlite import SqliteDatabase
from kernel.sqlite_file import SqliteFile
from tests.support.stores import Tokens

async def main():
    file = await SqliteFile.open(Path(sys.argv[1]) / "platform.db")
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    settings = settings_from(os.environ)
    try:
        await serve(
            settings, await open_local(settings.folder), SqliteDatabase(file), Tokens(),
            clock=SystemClock(), entropy=SystemEntropy(), stop=stop,
            listening=lambda port: print("listening", port, flush=True),
        )
    finally:
        await file.close()
    print("drained", flush=True)

asyncio.run(main())
"""


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[OpenedStore]:
    async with store_in(tmp_path) as opened:
        yield opened


@asynccontextmanager
async def served(store: OpenedStore, port: int = 0, over: ByteStore | None = None) -> AsyncIterator[StoreServer]:
    server = StoreServer(over or store.bytes, store.vault, KEYS, address=f"127.0.0.1:{port}")
    await server.start()
    try:
        yield server
    finally:
        await server.drain(0.0)


@asynccontextmanager
async def client(port: int, key: str, deadlines: Deadlines | None = None) -> AsyncIterator[RemoteStore]:
    remote = RemoteStore(f"127.0.0.1:{port}", key, clock=SystemClock(), entropy=CHANCE, deadlines=deadlines)
    try:
        yield remote
    finally:
        await remote.close()


@pytest.mark.parametrize("key", ["", "wrong", "Bearer", KEYS.runner + "x"])
async def test_a_stranger_gets_nothing(store: OpenedStore, key: str) -> None:
    subject = await store.vault.subject_for(ACME)
    async with served(store) as server, client(server.port, key) as stranger:
        for refused in (
            stranger.bytes.stat("0" * 64),
            stranger.bytes.get_bytes("0" * 64),
            stranger.bytes.put_bytes(b"x", PutHeader(subject, run_opener())),
            stranger.vault.subject_key(subject, run_opener()),
        ):
            with pytest.raises(SecretUnavailable, match="service"):
                await refused


async def test_a_runner_cannot_pass_for_the_gateway(store: OpenedStore) -> None:
    subject = await store.vault.subject_for(ACME)
    webhook = await store.vault.put_secret(ACME, subject, SecretKind.WEBHOOK, b"whsec")
    async with served(store) as server, client(server.port, KEYS.runner) as runner:
        for refused in (
            runner.vault.open_secret(webhook, GATEWAY),
            runner.vault.subject_key(subject, GATEWAY),
            runner.vault.subject_for(ACME, "customer 7"),
            runner.vault.erase_subject(subject),
            runner.vault.delete_secret(webhook),
            runner.vault.keep_secret(webhook, ACME, 1000),
            runner.vault.credentials_proven(ConnectionId("c"), GATEWAY),
            runner.bytes.mark_named(["0" * 64]),
            runner.bytes.put_bytes(b"x", PutHeader(subject, GATEWAY)),
        ):
            with pytest.raises(SecretUnavailable):
                await refused
        assert len(await runner.vault.subject_key(subject, run_opener())) == 32


async def test_errors_arrive_as_what_they_were(store: OpenedStore) -> None:
    async with served(store) as server, client(server.port, KEYS.gateway) as gateway:
        with pytest.raises(Permanent) as missing:
            await gateway.bytes.get_bytes("0" * 64)
        assert (missing.value.code, missing.value.message) == ("blob_missing", "there is no such blob")
        with pytest.raises(Rejected, match="upload_id_malformed"):
            await gateway.bytes.put_bytes(b"", PutHeader(await store.vault.subject_for(ACME), GATEWAY, upload_id="."))
        with pytest.raises(SecretUnavailable, match="^no such secret$"):  # noqa: RUF043 (anchors are meant)
            await gateway.vault.open_secret(SecretRef("none"), GATEWAY)


async def test_a_store_that_does_not_answer_is_a_temporary_failure(store: OpenedStore) -> None:
    async with served(store) as server:
        port = server.port
    async with client(port, KEYS.gateway, Deadlines(call=0.5, stream=0.5)) as gateway:
        for asked in (gateway.bytes.stat("0" * 64), gateway.bytes.get_bytes("0" * 64)):
            with pytest.raises(Temporary, match="store_unavailable"):
                await asked


class BreakingOnce:
    """A byte store whose first stream breaks after its first chunk; everything else passes through."""

    def __init__(self, behind: ByteStore) -> None:
        self._behind = behind
        self.offsets: list[int] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._behind, name)

    async def put(self, chunks: AsyncIterator[bytes], header: PutHeader) -> object:
        self.offsets.append(header.offset)
        return await self._behind.put(self._cut(chunks) if len(self.offsets) == 1 else chunks, header)

    async def _cut(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        yield await anext(chunks)
        raise Temporary("upload_broken", "the line broke", delay_seconds=0.01)


async def test_bytes_and_files_go_on_after_a_broken_line(store: OpenedStore, tmp_path: Path) -> None:
    subject = await store.vault.subject_for(ACME)
    path = tmp_path / "download.bin"
    path.write_bytes(BIG)
    for stage in ("bytes", "file"):
        breaking = BreakingOnce(store.bytes)
        async with (
            served(store, over=breaking) as server,  # type: ignore[arg-type]  # it passes the rest through
            client(server.port, KEYS.runner) as runner,
        ):
            header = PutHeader(subject, run_opener())
            if stage == "bytes":
                staged = await runner.bytes.put_bytes(BIG, header)
            else:
                staged = await stage_file(runner.bytes, path, header, SystemClock(), CHANCE)
        assert len(breaking.offsets) == 2
        assert breaking.offsets[1] > 0
        assert await store.bytes.get_bytes(staged.sha256) == BIG


async def test_a_file_that_changed_is_refused(store: OpenedStore, tmp_path: Path) -> None:
    subject = await store.vault.subject_for(ACME)
    path = tmp_path / "download.bin"
    path.write_bytes(BIG)

    class Changing:
        """Lets the file change between its digest and its reading."""

        async def put(self, chunks: AsyncIterator[bytes], header: PutHeader) -> object:
            path.write_bytes(BIG[:-1] + b"!")
            return await store.bytes.put(chunks, header)

    with pytest.raises(Rejected, match="hash_mismatch"):
        await stage_file(Changing(), path, PutHeader(subject, run_opener()), SystemClock(), CHANCE)  # type: ignore[arg-type]  # only put is called


async def test_the_process_serves_says_that_it_is_healthy_and_drains(store: OpenedStore, tmp_path: Path) -> None:
    keys = {name: tmp_path / name for name in ("gateway", "runner")}
    for name, path in keys.items():
        path.write_text(f"{name}-key\n")
    settings = Settings(
        tmp_path / "keyring.json", keys["gateway"], keys["runner"], address="127.0.0.1:0", drain_seconds=5.0
    )
    blobs = await open_local(tmp_path / "bytes")
    stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(
        serve(
            settings, blobs, store.db, store.tokens,
            clock=SystemClock(), entropy=CHANCE, stop=stop, listening=port.set_result,
        )
    )  # fmt: skip
    runner = connect(f"127.0.0.1:{await port}", keys["runner"], None, SystemClock(), CHANCE)
    subject = await store.vault.subject_for(ACME)
    go_on = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"before the drain, "
        stop.set()
        await go_on.wait()
        yield b"after its beginning"

    async with grpc.aio.insecure_channel(f"127.0.0.1:{port.result()}") as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest())
        seen = aiter(watch)
        assert (await anext(seen)).status == health_pb2.HealthCheckResponse.SERVING
        putting = asyncio.create_task(runner.bytes.put(slow(), PutHeader(subject, run_opener())))
        assert (await anext(seen)).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()
        go_on.set()
        staged = await putting
    await runner.close()
    await serving
    assert await store.bytes.get_bytes(staged.sha256) == b"before the drain, after its beginning"


def certificate_of_loopback(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate of 127.0.0.1 and its key, as files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    begin = datetime(2020, 1, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=36_500))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "tls.crt", folder / "tls.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


async def test_with_a_certificate_the_line_is_tls(store: OpenedStore, tmp_path: Path) -> None:
    certificate, key = certificate_of_loopback(tmp_path)
    (tmp_path / "runner").write_text(KEYS.runner)
    server = StoreServer(
        store.bytes, store.vault, KEYS, address="127.0.0.1:0", credentials=tls_credentials(certificate, key)
    )
    await server.start()
    subject = await store.vault.subject_for(ACME)
    trusting = connect(f"127.0.0.1:{server.port}", tmp_path / "runner", certificate, SystemClock(), CHANCE)
    assert len(await trusting.vault.subject_key(subject, run_opener())) == 32
    await trusting.close()
    async with client(server.port, KEYS.runner, Deadlines(call=0.5)) as in_the_clear:
        with pytest.raises(Temporary):
            await in_the_clear.vault.subject_key(subject, run_opener())
    await server.drain(0.0)


def test_sigterm_drains_the_process(tmp_path: Path) -> None:
    environment = {"PATH": "", "ARTIFACT_STORE_ADDRESS": "127.0.0.1:0", "ARTIFACT_STORE_DRAIN_SECONDS": "1"}
    for name in ("gateway", "runner"):
        (tmp_path / name).write_text(name)
        environment[f"ARTIFACT_STORE_{name.upper()}_KEY_PATH"] = str(tmp_path / name)
    environment["ARTIFACT_STORE_FOLDER"] = str(tmp_path / "bytes")
    environment["ARTIFACT_STORE_KEYRING_PATH"] = str(tmp_path / "keyring.json")
    command = [sys.executable, "-c", PROCESS, str(tmp_path)]
    root = Path(__file__).resolve().parents[3]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, cwd=root, text=True) as process:
        assert process.stdout is not None
        told = iter(line for line in process.stdout if line.startswith(("listening", "drained")))
        assert next(told).startswith("listening")
        process.send_signal(signal.SIGTERM)
        assert next(told) == "drained\n"
    assert process.returncode == 0


async def test_equal_service_keys_are_refused(store: OpenedStore, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("the same")
    settings, stop = Settings(tmp_path / "keyring.json", key, key), asyncio.Event()
    blobs = await open_local(tmp_path / "bytes")
    with pytest.raises(Permanent, match="differ"):
        await serve(settings, blobs, store.db, store.tokens, clock=SystemClock(), entropy=CHANCE, stop=stop)


async def test_what_is_logged_in_a_call_names_the_run_that_calls(
    store: OpenedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("organization_id", "root_run_id", "workflow_run_id", "attempt")
    opener = run_opener()
    find = type(store.vault).subject_key

    async def and_say(vault: Any, *arguments: Any) -> bytes:
        structlog.get_logger("tests.deep_below").info("inside")
        return await find(vault, *arguments)

    subject = await store.vault.subject_for(ACME)
    monkeypatch.setattr(type(store.vault), "subject_key", and_say)
    with telling() as told:
        async with served(store) as server, client(server.port, KEYS.runner) as runner:
            await runner.vault.subject_key(subject, opener)
        async with served(store) as server, client(server.port, KEYS.gateway) as gateway:
            await gateway.vault.subject_key(subject, GATEWAY)
    ofs = [{name: line[name] for name in names if name in line} for line in told.lines("inside")]
    run = {"root_run_id": opener.root_run_id, "workflow_run_id": opener.workflow_run_id, "attempt": 1}
    assert ofs == [{"organization_id": ACME, **run}, {"organization_id": ACME}]


class _WithKey(grpc.StreamStreamClientInterceptor):
    """Proves who calls, for a client that knows of no keys."""

    def __init__(self, key: str) -> None:
        self._key = key

    def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        metadata = [("authorization", f"Bearer {self._key}")]
        return continuation(client_call_details._replace(metadata=metadata), request_iterator)


def _contracts(port: int, key: str) -> tuple[list[str], list[str]]:
    """The services that a store tells of, and the methods of one, as the package's own client sees them."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as plain:
        known = ProtoReflectionDescriptorDatabase(grpc.intercept_channel(plain, _WithKey(key)))
        vault = DescriptorPool(known).FindServiceByName("contracts.internal.ArtifactVault")
        return sorted(known.get_services()), [method.name for method in vault.methods]


@pytest.mark.parametrize("key", [KEYS.gateway, KEYS.runner])
async def test_a_service_is_told_which_contracts_are_served_and_how_they_look(store: OpenedStore, key: str) -> None:
    async with served(store) as server:
        services, methods = await asyncio.to_thread(_contracts, server.port, key)
    assert services == [
        "contracts.internal.ArtifactBytes",
        "contracts.internal.ArtifactVault",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    ]
    assert {"OpenSecret", "OpenSubjectKey", "EraseSubject"} <= set(methods)


@pytest.mark.parametrize("key", ["", "wrong"])
async def test_a_stranger_is_told_of_no_contract(store: OpenedStore, key: str) -> None:
    async with served(store) as server:
        with pytest.raises(grpc.RpcError) as refused:
            await asyncio.to_thread(_contracts, server.port, key)
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
