"""The health process of the cluster: a Faust app that follows the public facts into the rows of `scheduler.health`.

Faust shares the partitions out and commits offsets, at least once; it holds no figures. Those stand in SQL with the
position they are from, so whatever Faust reads again counts once, and any number of these processes may run. An event
is acknowledged when its row is written and what follows from it is told. Whatever goes wrong in the agent ends the
process with its events unacknowledged: an agent that raises would drop them in silence.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import faust
import structlog
from faust.types.auth import CredentialsT, SASLMechanism

from kernel import health_rows
from kernel.clock import Clock
from kernel.errors import Temporary, TowpathError, UnknownOutcome
from kernel.log.kafka.log import KafkaLog
from kernel.log.kafka.settings import KafkaSettings, kafka_settings
from kernel.log.port import Record, Stored
from kernel.log.topics import Topic
from kernel.metering import Standing, measure_lag
from kernel.service import Service, run_service
from kernel.sql.port import migrate
from kernel.sql.postgres.settings import postgres_settings
from scheduler.health_book import HealthBook, Observation
from scheduler.health_driver import Transport

GROUP = "health"
PAUSE_SECONDS = 0.1
"""After the first event, until those that were fetched with it are here; all are written at once."""
PENDING_MAX = 2000
"""So many events are written without waiting; no more are taken while they are."""
RETRY_SECONDS = 1.0
COMMIT_SECONDS = 1.0
"""Between two commits of offsets; what is not committed is read again and changes nothing."""
SESSION_SECONDS = 10.0
"""Figures may wait for a takeover; no broker refuses so long a session."""

_log = structlog.get_logger("scheduler.health")


class HealthFailed(TowpathError):
    """Something in the agent that no retry mends; its events are read again by the next life."""


@dataclass(slots=True)
class Follower:
    """The events of one app that are taken and not yet acknowledged. `stream` and `topic` are Faust's."""

    book: HealthBook
    clock: Clock
    requests: Any
    """Faust's topic of requests to the registry."""
    request_partitions: int
    failed: asyncio.Future[None]
    _pending: list[tuple[Any, Any]] = field(default_factory=list)
    """Streams and their events, in the order in which they came."""
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def follow(self, stream: Any) -> None:
        """The agent. It never raises but when it is cancelled."""
        manual = stream.noack()
        async for event in manual.events():
            self._pending.append((manual, event))
            self._news.set()
            if len(self._pending) >= PENDING_MAX:
                await self.guarded_flush()

    async def write_on(self) -> None:
        """Write what is pending, a fetch's worth at a time, until cancelled. Silence costs nothing."""
        while True:
            await self._news.wait()
            await self.clock.sleep(PAUSE_SECONDS)
            await self.guarded_flush()

    async def guarded_flush(self) -> None:
        """`flush`; what it cannot do ends the process, and nothing is acknowledged."""
        try:
            await self.flush()
        except Exception as error:  # noqa: BLE001 (an agent that raises drops its event; the process ends instead)
            failure = HealthFailed(f"{type(error).__name__}: {error}")
            failure.__cause__ = error
            if not self.failed.done():
                self.failed.set_exception(failure)
            await asyncio.Event().wait()

    async def flush(self) -> None:
        """Count, write, tell, acknowledge, in this order. Waits for a database or a broker that is away."""
        async with self._turn:
            self._news.clear()
            taken, self._pending = self._pending, []
            for stretch in stretches([event for _, event in taken]):
                partition, start = stretch[0].record.partition, stretch[0].offset
                if not self.book.continues(partition, start):
                    await self._patiently(self._write)
                await self._patiently(partial(self.book.count, partition, start, stretch))
            await self._patiently(self._write)
            for stream, event in taken:
                await stream.ack(event)

    async def _patiently(self, act: Callable[[], Awaitable[None]]) -> None:
        """`act`, again and again while the database is away; every act here may be repeated."""
        is_done = False
        while not is_done:
            try:
                await act()
                is_done = True
            except (Temporary, UnknownOutcome) as error:
                _log.warning("health.retry", error=str(error))
                await self.clock.sleep(RETRY_SECONDS)

    async def _write(self) -> None:
        for observation in await self.book.write():
            await self._tell(observation)

    async def _tell(self, observation: Observation) -> None:
        """Faust's own partitioner is not asked: the partition is stated, as in every record of ours."""
        record = observation.record(self.request_partitions, self.clock.now_ms())
        sent = await self.requests.send(
            key=record.key.encode(),
            value=record.value,
            partition=record.partition,
            headers=[(name, value.encode()) for name, value in record.headers],
        )
        await sent
        self.book.told([observation])


def stretches(events: Sequence[Any]) -> Iterator[list[Stored]]:
    """Faust's events as records, those of one partition that follow each other without a gap together, in order."""
    open_: dict[int, list[Stored]] = {}
    for event in events:
        stored = _stored(event.message)
        partition = stored.record.partition
        known = open_.get(partition)
        if known and known[-1].offset + 1 != stored.offset:
            yield open_.pop(partition)
            known = None
        if known is None:
            open_[partition] = [stored]
        else:
            known.append(stored)
    yield from open_.values()


