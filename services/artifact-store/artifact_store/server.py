"""The gRPC service: the ports of bytes and secrets for gateway and runners, each known by its own service key.

A runner speaks for attempts only: it cannot pass for the gateway, and the fence checks every token it names. Streams
move in chunks of 256 KiB; a stream that ends without its last chunk is a broken one and stays resumable. Anybody may
check the port's health; which contracts it serves is told to callers with a service key only (reflection).
"""

# ruff: noqa: N802, ARG002 (the names and the arguments of the handlers are gRPC's)

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha import reflection

from contracts.internal import artifact_store_pb2 as pb
from contracts.internal.artifact_store_pb2_grpc import (
    ArtifactBytesServicer,
    ArtifactVaultServicer,
    add_ArtifactBytesServicer_to_server,
    add_ArtifactVaultServicer_to_server,
)
from kernel.domain.ids import ConnectionId, OrganizationId, SubjectId
from kernel.errors import Permanent, Rejected, SecretUnavailable, Temporary, TowpathError
from kernel.line_context import LineContext, add_to_lines
from kernel.store.port import ByteStore, GatewayOpener, Opener, RunOpener, SecretRef, Vault
from kernel.store.wire import (
    KEEPALIVE_MS,
    MESSAGE_BYTES_MAX,
    error_to_trailers,
    header_from_wire,
    kind_from_wire,
    opener_from_wire,
)

Context = grpc.aio.ServicerContext[Any, Any]
Behaviour = Callable[[Any, Context], Any]

_STATUS = {
    Rejected: grpc.StatusCode.INVALID_ARGUMENT,
    Permanent: grpc.StatusCode.FAILED_PRECONDITION,
    SecretUnavailable: grpc.StatusCode.PERMISSION_DENIED,
}
_HEALTH = "/grpc.health.v1.Health/"
_SERVICES = ("", "contracts.internal.ArtifactBytes", "contracts.internal.ArtifactVault")
_GATEWAY_ONLY = frozenset({"MarkNamed", "Unname", "FindSubject", "EraseSubject", "KeepSecret", "DeleteSecret"})


@dataclass(frozen=True, slots=True)
class ServiceKeys:
    """What the two calling services prove themselves by."""

    gateway: str = field(repr=False)
    runner: str = field(repr=False)

    def admit(self, method: str, context: Context) -> None:
        """`SecretUnavailable` unless one of our services calls a method that it may call."""
        if not self.is_gateway(context) and (method in _GATEWAY_ONLY or not _carries(context, self.runner)):
            raise SecretUnavailable("the caller is not the service that may do this")

    def opener(self, context: Context, message: pb.Opener) -> Opener:
        """Who opens, named in what is logged of the call; a runner that would pass for the gateway is refused."""
        opener = opener_from_wire(message)
        if isinstance(opener, GatewayOpener) and not self.is_gateway(context):
            raise SecretUnavailable("a runner opens for its attempts only")
        _tell_of(opener)
        return opener

    def is_gateway(self, context: Context) -> bool:
        """Whether the gateway calls."""
        return _carries(context, self.gateway)


def _carries(context: Context, key: str) -> bool:
    given = dict(context.invocation_metadata() or ()).get("authorization", "")
    text = given if isinstance(given, str) else given.decode(errors="replace")
    return bool(key) and hmac.compare_digest(text.encode(), f"Bearer {key}".encode())


