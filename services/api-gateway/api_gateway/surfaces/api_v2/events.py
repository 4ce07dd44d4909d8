"""`/workflow-runs/{id}/events` and `/job-runs/{id}/events`: what happens to a run, as a list, by long poll, or live.

All three read the same rows. A live stream numbers its events, so `Last-Event-ID` goes on without a gap; it ends when
the run has ended, and says `reconnect` when this process goes down. A reader that is slow misses nothing and costs
nothing: each round reads from where it stands.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from litestar import Response, get
from litestar.params import FromPath
from litestar.response import Stream

from api_gateway.answers import EventAnswer
from api_gateway.gateway import Gateway
from api_gateway.queries import EVENTS_MAX, RunPlace
from api_gateway.surfaces.access import AnyRequest, gateway_of, hold_stream, needs_read, principal_of
from api_gateway.surfaces.api_v2.about import About, Param
from api_gateway.surfaces.api_v2.reading import encode, json_answer, number_param, parameter_fault, uuid_of
from api_gateway.surfaces.api_v2.run_views import Event, event_view
from api_gateway.surfaces.api_v2.views import Page
from kernel.domain.ids import OrganizationId

SEQUENCE_MAX = 2**31
RETRY_MS = 2000
RECONNECT_MS = 250
_END_TYPES = frozenset({"workflow_run.completed", "workflow_run.failed"})
_JOB_END_TYPES = frozenset({"job_run.completed", "job_run.failed", "job_run.cancelled"})
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@dataclass(frozen=True, slots=True)
class _Follow:
    """One caller who follows one run."""

    gateway: Gateway
    organization: OrganizationId
    run_id: str
    place_of: Callable[[OrganizationId, str], Awaitable[RunPlace]]
    place: RunPlace
    end_types: frozenset[str]

    async def behind(self, after: int) -> list[EventAnswer]:
        return await self.gateway.queries.events(self.organization, self.run_id, self.place, after)

    async def has_ended(self) -> bool:
        return (await self.place_of(self.organization, self.run_id)).has_ended


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
async def list_events(request: AnyRequest, workflow_run_id: FromPath[str]) -> Response[bytes] | Stream:
    id_ = uuid_of(workflow_run_id, "workflowRunId")
    return await _answer(request, id_, gateway_of(request).queries.run_place, _END_TYPES)


@get(
    "/job-runs/{job_run_id:str}/events",
    guards=[needs_read],
    opt=About(
        "Events of the job run and of its workflow runs, as those of a workflow run", Page[Event], params=_PARAMS
    ).opt(),
)
async def list_job_run_events(request: AnyRequest, job_run_id: FromPath[str]) -> Response[bytes] | Stream:
    id_ = uuid_of(job_run_id, "jobRunId")
    return await _answer(request, id_, gateway_of(request).queries.job_run_place, _JOB_END_TYPES)


async def _answer(
    request: AnyRequest,
    run_id: str,
    place_of: Callable[[OrganizationId, str], Awaitable[RunPlace]],
    end_types: frozenset[str],
) -> Response[bytes] | Stream:
    gateway, organization = gateway_of(request), principal_of(request).organization_id
    after = number_param(request, "after", 0, 0, SEQUENCE_MAX)
    follow = _Follow(gateway, organization, run_id, place_of, await place_of(organization, run_id), end_types)
    if "text/event-stream" in request.headers.get("accept", ""):
        hold_stream(request, organization)
        stream = _live(follow, _last_seen(request, after))
        return Stream(stream, media_type="text/event-stream", headers=_HEADERS, status_code=200)
    wait = number_param(request, "wait", 0, 0, gateway.services.settings.event_wait_seconds_max)
    if wait:
        hold_stream(request, organization)
    events = await _polled(follow, after, wait)
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


async def _polled(follow: _Follow, after: int, wait_seconds: int) -> list[EventAnswer]:
    """The events behind `after`; when there are none, those of the first change within `wait_seconds`."""
    services = follow.gateway.services
    with services.waiters.stream(follow.place.root_run_id) as changed, services.drain.telling(changed):
        events = await follow.behind(after)
        end_ms = services.clock.boot_ms() + wait_seconds * 1000
        while not events and not services.drain.is_begun:
            left = (end_ms - services.clock.boot_ms()) / 1000
            if left <= 0 or await follow.has_ended():
                break
            await _woken(changed, left)
            events = await follow.behind(after)
    return events


async def _live(follow: _Follow, after: int) -> AsyncIterator[bytes]:
    services = follow.gateway.services
    yield f"retry: {RETRY_MS}\n\n".encode()
    with services.waiters.stream(follow.place.root_run_id) as changed, services.drain.telling(changed):
        is_over = follow.place.has_ended
        while not services.drain.is_begun:
            changed.clear()
            events = await follow.behind(after)
            if events:
                yield b"".join(_message(event) for event in events)
                after = events[-1].sequence
                if any(event.type in follow.end_types for event in events):
                    return
            elif is_over:
                return
            # Whatever is committed after that look sets `changed`: nobody looks again only to find nothing.
            if len(events) < EVENTS_MAX and not await _woken(changed, services.settings.heartbeat_seconds):
                yield b": still here\n\n"
            is_over = not events and await follow.has_ended()
    yield f"retry: {RECONNECT_MS}\nevent: reconnect\ndata:\n\n".encode()


def _message(event: EventAnswer) -> bytes:
    head = f"id: {event.sequence}\nevent: {event.type}\ndata: ".encode()
    return head + encode(event_view(event)) + b"\n\n"


async def _woken(changed: asyncio.Event, seconds: float) -> bool:
    """Wait for a change or the drain; False when neither came in time. Clears the change."""
    try:
        async with asyncio.timeout(seconds):
            await changed.wait()
    except TimeoutError:
        return False
    changed.clear()
    return True


HANDLERS = (list_events, list_job_run_events)
