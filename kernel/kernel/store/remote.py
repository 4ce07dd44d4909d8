"""The ports of bytes and secrets over gRPC: what gateway and runner use when the artifact store is its own process.

Every call has a deadline. Errors are those of the ports; a store that does not answer in time is
`Temporary("store_unavailable")`. Of several stores over one database and one bucket each takes its share of the calls.
When one dies, or is silent for five seconds, what may be done twice is asked of another one; a download goes on there,
and so does `put_bytes`. Whoever puts a stream that cannot be read twice resumes with `query_put` and an upload id.

Where every store is silent, as a stopped one is, a question is refused when its deadline is over or before; `get` and
`put_bytes`, which try again by themselves, take some seconds for each time and half a minute at most.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import grpc
import grpc.aio

from contracts.internal import artifact_store_pb2 as pb
from contracts.internal.artifact_store_pb2_grpc import ArtifactBytesStub, ArtifactVaultStub
from kernel.clock import Clock
from kernel.domain.ids import ConnectionId, OrganizationId, SubjectId
from kernel.errors import Permanent, Rejected, SecretUnavailable, Temporary, TowpathError
from kernel.ids import Entropy
from kernel.store.port import (
    CHUNK_BYTES,
    NO_CONNECTION,
    Opener,
    PutHeader,
    SecretKind,
    SecretRef,
    Session,
    Staged,
)
from kernel.store.secret import Secret
from kernel.store.wire import (
    KEEPALIVE_MS,
    MESSAGE_BYTES_MAX,
    SECRET_KINDS,
    SIGN_OF_LIFE_MS,
    error_from_trailers,
    header_to_wire,
    opener_to_wire,
)

T = TypeVar("T")

_PUT_TRIES = 4
_GET_TRIES = 4
_BYTES, _VAULT = "contracts.internal.ArtifactBytes", "contracts.internal.ArtifactVault"
_REPEATABLE = (
    (_BYTES, ("QueryPut", "Stat", "MarkNamed", "Unname")),
    (
        _VAULT,
        (
            "FindSubject",
            "OpenSubjectKey",
            "EraseSubject",
            "KeepSecret",
            "DeleteSecret",
            "ProveCredentials",
            "LoadSession",
            "ForgetSession",
        ),
    ),
)
"""What changes nothing more when it is carried out again, by service."""
_SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{"service": service, "method": method} for service, methods in _REPEATABLE for method in methods],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.05s",
                "maxBackoff": "1s",
                "backoffMultiplier": 3,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
}
_OPTIONS: tuple[tuple[str, str | int], ...] = (
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", SIGN_OF_LIFE_MS),
    ("grpc.http2.max_pings_without_data", 0),  # else none after the second one of a long call
    ("grpc.http2.ping_timeout_ms", SIGN_OF_LIFE_MS),  # a minute by itself, and no connection is given up before
    ("grpc.min_reconnect_backoff_ms", SIGN_OF_LIFE_MS),  # what a connection may take, 20 s by itself
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
)


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long a call may take, in seconds."""

    call: float = 10.0
    """One question and its answer."""
    stream: float = 900.0
    """A whole upload or download: the longest artifact over a slow line."""


class RemoteStore:
    """One channel to the artifact store, however many processes it has. Close it when the process drains."""

    def __init__(
        self,
        target: str,
        service_key: str,
        *,
        clock: Clock,
        entropy: Entropy,
        root_certificate: bytes | None = None,
        deadlines: Deadlines | None = None,
    ) -> None:
        """`target` is `host:port` of a name that stands for all stores, or `ip:port,ip:port`, or as gRPC writes it.

        `service_key` says which service calls; with `root_certificate` (PEM) the channel is TLS.
        """
        resolved, options = _resolved(target)
        if root_certificate is None:
            self._channel = grpc.aio.insecure_channel(resolved, options=options)
        else:
            credentials = grpc.ssl_channel_credentials(root_certificate)
            self._channel = grpc.aio.secure_channel(resolved, credentials, options=options)
        calls = _Calls((("authorization", f"Bearer {service_key}"),), deadlines or Deadlines())
        self.bytes = RemoteBytes(self._channel, calls, clock, entropy)
        self.vault = RemoteVault(self._channel, calls)

    async def check(self) -> None:
        """Ask something that changes nothing.

        `Temporary` when the store does not answer, `Permanent("store_refused")` when it does not know our service key.
        """
        try:
            await self.bytes.stat(hashlib.sha256().hexdigest())
        except SecretUnavailable:
            raise Permanent("store_refused", "the artifact store does not know the key of this service") from None

    async def close(self) -> None:
        """Let running calls go and close. Idempotent."""
        await self._channel.close()


def _resolved(target: str) -> tuple[str, list[tuple[str, str | int]]]:
    """What gRPC calls these addresses, and the channel's options; a certificate is checked against the first one."""
    if "," not in target or target.startswith(("ipv4:", "ipv6:")):
        return target, list(_OPTIONS)
    kind, first = "ipv6" if "[" in target else "ipv4", target.partition(",")[0]
    return f"{kind}:{target.replace(' ', '')}", [*_OPTIONS, ("grpc.default_authority", first)]