class Border(grpc.aio.ServerInterceptor):
    """Stands around every call: lets our services in, and turns our errors into statuses with trailers."""

    def __init__(self, keys: ServiceKeys) -> None:
        self._keys = keys

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Wrap the handler of one call; a stream of answers needs its own kind of wrapper."""
        handler = await continuation(details)
        if handler is None or details.method.startswith(_HEALTH):
            return handler
        method = details.method.rpartition("/")[2]
        codec = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.stream_stream:  # reflection; ours have none
            return grpc.stream_stream_rpc_method_handler(self._answers(method, handler.stream_stream), **codec)
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(self._answers(method, handler.unary_stream), **codec)
        if handler.stream_unary:
            return grpc.stream_unary_rpc_method_handler(self._answer(method, handler.stream_unary), **codec)
        return grpc.unary_unary_rpc_method_handler(self._answer(method, handler.unary_unary), **codec)

    def _answer(self, method: str, behaviour: Behaviour) -> Behaviour:
        async def answer(request: Any, context: Context) -> Any:
            with LineContext():
                try:
                    self._keys.admit(method, context)
                    return await behaviour(request, context)
                except TowpathError as error:
                    await _abort(context, error)

        return answer

    def _answers(self, method: str, behaviour: Behaviour) -> Behaviour:
        async def answers(request: Any, context: Context) -> AsyncIterator[Any]:
            try:
                self._keys.admit(method, context)
                async for message in behaviour(request, context):
                    yield message
            except TowpathError as error:
                await _abort(context, error)

        return answers


def _tell_of(opener: Opener) -> None:
    add_to_lines(organization_id=opener.organization_id)
    if isinstance(opener, RunOpener):
        add_to_lines(
            root_run_id=opener.root_run_id, workflow_run_id=opener.workflow_run_id, attempt=opener.token.attempt
        )


async def _abort(context: Context, error: TowpathError) -> NoReturn:
    status = next((_STATUS[kind] for kind in _STATUS if isinstance(error, kind)), grpc.StatusCode.UNAVAILABLE)
    await context.abort(status, str(error), error_to_trailers(error))


class BytesService(ArtifactBytesServicer):
    """`ByteStore` behind gRPC."""

    def __init__(self, store: ByteStore, keys: ServiceKeys) -> None:
        self._store = store
        self._keys = keys

    async def Put(self, request_iterator: Any, context: Context) -> pb.PutResponse:
        first: pb.PutRequest = await anext(request_iterator, pb.PutRequest())
        if first.WhichOneof("part") != "header":
            raise Rejected("header_missing", "an upload begins with its header")
        self._keys.opener(context, first.header.opener)
        header = header_from_wire(first.header)
        staged = await self._store.put(_received(request_iterator, header.offset), header)
        return pb.PutResponse(sha256=staged.sha256, size=staged.size, mime_type=staged.mime_type)

    async def QueryPut(self, request: pb.QueryPutRequest, context: Context) -> pb.QueryPutResponse:
        return pb.QueryPutResponse(committed=await self._store.query_put(request.upload_id))

    async def Get(self, request: pb.GetRequest, context: Context) -> AsyncIterator[pb.GetResponse]:
        length = request.length if request.HasField("length") else None
        async for data in self._store.get(request.sha256, offset=request.offset, length=length):
            yield pb.GetResponse(data=data)

    async def Stat(self, request: pb.StatRequest, context: Context) -> pb.StatResponse:
        return pb.StatResponse(size=await self._store.stat(request.sha256))

    async def MarkNamed(self, request: pb.MarkNamedRequest, context: Context) -> pb.MarkNamedResponse:
        await self._store.mark_named(list(request.sha256s))
        return pb.MarkNamedResponse()

    async def Unname(self, request: pb.UnnameRequest, context: Context) -> pb.UnnameResponse:
        await self._store.unname(list(request.names))
        return pb.UnnameResponse()


async def _received(requests: AsyncIterator[pb.PutRequest], offset: int) -> AsyncIterator[bytes]:
    """The chunks of a stream; it must be gapless and end with the chunk that is marked as the last."""
    async for request in requests:
        chunk = request.chunk
        if request.WhichOneof("part") != "chunk" or chunk.offset != offset:
            raise Rejected("offset_mismatch", f"the next chunk begins at {offset}")
        if chunk.data:
            yield chunk.data
            offset += len(chunk.data)
        if chunk.last:
            return
    raise Temporary("upload_broken", "the stream ended before its last chunk")


class VaultService(ArtifactVaultServicer):
    """`Vault` behind gRPC."""

    def __init__(self, vault: Vault, keys: ServiceKeys) -> None:
        self._vault = vault
        self._keys = keys

    async def FindSubject(self, request: pb.FindSubjectRequest, context: Context) -> pb.FindSubjectResponse:
        find = self._vault.find_subject if request.known_only else self._vault.subject_for
        subject_id = await find(OrganizationId(request.organization_id), request.external_id)
        return pb.FindSubjectResponse(subject_id=subject_id or "")

    async def OpenSubjectKey(self, request: pb.OpenSubjectKeyRequest, context: Context) -> pb.OpenSubjectKeyResponse:
        opener = self._keys.opener(context, request.opener)
        return pb.OpenSubjectKeyResponse(key=await self._vault.subject_key(SubjectId(request.subject_id), opener))

    async def EraseSubject(self, request: pb.EraseSubjectRequest, context: Context) -> pb.EraseSubjectResponse:
        await self._vault.erase_subject(SubjectId(request.subject_id))
        return pb.EraseSubjectResponse()

    async def PutSecret(self, request: pb.PutSecretRequest, context: Context) -> pb.PutSecretResponse:
        ref = await self._vault.put_secret(
            OrganizationId(request.organization_id),
            SubjectId(request.subject_id),
            kind_from_wire(request.kind),
            request.value,
            request.ttl_ms if request.HasField("ttl_ms") else None,
        )
        return pb.PutSecretResponse(ref=ref)

    async def OpenSecret(self, request: pb.OpenSecretRequest, context: Context) -> pb.OpenSecretResponse:
        opener = self._keys.opener(context, request.opener)
        secret = await self._vault.open_secret(SecretRef(request.ref), opener, ConnectionId(request.connection_id))
        return pb.OpenSecretResponse(value=secret.reveal())

    async def OpenTotpCode(self, request: pb.OpenSecretRequest, context: Context) -> pb.OpenSecretResponse:
        opener = self._keys.opener(context, request.opener)
        code = await self._vault.totp_code(SecretRef(request.ref), opener, ConnectionId(request.connection_id))
        return pb.OpenSecretResponse(value=code.reveal())

    async def KeepSecret(self, request: pb.KeepSecretRequest, context: Context) -> pb.KeepSecretResponse:
        organization = OrganizationId(request.organization_id)
        return pb.KeepSecretResponse(
            kept=await self._vault.keep_secret(SecretRef(request.ref), organization, request.ttl_ms)
        )

    async def DeleteSecret(self, request: pb.DeleteSecretRequest, context: Context) -> pb.DeleteSecretResponse:
        await self._vault.delete_secret(SecretRef(request.ref))
        return pb.DeleteSecretResponse()

    async def ProveCredentials(
        self, request: pb.ProveCredentialsRequest, context: Context
    ) -> pb.ProveCredentialsResponse:
        opener = self._keys.opener(context, request.opener)
        await self._vault.credentials_proven(ConnectionId(request.connection_id), opener)
        return pb.ProveCredentialsResponse()

    async def SaveSession(self, request: pb.SaveSessionRequest, context: Context) -> pb.SaveSessionResponse:
        version = await self._vault.save_session(
            ConnectionId(request.connection_id),
            SubjectId(request.subject_id),
            self._keys.opener(context, request.opener),
            expected_version=request.expected_version,
            state=request.state,
            expires_ms=request.expires_ms,
        )
        return pb.SaveSessionResponse(version=version)

    async def LoadSession(self, request: pb.LoadSessionRequest, context: Context) -> pb.LoadSessionResponse:
        opener = self._keys.opener(context, request.opener)
        session = await self._vault.load_session(ConnectionId(request.connection_id), opener)
        if session is None:
            return pb.LoadSessionResponse()
        return pb.LoadSessionResponse(version=session.version, state=session.state)

    async def ForgetSession(self, request: pb.ForgetSessionRequest, context: Context) -> pb.ForgetSessionResponse:
        opener = self._keys.opener(context, request.opener)
        await self._vault.forget_session(ConnectionId(request.connection_id), opener)
        return pb.ForgetSessionResponse()


def tls_credentials(certificate_path: Path | None, key_path: Path | None) -> grpc.ServerCredentials | None:
    """Credentials of the listening port from PEM files; None without a certificate."""
    if certificate_path is None or key_path is None:
        return None
    return grpc.ssl_server_credentials([(key_path.read_bytes(), certificate_path.read_bytes())])


class StoreServer:
    """The listening service with its health; `start` once, `drain` once."""

    def __init__(
        self,
        store: ByteStore,
        vault: Vault,
        keys: ServiceKeys,
        *,
        address: str,
        credentials: grpc.ServerCredentials | None = None,
    ) -> None:
        """`address` is `host:port`, port 0 for any; with `credentials` the port speaks TLS."""
        options = [
            ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
            ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
            # Clients ping while they wait; the default would take that for abuse.
            ("grpc.http2.min_recv_ping_interval_without_data_ms", KEEPALIVE_MS // 2),
        ]
        self._health = health.HealthServicer()
        self._server = grpc.aio.server(interceptors=(Border(keys),), options=options)
        add_ArtifactBytesServicer_to_server(BytesService(store, keys), self._server)
        add_ArtifactVaultServicer_to_server(VaultService(vault, keys), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        told = (*_SERVICES[1:], _HEALTH.strip("/"), reflection.SERVICE_NAME)
        reflection.enable_server_reflection(told, self._server)
        if credentials is None:
            self.port = self._server.add_insecure_port(address)
        else:
            self.port = self._server.add_secure_port(address, credentials)

    async def start(self) -> None:
        """Listen and say so to health checks."""
        await self._server.start()
        for service in _SERVICES:
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)

    async def drain(self, grace_seconds: float) -> None:
        """Turn health to NOT_SERVING, take no new call, give running ones `grace_seconds`, then stop."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_seconds)
