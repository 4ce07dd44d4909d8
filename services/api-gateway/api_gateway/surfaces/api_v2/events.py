"""`/workflow-runs/{id}/events` and `/job-runs/{id}/events`: what happens to a run, as a list, by long poll, or live.

All three read the same rows. A live stream numbers its events, so `Last-Event-ID` goes on without a gap; it ends when
the run has ended, and says `reconnect` when this process goes down. A reader that is slow misses nothing and costs
nothing: each round reads from where it stands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from litestar import Response, get
from litestar.params import FromPath
from litestar.types import Receive

from api_gateway.answers import EventAnswer
from api_gateway.gateway import Gateway
from api_gateway.queries import EVENTS_MAX, Queries, RunPlace
from api_gateway.surfaces.access import AnyRequest, gateway_of, hold_stream, needs_read, principal_of
from api_gateway.surfaces.api_v2.about import About, Param
from api_gateway.surfaces.api_v2.reading import encode, json_answer, number_param, parameter_fault, uuid_of
from api_gateway.surfaces.api_v2.run_views import Event, event_view
from api_gateway.surfaces.api_v2.views import Page
from api_gateway.surfaces.plain import Begin, Put, StreamAnswer
from api_gateway.waiting import Watch
from kernel.domain.ids import OrganizationId
from kernel.domain.job_run import JobRunCreated
from kernel.domain.workflow_run import WorkflowRunCreated

SEQUENCE_MAX = 2**31
RETRY_MS = 2000
RECONNECT_MS = 250
_RETRY = f"retry: {RETRY_MS}\n\n".encode()
_RECONNECT = f"retry: {RECONNECT_MS}\nevent: reconnect\ndata:\n\n".encode()
_STILL_HERE = b": still here\n\n"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Kind:
    """What following a run of one kind takes. `read`: its place, and its events behind a number."""

    begins: type[WorkflowRunCreated | JobRunCreated]
    """The first fact of one that is its own root."""
    read: Callable[[Queries, OrganizationId, str, int], Awaitable[tuple[RunPlace, list[EventAnswer]]]]
    place: Callable[[Queries, OrganizationId, str], Awaitable[RunPlace]]
    end_types: frozenset[str]


_WORKFLOW_RUN = _Kind(
    WorkflowRunCreated,
    Queries.workflow_run_events,
    Queries.run_place,
    frozenset({"workflow_run.completed", "workflow_run.failed"}),
)
_JOB_RUN = _Kind(
    JobRunCreated,
    Queries.job_run_events,
    Queries.job_run_place,
    frozenset({"job_run.completed", "job_run.failed", "job_run.cancelled"}),
)


@dataclass(slots=True)
class _Seen:
    """Where a run is found, what was there, and the watch that was kept since before it was read."""

    watch: Watch
    place: RunPlace
    events: list[EventAnswer]


@dataclass(frozen=True, slots=True)
class _Follow:
    """One caller who follows one run."""

    gateway: Gateway
    organization: OrganizationId
    run_id: str
    kind: _Kind
    after: int

    async def look(self, act: Callable[[_Seen], Awaitable[T]], *, live: bool = False) -> T:
        """What `act` returns, which is called with the first look. `not_found` when there is no such run.

        `live`: `act` goes on to look, so what another process has committed just now may come a moment later.
        """
        gateway = self.gateway
        # Most runs are their own root, so it is watched before anybody knows.
        with gateway.services.waiters.stream(self.run_id) as watch:
            found = await self._as_told(watch) if live and not self.after else None
            place, events = found or await self.kind.read(gateway.queries, self.organization, self.run_id, self.after)
            if place.root_run_id == self.run_id:
                return await act(_Seen(watch, place, events))
        with gateway.services.waiters.stream(place.root_run_id) as watch:
            return await act(_Seen(watch, place, await self._rows(place, self.after)))

    async def _as_told(self, watch: Watch) -> tuple[RunPlace, list[EventAnswer]] | None:
        """What `kind.read` would find, when all of it was kept here since the run was asked for; None otherwise."""
        watch.clear()
        facts = watch.behind(0)
        first = facts[0].event if facts else None
        if not isinstance(first, self.kind.begins) or first.organization_id != self.organization:
            return None
        is_alone, has_ended = self.kind is _WORKFLOW_RUN, any(fact.wire in self.kind.end_types for fact in facts)
        place = RunPlace(self.run_id, first.subject_id, has_ended, is_alone=is_alone)
        return place, await self.gateway.queries.events_of(self.organization, self.run_id, place, facts)

    async def behind(self, seen: _Seen, after: int) -> list[EventAnswer]:
        """The events behind number `after`: as they were told, or from the rows where that is not all."""
        if seen.place.root_run_id == self.run_id and (facts := seen.watch.behind(after)):
            told = await self.gateway.queries.events_of(self.organization, self.run_id, seen.place, facts)
            if told:
                return told
        return await self._rows(seen.place, after)

    async def has_ended(self) -> bool:
        return (await self.kind.place(self.gateway.queries, self.organization, self.run_id)).has_ended

    def is_end(self, events: Iterable[EventAnswer]) -> bool:
        """Whether the run has ended with one of these."""
        return any(event.type in self.kind.end_types for event in events)

    async def _rows(self, place: RunPlace, after: int) -> list[EventAnswer]:
        return await self.gateway.queries.events(self.organization, self.run_id, place, after)


_PARAMS = (
    Param("after", "Only those behind this sequence number.", (("type", "integer"), ("minimum", 0))),
    Param("wait", "Seconds to wait for the first one.", (("type", "integer"), ("maximum", 30))),
)


@get(
    "/workflow-runs/{workflow_run_id:str}/events",
    guards=[needs_read],
    opt=About(
        "Events of the run, oldest first; live with `Accept: text/event-stream`", Page[Event], params=_PARAMS
    ).opt(),
)
async def list_events(request: AnyRequest, workflow_run_id: FromPath[str]) -> Response[bytes]:
    id_ = uuid_of(workflow_run_id, "workflowRunId")
    return await _answer(request, id_, _WORKFLOW_RUN)


@get(
    "/job-runs/{job_run_id:str}/events",
    guards=[needs_read],
    opt=About(
        "Events of the job run and of its workflow runs, as those of a workflow run", Page[Event], params=_PARAMS
    ).opt(),
)
async def list_job_run_events(request: AnyRequest, job_run_id: FromPath[str]) -> Response[bytes]:
    id_ = uuid_of(job_run_id, "jobRunId")
    return await _answer(request, id_, _JOB_RUN)


async def _answer(request: AnyRequest, run_id: str, kind: _Kind) -> Response[bytes]:
    gateway, organization = gateway_of(request), principal_of(request).organization_id
    after = number_param(request, "after", 0, 0, SEQUENCE_MAX)
    if "text/event-stream" in request.headers.get("accept", ""):
        live = _Live(request, _Follow(gateway, organization, run_id, kind, _last_seen(request, after)))
        return StreamAnswer(live.send_all)
    wait = number_param(request, "wait", 0, 0, gateway.services.settings.event_wait_seconds_max)
    if wait:
        hold_stream(request, organization, waits=True)
    follow = _Follow(gateway, organization, run_id, kind, after)
    events = await follow.look(partial(_polled, follow, wait))
    page = Page(
        data=[event_view(event) for event in events],
        page=1,
        page_size=EVENTS_MAX,
        total=len(events),
        has_more=len(events) == EVENTS_MAX,
    )
    return json_answer(page)


def _last_seen(request: AnyRequest, after: int) -> int:
    """`Last-Event-ID` wins: it is what a browser sends when it comes back to the same URL."""
    header = request.headers.get("last-event-id", "")
    if not header:
        return after
    if not header.isdecimal() or not header.isascii() or int(header) > SEQUENCE_MAX:
        raise parameter_fault("Last-Event-ID", "must be the id of an event")
    return int(header)


async def _polled(follow: _Follow, wait_seconds: int, seen: _Seen) -> list[EventAnswer]:
    """The events that were there; when there are none, those of the first change within `wait_seconds`."""
    services = follow.gateway.services
    events, watch = seen.events, seen.watch
    with services.drain.telling(watch):
        end_ms = services.clock.boot_ms() + wait_seconds * 1000
        while not events and not services.drain.is_begun:
            left = (end_ms - services.clock.boot_ms()) / 1000
            if left <= 0 or await follow.has_ended():
                break
            await _woken(watch, left)
            events = await follow.behind(seen, follow.after)
    return events


@dataclass(slots=True)
class _Live:
    """A live stream: what was and what comes, until the run, the process or the caller ends."""

    request: AnyRequest
    follow: _Follow
    is_left: bool = False
    """The caller has hung up."""

    async def send_all(self, begin: Begin, receive: Receive) -> None:
        """Send it. `not_found` and `rate_limited` before anything was sent."""
        await self.follow.look(partial(self._send_seen, begin, receive), live=True)

    async def _send_seen(self, begin: Begin, receive: Receive, seen: _Seen) -> None:
        hold_stream(self.request, self.follow.organization, waits=True)
        put = await begin()
        listening = asyncio.create_task(self._listen(receive, seen.watch))
        try:
            with self.follow.gateway.services.drain.telling(seen.watch):
                await self._send(put, seen)
        finally:
            listening.cancel()

    async def _send(self, put: Put, seen: _Seen) -> None:
        services, follow, watch = self.follow.gateway.services, self.follow, seen.watch
        text, events, after, is_over = _RETRY, seen.events, follow.after, seen.place.has_ended
        while not self.is_left:
            text += b"".join([_message(event) for event in events])
            if follow.is_end(events) or (is_over and not events):
                await put(text, is_last=True)
                return
            if services.drain.is_begun:
                await put(text + _RECONNECT, is_last=True)
                return
            if text:
                await put(text)
            text = b""
            if events:
                after = events[-1].sequence
            # Whatever is committed after that look sets the watch: nobody looks again only to find nothing.
            if len(events) < EVENTS_MAX and not await _woken(watch, services.settings.heartbeat_seconds):
                text = _STILL_HERE
            is_over = not events and await follow.has_ended()
            watch.clear()
            events = await follow.behind(seen, after)

    async def _listen(self, receive: Receive, watch: Watch) -> None:
        """Until the caller hangs up."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self.is_left = True
        watch.set()


def _message(event: EventAnswer) -> bytes:
    head = f"id: {event.sequence}\nevent: {event.type}\ndata: ".encode()
    return head + encode(event_view(event)) + b"\n\n"


async def _woken(changed: asyncio.Event, seconds: float) -> bool:
    """Wait for a change or the drain; False when neither came in time. Clears the change."""
    if not changed.is_set():
        try:
            async with asyncio.timeout(seconds):
                await changed.wait()
        except TimeoutError:
            return False
    changed.clear()
    return True


HANDLERS = (list_events, list_job_run_events)