def _stored(message: Any) -> Stored:
    headers = message.headers.items() if isinstance(message.headers, dict) else message.headers or ()
    record = Record(
        Topic.JOB_RUNS,
        message.partition,
        (message.key or b"").decode(),
        tuple((name, value.decode()) for name, value in headers),
        message.value or b"",
    )
    return Stored(record, message.offset, int(message.timestamp * 1000))


# ---------------------------------------------------------------- the app


def make_app(kafka: KafkaSettings, member: str, folder: str) -> Any:
    """Faust with everything switched off that is not asked of it: topics, tables, web server, log handlers.

    It wants a `folder` all the same, in which it keeps nothing.
    """
    app = faust.App(
        f"{kafka.prefix}.{GROUP}",
        broker=[f"kafka://{host}:{port}" for host, port in kafka.addresses()],
        broker_credentials=_credentials(kafka),
        broker_client_id=f"{GROUP}-{member}",
        broker_session_timeout=SESSION_SECONDS,
        broker_heartbeat_interval=SESSION_SECONDS / 4,
        broker_commit_interval=COMMIT_SECONDS,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=member,
        datadir=folder,
        producer_acks=-1,
        producer_linger=0,
        autodiscover=False,
        store="memory://",
        stream_wait_empty=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        key_serializer="raw",
        value_serializer="raw",
    )
    app.transport = Transport(app.conf.broker_consumer, app)
    return app


def _credentials(kafka: KafkaSettings) -> CredentialsT | None:
    context = kafka.ssl_context()
    if kafka.security_protocol.startswith("SASL"):
        mechanism = SASLMechanism(kafka.sasl_mechanism)
        return faust.SASLCredentials(
            username=kafka.sasl_username, password=kafka.sasl_password, ssl_context=context, mechanism=mechanism
        )
    return faust.SSLCredentials(context) if context else None


async def run(service: Service) -> None:
    """Put the app together and serve until told to end."""
    for chatty in ("faust", "mode"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    kafka, postgres = kafka_settings(service.environ), postgres_settings(service.environ)
    log = await service.reach(f"Kafka at {kafka.bootstrap}", lambda: KafkaLog.open(kafka, service.clock))
    service.parts.push_async_callback(log.close)
    partitions, topic_id = log.partitions(Topic.REGISTRY_REQUESTS), await log.topic_id(Topic.JOB_RUNS)
    db = await service.reach(f"PostgreSQL at {postgres.place}", postgres.open)
    service.parts.push_async_callback(db.close)
    await migrate(db, health_rows.migrations(db.dialect))
    book = HealthBook(db, service.clock)
    await book.begin(topic_id)
    folder = service.parts.enter_context(tempfile.TemporaryDirectory(prefix="towpath-health-"))
    app = make_app(kafka, service.member, folder)
    raw = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
    requests = app.topic(kafka.broker_topic(Topic.REGISTRY_REQUESTS), **raw)
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    follower = Follower(book, service.clock, requests, partitions, failed)
    app.agent(app.topic(kafka.broker_topic(Topic.JOB_RUNS), **raw), name="health")(follower.follow)
    await app.start()
    service.parts.push_async_callback(app.stop)
    service.beside(follower.write_on(), name="writing")
    standing = partial(_standing, app, book, kafka.broker_topic(Topic.JOB_RUNS))
    service.beside(measure_lag(service.metrics, log, service.clock, standing), name="lag")
    service.watch("postgres", lambda: db.fetch_one("SELECT 1"))
    service.health.conditions["faust"] = lambda: not app.crashed
    service.started()
    # Faust would read on in any topic of that name.
    service.beside(log.watch_topics(Topic.JOB_RUNS), name="watch of the topics")
    await _until_the_end(service, app, follower)


def _standing(app: Any, book: HealthBook, topic: str) -> Iterator[Standing]:
    """How far the partitions are counted that this process has."""
    for partition, next_offset in book.reached.items():
        if (topic, partition) in app.consumer.assignment():
            yield Standing(GROUP, Topic.JOB_RUNS, partition, next_offset)


async def _until_the_end(service: Service, app: Any, follower: Follower) -> None:
    told = asyncio.ensure_future(service.stop.wait())
    stopped = asyncio.ensure_future(app.wait_until_stopped())
    await asyncio.wait([told, stopped, follower.failed], return_when=asyncio.FIRST_COMPLETED)
    for task in (told, stopped):
        task.cancel()
    if follower.failed.done():
        follower.failed.result()
    if not service.stop.is_set():
        raise HealthFailed(f"Faust has stopped: {app.crash_reason}")
    await follower.flush()


def main() -> int:
    """Run the process; its exit code."""
    return run_service("health", run)