@dataclass(frozen=True, slots=True)
class _Calls:
    """What every call carries."""

    metadata: tuple[tuple[str, str], ...]
    deadlines: Deadlines

    @property
    def unary(self) -> dict[str, Any]:
        return {"metadata": self.metadata, "timeout": self.deadlines.call}

    @property
    def stream(self) -> dict[str, Any]:
        return {"metadata": self.metadata, "timeout": self.deadlines.stream}


async def _answer(call: Awaitable[T]) -> T:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise _translate(error) from None


def _translate(error: grpc.aio.AioRpcError) -> TowpathError:
    return error_from_trailers(tuple(error.trailing_metadata() or ()), error.details() or error.code().name)


class RemoteBytes:
    """`ByteStore` over gRPC. Contract in `kernel.store.port`."""

    def __init__(self, channel: grpc.aio.Channel, calls: _Calls, clock: Clock, entropy: Entropy) -> None:
        self._stub = ArtifactBytesStub(channel)
        self._calls = calls
        self._clock = clock
        self._entropy = entropy

    async def put(self, chunks: AsyncIterator[bytes], header: PutHeader) -> Staged:
        call: Any = self._stub.Put(**self._calls.stream)
        try:
            await _send(call, chunks, header)
            answer: pb.PutResponse = await _answer(call)
        finally:
            call.cancel()  # nothing happens to a call that is done
        return Staged(answer.sha256, answer.size, answer.mime_type)

    def get(self, sha256: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        return self._get(sha256, offset, length)

    async def _get(self, sha256: str, offset: int, length: int | None) -> AsyncIterator[bytes]:
        """Go on behind what came when the line breaks: a blob never changes."""
        tries, left = _GET_TRIES, length
        while True:
            try:
                async for data in self._stream(pb.GetRequest(sha256=sha256, offset=offset, length=left)):
                    offset, left = offset + len(data), None if left is None else left - len(data)
                    yield data
            except Temporary as failure:
                tries -= 1
                if not tries:
                    raise
                await self._clock.sleep(min(failure.delay_seconds, 1.0))
            else:
                return

    async def _stream(self, request: pb.GetRequest) -> AsyncIterator[bytes]:
        call: Any = self._stub.Get(request, **self._calls.stream)
        try:
            async for answer in call:
                yield answer.data
        except grpc.aio.AioRpcError as error:
            raise _translate(error) from None
        finally:
            call.cancel()

    async def stat(self, sha256: str) -> int | None:
        answer = await _answer(self._stub.Stat(pb.StatRequest(sha256=sha256), **self._calls.unary))
        return answer.size if answer.HasField("size") else None

    async def query_put(self, upload_id: str) -> int:
        answer = await _answer(self._stub.QueryPut(pb.QueryPutRequest(upload_id=upload_id), **self._calls.unary))
        return answer.committed

    async def put_bytes(self, value: bytes, header: PutHeader) -> Staged:
        digest = hashlib.sha256(value).hexdigest()
        declared = replace(
            header, size=len(value), sha256=digest, upload_id=header.upload_id or self._entropy.nonce(), offset=0
        )
        for _ in range(_PUT_TRIES - 1):
            try:
                return await self.put(_chunks(value, declared.offset), declared)
            except Temporary as failure:
                await self._clock.sleep(min(failure.delay_seconds, 1.0))
                declared = replace(declared, offset=await self._resume_at(declared))
        return await self.put(_chunks(value, declared.offset), declared)

    async def _resume_at(self, header: PutHeader) -> int:
        try:
            return await self.query_put(header.upload_id)
        except Temporary:
            return 0

    async def get_bytes(self, sha256: str) -> bytes:
        return b"".join([chunk async for chunk in self.get(sha256)])

    async def mark_named(self, sha256s: Sequence[str]) -> None:
        await _answer(self._stub.MarkNamed(pb.MarkNamedRequest(sha256s=sha256s), **self._calls.unary))

    async def unname(self, names: Sequence[str]) -> None:
        await _answer(self._stub.Unname(pb.UnnameRequest(names=names), **self._calls.unary))


async def _send(call: Any, chunks: AsyncIterator[bytes], header: PutHeader) -> None:
    """Write header and chunks; when the store ends the call early, its answer says why."""
    offset = header.offset
    try:
        await call.write(pb.PutRequest(header=header_to_wire(header)))
        async for given in chunks:
            for start in range(0, len(given), CHUNK_BYTES):
                data = given[start : start + CHUNK_BYTES]
                await call.write(pb.PutRequest(chunk=pb.PutChunk(offset=offset, data=data)))
                offset += len(data)
        await call.write(pb.PutRequest(chunk=pb.PutChunk(offset=offset, last=True)))
        await call.done_writing()
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        if not call.done():
            raise


async def _chunks(value: bytes, offset: int) -> AsyncIterator[bytes]:
    for start in range(offset, len(value), CHUNK_BYTES):
        yield value[start : start + CHUNK_BYTES]


class RemoteVault:
    """`Vault` over gRPC. Contract in `kernel.store.port`."""

    def __init__(self, channel: grpc.aio.Channel, calls: _Calls) -> None:
        self._stub = ArtifactVaultStub(channel)
        self._calls = calls

    async def subject_for(self, organization_id: OrganizationId, external_id: str = "") -> SubjectId:
        request = pb.FindSubjectRequest(organization_id=organization_id, external_id=external_id)
        return SubjectId((await _answer(self._stub.FindSubject(request, **self._calls.unary))).subject_id)

    async def find_subject(self, organization_id: OrganizationId, external_id: str = "") -> SubjectId | None:
        request = pb.FindSubjectRequest(organization_id=organization_id, external_id=external_id, known_only=True)
        found = (await _answer(self._stub.FindSubject(request, **self._calls.unary))).subject_id
        return SubjectId(found) if found else None

    async def subject_key(self, subject_id: SubjectId, opener: Opener) -> bytes:
        request = pb.OpenSubjectKeyRequest(subject_id=subject_id, opener=opener_to_wire(opener))
        return (await _answer(self._stub.OpenSubjectKey(request, **self._calls.unary))).key

    async def erase_subject(self, subject_id: SubjectId) -> None:
        request = pb.EraseSubjectRequest(subject_id=subject_id)
        await _answer(self._stub.EraseSubject(request, **self._calls.stream))

    async def put_secret(
        self,
        organization_id: OrganizationId,
        subject_id: SubjectId,
        kind: SecretKind,
        value: bytes,
        ttl_ms: int | None = None,
    ) -> SecretRef:
        request = pb.PutSecretRequest(
            organization_id=organization_id,
            subject_id=subject_id,
            kind=SECRET_KINDS[kind],
            value=value,
            ttl_ms=ttl_ms,
        )
        return SecretRef((await _answer(self._stub.PutSecret(request, **self._calls.unary))).ref)

    async def open_secret(self, ref: SecretRef, opener: Opener, connection_id: ConnectionId = NO_CONNECTION) -> Secret:
        request = pb.OpenSecretRequest(ref=ref, opener=opener_to_wire(opener), connection_id=connection_id)
        return Secret((await _answer(self._stub.OpenSecret(request, **self._calls.unary))).value)

    async def totp_code(self, ref: SecretRef, opener: Opener, connection_id: ConnectionId = NO_CONNECTION) -> Secret:
        request = pb.OpenSecretRequest(ref=ref, opener=opener_to_wire(opener), connection_id=connection_id)
        return Secret((await _answer(self._stub.OpenTotpCode(request, **self._calls.unary))).value)

    async def credentials_proven(self, connection_id: ConnectionId, opener: Opener) -> None:
        request = pb.ProveCredentialsRequest(connection_id=connection_id, opener=opener_to_wire(opener))
        await _answer(self._stub.ProveCredentials(request, **self._calls.unary))

    async def keep_secret(self, ref: SecretRef, organization_id: OrganizationId, ttl_ms: int) -> bool:
        request = pb.KeepSecretRequest(ref=ref, organization_id=organization_id, ttl_ms=ttl_ms)
        return (await _answer(self._stub.KeepSecret(request, **self._calls.unary))).kept

    async def delete_secret(self, ref: SecretRef) -> None:
        await _answer(self._stub.DeleteSecret(pb.DeleteSecretRequest(ref=ref), **self._calls.unary))

    async def save_session(
        self,
        connection_id: ConnectionId,
        subject_id: SubjectId,
        opener: Opener,
        *,
        expected_version: int,
        state: bytes,
        expires_ms: int,
    ) -> int:
        request = pb.SaveSessionRequest(
            connection_id=connection_id,
            subject_id=subject_id,
            opener=opener_to_wire(opener),
            expected_version=expected_version,
            state=state,
            expires_ms=expires_ms,
        )
        if request.ByteSize() > MESSAGE_BYTES_MAX:
            raise Rejected("session_too_large", f"a session is at most {MESSAGE_BYTES_MAX} bytes")
        return (await _answer(self._stub.SaveSession(request, **self._calls.unary))).version

    async def load_session(self, connection_id: ConnectionId, opener: Opener) -> Session | None:
        request = pb.LoadSessionRequest(connection_id=connection_id, opener=opener_to_wire(opener))
        answer = await _answer(self._stub.LoadSession(request, **self._calls.unary))
        return Session(answer.version, answer.state) if answer.version else None

    async def forget_session(self, connection_id: ConnectionId, opener: Opener) -> None:
        request = pb.ForgetSessionRequest(connection_id=connection_id, opener=opener_to_wire(opener))
        await _answer(self._stub.ForgetSession(request, **self._calls.unary))
