"""Connections to the brokers, and who leads what.

A broker answers the requests of one connection one after the other, so what may wait long goes by a connection of its
own: its name is a *lane*. Metadata carry topic ids, so whoever asks who leads a partition also notices that a topic was
recreated or that the address belongs to another cluster. Of two answers about a leader the one with the higher epoch
counts, whichever came last: a broker that is cut off from the others goes on telling what it knew.

Waiting here is real time, not the `Clock` of the services: it belongs to the network.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from contextvars import Context
from typing import Any, TypeVar
from uuid import UUID

from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import AuthenticationFailedError, KafkaError, SaslAuthenticationFailed
from aiokafka.protocol.api import Request
from aiokafka.protocol.coordination import FindCoordinatorRequest

from kernel.errors import LogRefused, LogUnavailable
from kernel.ids import Entropy
from kernel.log.kafka.settings import KafkaSettings
from kernel.log.kafka.wire import LATER, Code, Lead, Metadata, MetadataRequest, metadata_of, name_of

T = TypeVar("T")

Stream = tuple[str, int]
"""A topic as the broker names it, and a partition."""

ASK = "ask"
"""The lane of what is answered at once."""
_CLIENT_ID = "towpath"
_NOBODY = Lead(-1, -1, ())
_CREATED_SECONDS = 2.0
"""How long after its creation a topic may still be unknown to a broker."""
_ONE_BROKER_SECONDS = 1.5
"""How long one broker is waited for when any other could answer as well."""


class Unreached(Exception):
    """Nothing was sent: no connection."""


class Lost(Exception):
    """It was sent, and no answer came."""


class Brokers:
    """The cluster as a client sees it. `open` it, `close` it."""

    def __init__(self, settings: KafkaSettings, topics: Iterable[str], entropy: Entropy) -> None:
        """`topics` as the broker names them."""
        self.cluster_id = ""
        self.times_told = 0
        """How often brokers have told who leads what; between two of these nothing of it changes."""
        self._settings = settings
        self._names = tuple(topics)
        self._entropy = entropy
        self._ssl = settings.ssl_context()
        self._addresses: dict[int, tuple[str, int]] = {}
        self._topics: dict[str, tuple[UUID | None, dict[int, Lead]]] = {}
        self._opened: dict[str, UUID] = {}
        self._connections: dict[tuple[int, str], AIOKafkaConnection] = {}
        self._connecting: dict[tuple[int, str], asyncio.Task[AIOKafkaConnection]] = {}
        self._refreshing: asyncio.Task[None] | None = None
        self._closed = False

    async def open(self) -> None:
        """Find the cluster and its topics; waits for leaders that are still being elected.

        `LogUnavailable` when no broker answers, `LogRefused` when a topic is missing or we are not let in.
        """
        now = asyncio.get_running_loop().time
        began = now()
        while True:
            await self.refresh()
            missing = [name for name in self._names if name not in self._topics]
            leaderless = [name for name, (_, leads) in self._topics.items() if any(x.node < 0 for x in leads.values())]
            if not missing and not leaderless:
                self._opened = {name: self.topic_id(name) for name in self._names}
                return
            if missing and now() - began > _CREATED_SECONDS:
                raise LogRefused(f"topics are missing; create them first: {', '.join(missing)}")
            if now() - began > self._settings.append_seconds:
                raise LogUnavailable(f"topics without a leader: {', '.join(leaderless)}")
            await asyncio.sleep(self.jitter(0.1))

    async def close(self) -> None:
        """Let every connection go. Idempotent."""
        self._closed = True
        tasks = [*self._connecting.values(), *([self._refreshing] if self._refreshing else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        closing = [connection.close() for connection in self._connections.values()]
        self._connections.clear()
        await asyncio.gather(*filter(None, closing))

    # who leads what

    def partitions(self, topic: str) -> int:
        """`KeyError` for a topic that was not there at `open`."""
        return len(self._topics[topic][1])

    def topic_id(self, topic: str) -> UUID:
        """The id of `topic` as known now. `LogRefused` when it is gone."""
        found, _ = self._topics[topic]
        if found is None:
            raise LogRefused(f"topic {topic} is gone")
        return found

    async def current_id(self, topic: str) -> UUID:
        """The id of `topic`, asked anew. `LogRefused` when it is gone for longer than a new one takes to be known."""
        began = asyncio.get_running_loop().time()
        while True:
            await self.refresh()
            if not self.is_gone(topic) or asyncio.get_running_loop().time() - began > _CREATED_SECONDS:
                return self.topic_id(topic)
            await asyncio.sleep(self.jitter(0.1))

    def opened_id(self, topic: str) -> UUID:
        """The id that `topic` had at `open`."""
        return self._opened[topic]

    def is_gone(self, topic: str) -> bool:
        """Whether no topic has the name, as far as the brokers know by now."""
        return self._topics[topic][0] is None

    def is_recreated(self, topic: str, topic_id: UUID) -> bool:
        """Whether another topic has the name of the one with that id; one that is gone may still come back."""
        found, _ = self._topics[topic]
        return found is not None and found != topic_id

    def refuse_recreated(self, topic: str) -> None:
        """`LogRefused` when another topic has the name now: no position of the one that was opened means anything."""
        if topic in self._opened and self.is_recreated(topic, self._opened[topic]):
            raise LogRefused(f"topic {topic} was recreated since it was opened")

    def leader(self, stream: Stream) -> int | None:
        """The node that leads a partition; None when nobody is known to."""
        lead = self.lead(stream)
        return lead.node if lead is not None else None

    def lead(self, stream: Stream) -> Lead | None:
        """The same with its epoch and with who keeps copies."""
        lead = self._topics[stream[0]][1].get(stream[1])
        return lead if lead is not None and lead.node in self._addresses else None

    def nodes(self) -> list[int]:
        """Every broker that is known now."""
        return list(self._addresses)

    async def refresh(self) -> None:
        """Ask for metadata anew; callers at the same time share one question. `LogUnavailable` when nobody answers."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.get_running_loop().create_task(self._refresh(), context=Context())
            self._refreshing.add_done_callback(_seen)
        await self._shared(self._refreshing)

    async def _refresh(self) -> None:
        nodes = [*self._addresses]
        start = int(self._entropy.fraction() * len(nodes)) if nodes else 0
        bootstrap = [-2 - index for index in range(len(self._settings.addresses()))]
        why = "none in time"
        for node in [*nodes[start:], *nodes[:start], *bootstrap]:
            try:
                async with asyncio.timeout(_ONE_BROKER_SECONDS):
                    answer = await self.ask(node, MetadataRequest(self._names))
            except (Unreached, Lost) as error:
                why = str(error)
                continue
            except TimeoutError:
                continue
            metadata = metadata_of(answer)
            if metadata.nodes:
                self._adopt(metadata)
                return
        raise LogUnavailable(f"no broker answers at {self._settings.bootstrap}: {why}", self.jitter(0.5))

    def _adopt(self, metadata: Metadata) -> None:
        if self.cluster_id and metadata.cluster_id != self.cluster_id:
            raise LogRefused(f"the brokers belong to cluster {metadata.cluster_id}, not to {self.cluster_id} any more")
        self.cluster_id = metadata.cluster_id
        self.times_told += 1
        moved = {node for node, address in self._addresses.items() if metadata.nodes.get(node, address) != address}
        for node, lane in [key for key in self._connections if key[0] in moved]:
            self.drop(node, lane)
        self._addresses = metadata.nodes
        for name, (code, topic_id, leads) in metadata.topics.items():
            if code in (Code.NONE, Code.LEADER_NOT_AVAILABLE):
                known_id, known = self._topics.get(name, (None, {}))
                self._topics[name] = (topic_id, _newest(known, leads) if topic_id == known_id else leads)
            elif code == Code.UNKNOWN_TOPIC_OR_PARTITION:
                if name in self._topics:
                    self._topics[name] = (None, dict.fromkeys(self._topics[name][1], _NOBODY))
            else:
                raise LogRefused(f"topic {name}: {name_of(code)}")

    async def coordinator(self, group: str) -> int:
        """The node that keeps the offsets of `group`. `LogUnavailable` when there is none now."""
        for node in self.nodes():
            try:
                answer = await self.ask(node, FindCoordinatorRequest(group, 0))
            except (Unreached, Lost):
                continue
            if answer.error_code == Code.NONE:
                return int(answer.coordinator_id)
        raise LogUnavailable(f"group {group} has no coordinator", self.jitter(0.2))

    # asking

    async def ask(self, node: int, request: Request[Any], lane: str = ASK) -> Any:
        """The answer of `node`. `Unreached` when nothing was sent, `Lost` when it was and no answer came."""
        connection = await self._connection(node, lane)
        try:
            return await connection.send(request)
        except (KafkaError, OSError, TimeoutError) as error:
            self.drop(node, lane)
            raise Lost(f"node {node}: {type(error).__name__}") from error

    async def ask_leader(
        self, stream: Stream, request: Callable[[], Request[Any]], code_of: Callable[[Any], int], lane: str = ASK
    ) -> Any:
        """The answer of whoever leads `stream`; asked again while nobody does. For what may be asked twice.

        `LogUnavailable` when that takes too long, `LogRefused` when the topic is gone; what `request` raises.
        """
        give_up = asyncio.get_running_loop().time() + self._settings.request_seconds
        while True:
            why = "no leader"
            node = self.leader(stream)
            if node is not None:
                try:
                    answer = await self.ask(node, request(), lane)
                except (Unreached, Lost) as error:
                    why = str(error)
                else:
                    if (code := code_of(answer)) not in LATER:
                        return answer
                    why = name_of(code)
            if asyncio.get_running_loop().time() > give_up:
                self.topic_id(stream[0])
                raise LogUnavailable(f"{stream[0]}/{stream[1]}: {why}", self.jitter(0.2))
            with suppress(LogUnavailable):
                await self.refresh()
            await asyncio.sleep(self.jitter(0.1))

    def drop(self, node: int, lane: str) -> None:
        """Close a connection; whoever waits on it gets `Lost`, the next request opens another."""
        connection = self._connections.pop((node, lane), None)
        if connection is not None:
            connection.close()

    async def _connection(self, node: int, lane: str) -> AIOKafkaConnection:
        key = (node, lane)
        connection = self._connections.get(key)
        if connection is not None and connection.connected():
            return connection
        if self._closed:
            raise LogRefused("the log is closed")
        connecting = self._connecting.get(key)
        if connecting is None:
            self.drop(node, lane)
            # In a context of its own: the connection serves more than who needs it first.
            loop = asyncio.get_running_loop()
            connecting = self._connecting[key] = loop.create_task(self._connect(key), context=Context())
            connecting.add_done_callback(_seen)
        return await self._shared(connecting)

    async def _connect(self, key: tuple[int, str]) -> AIOKafkaConnection:
        settings = self._settings
        try:
            host, port = self._address(key[0])
            connection: AIOKafkaConnection = await create_conn(
                host,
                port,
                client_id=_CLIENT_ID,
                request_timeout_ms=settings.request_seconds * 1000,
                ssl_context=self._ssl,
                security_protocol=settings.security_protocol,
                sasl_mechanism=settings.sasl_mechanism,
                sasl_plain_username=settings.sasl_username,
                sasl_plain_password=settings.sasl_password,
            )
            self._connections[key] = connection
        except (AuthenticationFailedError, SaslAuthenticationFailed) as error:
            raise LogRefused(f"the brokers do not let {settings.sasl_username} in: {type(error).__name__}") from error
        except (KafkaError, OSError, TimeoutError) as error:
            name = f"node {key[0]}" if key[0] >= 0 else "{}:{}".format(*self._address(key[0]))
            raise Unreached(f"{name}: {_reason(error)}") from error
        finally:
            del self._connecting[key]
        return connection

    def _address(self, node: int) -> tuple[str, int]:
        if node <= -2:
            return self._settings.addresses()[-2 - node]
        if node not in self._addresses:
            raise ConnectionError("no such node any more")
        return self._addresses[node]

    async def _shared(self, task: asyncio.Task[T]) -> T:
        """Wait for what others wait for, too: a waiter that is cancelled does not end it, `close` does."""
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if self._closed and task.cancelled():
                raise LogRefused("the log is closed") from None
            raise

    def jitter(self, seconds: float) -> float:
        """Between half of `seconds` and all of it, so that clients do not come back as one."""
        return seconds * (0.5 + self._entropy.fraction() / 2)


def _newest(known: Mapping[int, Lead], told: Mapping[int, Lead]) -> dict[int, Lead]:
    """Of each partition what was told now, unless a later epoch is known already."""
    return {
        partition: known[partition] if partition in known and known[partition].epoch > lead.epoch else lead
        for partition, lead in told.items()
    }


def _reason(error: Exception) -> str:
    """The kind of an error, and of TLS what is wrong: whoever reads it has a file to mend."""
    return f"TLS: {error.verify_message}" if isinstance(error, ssl.SSLCertVerificationError) else type(error).__name__


def _seen(task: asyncio.Task[Any]) -> None:
    """Every waiter may have been cancelled: what the task raised is then nobody's."""
    if not task.cancelled():
        task.exception()
