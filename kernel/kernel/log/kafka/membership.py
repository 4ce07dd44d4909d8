"""A consumer group that proposes which partitions this process should own, and nothing else.

The group fetches nothing and commits nothing. Who owns a ledger partition is decided in the ledger; the group only says
who should try, so that the work is spread, and moves when a process goes. Therefore a rebalance stops nobody: what was
owned is owned until another proposal comes. A member that the group has thrown out claims nothing until it is back, but
goes on with what nobody else has claimed: on a machine that is too busy for heartbeats, all may be thrown out at once.

aiokafka's group coordinator is used without its consumer. A consumer that is not polled is thrown out after
`max_poll_interval`; here there is no such limit, for the loop that works is watched by its own heartbeat. Members have
names (static membership): one that is back within the session finds its partitions as it left them. It leaves when it
is told to end, which aiokafka does not do for such members. Two processes of one name throw each other out: each waits
longer each time before it comes back, so that the work goes on at one of them until somebody reads the line about it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import structlog
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from aiokafka.errors import GroupAuthorizationFailedError, InvalidSessionTimeoutError, KafkaError
from aiokafka.protocol.group import JoinGroupRequest, LeaveGroupRequest
from aiokafka.structs import TopicPartition

from kernel.clock import Clock
from kernel.errors import LogRefused, LogUnavailable
from kernel.log.kafka.settings import KafkaSettings
from kernel.log.kafka.spreading import spread
from kernel.proposals import Proposals

SESSION_MS = 2_000
"""Silence after which the group gives a member's partitions to others, where the brokers allow so little."""
SESSIONS_MS = (SESSION_MS, 6_000, 10_000, 30_000)
"""What is asked for in turn when brokers refuse; 6 s is the least that they allow unless they are told otherwise."""
HEARTBEAT_MS = 500
"""How soon a member hears, at the latest, that another one has come or gone."""
REBALANCE_MS = 5_000
"""How long a rebalance waits for members that do not answer."""
JOIN_SECONDS = 15.0
LEAVE_SECONDS = 2.0
_RETRY_SECONDS = 0.5
_LOOK_SECONDS = 2.0
"""How soon a member hears of an error that aiokafka tells nobody who waits."""
THROWN_OUT_SECONDS_FIRST = 1.0
"""How long a member stays away whose name another one has taken for the second time; twice as long each time."""
THROWN_OUT_SECONDS_MAX = 30.0
_SETTLED_SECONDS = 120.0
"""After so long among the others it is a new story."""
_log = structlog.get_logger("kernel.log.kafka.membership")


class Membership:
    """One process in one group. `join` makes it; `proposals` tell what it should own of each topic."""

    def __init__(
        self,
        settings: KafkaSettings,
        group: str,
        topics: Sequence[str],
        clock: Clock,
        *,
        member: str = "",
        session_ms: int = SESSION_MS,
    ) -> None:
        """`group` and `topics` by their plain names; `member` names this process among the group, empty: no name."""
        self._settings = settings
        self._group = f"{settings.prefix}.{group}"
        self._topics = {settings.broker_topic(topic): Proposals() for topic in topics}
        self._plain = {topic: self._topics[settings.broker_topic(topic)] for topic in topics}
        self._clock = clock
        self._member = member
        self._joined: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._leaving = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._coordinator: GroupCoordinator | None = None
        self._displaced = 0
        self._displaced_ms = self._heard_ms = float("-inf")
        self.session_ms = session_ms
        """Silence after which the group gives this member up, as far as was found that the brokers allow it."""

    @classmethod
    async def join(
        cls,
        settings: KafkaSettings,
        group: str,
        topics: Sequence[str],
        clock: Clock,
        *,
        member: str = "",
        session_ms: int = SESSION_MS,
    ) -> Membership:
        """Become a member; returns with the first proposal, which may be empty.

        Raises `LogRefused` when the brokers will never let us in, `LogUnavailable` when they do not answer in time.
        """
        membership = cls(settings, group, topics, clock, member=member, session_ms=session_ms)
        membership._task = asyncio.create_task(membership._stay(), name=f"membership of {group}")
        try:
            async with asyncio.timeout(JOIN_SECONDS):
                await membership._joined
        except TimeoutError:
            await membership.leave()
            raise LogUnavailable(f"the group {group} did not answer in {JOIN_SECONDS:.0f} s") from None
        except BaseException:
            await membership.leave()
            raise
        return membership

    def proposals(self, topic: str) -> Proposals:
        """What this member should own of `topic`, one of those it was made with."""
        return self._plain[topic]

    @property
    def is_member(self) -> bool:
        """Whether the group knows this process and its coordinator answers."""
        coordinator = self._coordinator
        return (
            coordinator is not None
            and coordinator.coordinator_id is not None
            and coordinator.member_id != JoinGroupRequest.UNKNOWN_MEMBER_ID
        )

    async def leave(self) -> None:
        """Tell the group to give everything to others; no proposal changes any more. Idempotent.

        Brokers that do not answer in `LEAVE_SECONDS` will miss us by themselves.
        """
        self._leaving.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=LEAVE_SECONDS)
            self._task.cancel()
            await asyncio.wait([self._task], timeout=LEAVE_SECONDS)

    async def _stay(self) -> None:
        """Be a member until `leave`; begin anew whenever aiokafka gives up."""
        while not self._leaving.is_set():
            try:
                await self._be_member()
            except InvalidSessionTimeoutError:
                refused = self.session_ms
                self.session_ms = next((longer for longer in SESSIONS_MS if longer > refused), SESSIONS_MS[0])
                _log.warning("membership.session_refused", group=self._group, asked_ms=refused, next_ms=self.session_ms)
            except GroupAuthorizationFailedError as error:
                self._refuse(LogRefused(f"no access to the consumer group {self._group}: {error}"))
                await self._pause(10 * _RETRY_SECONDS)
            except KafkaError as error:
                _log.warning("membership.lost", group=self._group, error=repr(error))
                await self._pause(_RETRY_SECONDS)
            except Exception as error:  # noqa: BLE001 (an edge: whatever the library does, the process tries to stay)
                _log.exception("membership.broke", group=self._group, error=type(error).__name__)
                await self._pause(_RETRY_SECONDS)

    async def _be_member(self) -> None:
        """One client and one coordinator, until `leave` or an error that aiokafka does not get over."""
        client = self._client()
        subscription = SubscriptionState()
        subscription.register_fetch_waiters(set())  # nobody fetches, and aiokafka tells these of its errors
        try:
            await client.bootstrap()
            client.set_topics(set(self._topics))
            await client._maybe_wait_metadata()  # noqa: SLF001 (as aiokafka's own consumer does it)
            self._coordinator = coordinator = self._coordinate(client, subscription)
            try:
                subscription.subscribe(set(self._topics), listener=_Listener(self, coordinator))
                await self._until_error(subscription, coordinator)
            finally:
                self._coordinator = None
                await coordinator.close()
        finally:
            await client.close()

    def _client(self) -> AIOKafkaClient:
        settings = self._settings
        return AIOKafkaClient(
            bootstrap_servers=settings.bootstrap,
            client_id=self._member or "towpath",
            request_timeout_ms=int(settings.request_seconds * 1000) + max(REBALANCE_MS, self.session_ms),
            security_protocol=settings.security_protocol,
            ssl_context=settings.ssl_context(),
            sasl_mechanism=settings.sasl_mechanism,
            sasl_plain_username=settings.sasl_username,
            sasl_plain_password=settings.sasl_password,
        )

    def _coordinate(self, client: AIOKafkaClient, subscription: SubscriptionState) -> GroupCoordinator:
        return _Coordinator(
            self,
            client,
            subscription,
            group_id=self._group,
            group_instance_id=self._member or None,
            session_timeout_ms=self.session_ms,
            heartbeat_interval_ms=min(HEARTBEAT_MS, self.session_ms // 4),
            retry_backoff_ms=100,
            enable_auto_commit=False,
            assignors=(_Spreading(self._topics),),
            max_poll_interval_ms=float("inf"),
            rebalance_timeout_ms=max(REBALANCE_MS, self.session_ms),
        )

    async def _until_error(self, subscription: SubscriptionState, coordinator: GroupCoordinator) -> None:
        """Wait until `leave`, and leave; raises what aiokafka cannot mend by itself."""
        leaving = asyncio.create_task(self._leaving.wait())
        assigned = subscription.wait_for_assignment()
        try:
            while not leaving.done():
                await asyncio.wait((leaving, assigned), timeout=_LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if assigned.done():
                    error, assigned = assigned.exception(), subscription.wait_for_assignment()
                    if error is not None:
                        coordinator.check_errors()
                        raise error
                coordinator.check_errors()  # of what came while nobody waited
            await self._say_goodbye(coordinator)
        finally:
            leaving.cancel()

    async def _say_goodbye(self, coordinator: GroupCoordinator) -> None:
        """Leave by the member's id; aiokafka leaves for members without a name only."""
        if not self._member or coordinator.member_id == JoinGroupRequest.UNKNOWN_MEMBER_ID:
            return
        await coordinator._send_req(LeaveGroupRequest(self._group, coordinator.member_id))  # noqa: SLF001 (see above)

    async def _pause(self, seconds: float) -> None:
        waiting = (asyncio.create_task(self._clock.sleep(seconds)), asyncio.create_task(self._leaving.wait()))
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()

    def _refuse(self, error: LogRefused) -> None:
        if not self._joined.done():
            self._joined.set_exception(error)
        _log.error("membership.refused", group=self._group, error=str(error))

    def heard(self) -> None:
        """The group has just said that this process is a member."""
        self._heard_ms = self._clock.boot_ms()

    async def thrown_out(self) -> None:
        """The group has given this member up: others may own what it had. Returns when it may come back.

        Who was silent for a session comes back at once. Who was not has lost its name to another process, and with it
        everything.
        """
        _log.warning("membership.thrown_out", group=self._group)
        for proposals in self._plain.values():
            proposals.withhold()
        now_ms = self._clock.boot_ms()
        if not self._member or now_ms - self._heard_ms >= self.session_ms:
            return
        is_again = now_ms - self._displaced_ms < 1000 * _SETTLED_SECONDS
        self._displaced, self._displaced_ms = (self._displaced + 1 if is_again else 0), now_ms
        if not self._displaced:
            return
        self.told(())
        seconds = min(THROWN_OUT_SECONDS_FIRST * 2 ** (self._displaced - 1), THROWN_OUT_SECONDS_MAX)
        why = "another process has the same TOWPATH_MEMBER"
        _log.error("membership.displaced", group=self._group, member=self._member, why=why, stays_away=seconds)
        await self._pause(seconds)

    def told(self, partitions: Iterable[TopicPartition]) -> None:
        """The group proposes these."""
        if self._leaving.is_set():
            return
        by_topic: dict[str, set[int]] = {}
        for topic, partition in partitions:
            by_topic.setdefault(topic, set()).add(partition)
        for topic, proposals in self._topics.items():
            proposals.propose(by_topic.get(topic, ()))
        said = {plain: sorted(proposals.now) for plain, proposals in self._plain.items()}
        _log.info("membership.proposed", group=self._group, partitions=said)
        if not self._joined.done():
            self._joined.set_result(None)


class _Coordinator(GroupCoordinator):  # type: ignore[misc]  # aiokafka has no types
    """aiokafka's coordinator, which tells of each heartbeat that was answered."""

    def __init__(self, membership: Membership, *parts: Any, **settings: Any) -> None:
        super().__init__(*parts, **settings)
        self._membership = membership

    async def _do_heartbeat(self) -> bool:
        success = bool(await super()._do_heartbeat())
        if success:
            self._membership.heard()
        return success


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """What the coordinator calls as the group changes."""

    def __init__(self, membership: Membership, coordinator: GroupCoordinator) -> None:
        self._membership = membership
        self._coordinator = coordinator

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """A rebalance begins. Members of the group go on; one that was thrown out is not proposed anything any more."""
        if revoked and self._coordinator.member_id == JoinGroupRequest.UNKNOWN_MEMBER_ID:
            await self._membership.thrown_out()

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._membership.heard()
        self._membership.told(assigned)


class _Spreading(AbstractPartitionAssignor):  # type: ignore[misc]  # aiokafka has no types
    """aiokafka's face of `spread`. An object, not a class, so that one process may be in several groups."""

    name = "towpath-spread"

    def __init__(self, topics: Mapping[str, Proposals]) -> None:
        self._topics = topics

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        owned = {topic: sorted(proposals.now) for topic, proposals in self._topics.items()}
        return ConsumerProtocolMemberMetadata(0, sorted(topics), json.dumps(owned).encode())

    def assign(
        self, cluster: Any, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        topics = {topic: len(cluster.partitions_for_topic(topic) or ()) for topic in self._topics}
        if unknown := sorted(topic for topic, partitions in topics.items() if not partitions):
            raise LookupError(f"no broker has told of {', '.join(unknown)} yet")  # the group is joined anew
        owned = {member: _owned(metadata.user_data) for member, metadata in members.items()}
        return {
            member: ConsumerProtocolMemberAssignment(0, sorted(share.items()), b"")
            for member, share in spread(topics, owned).items()
        }

    def on_assignment(self, assignment: ConsumerProtocolMemberAssignment) -> None:
        pass


def _owned(user_data: bytes) -> dict[str, list[int]]:
    """What a member says it owns; nothing when it says it in a way that we do not know."""
    try:
        said = json.loads(user_data or b"{}")
        return {str(topic): [int(partition) for partition in partitions] for topic, partitions in said.items()}
    except (ValueError, TypeError, AttributeError):
        return {}
