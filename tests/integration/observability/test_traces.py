"""A run's spans, from the POST to its rows and to each of its steps, in an exporter that keeps them in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from embedded import platform
from embedded.platform import run_platform
from embedded.settings import read_settings
from kernel.redaction import LiveSecrets
from kernel.tracing import SpanKind, Tracer, current_trace
from kernel.tracing.context import NOBODY, TraceContext, of_run, parse
from kernel.tracing.otel import OtelTracer
from tests.integration.embedded.test_ending import ready
from tests.support.platform_process import free_ports

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
STATE = "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"
_STEPS = [
    {"id": "first", "type": "assert", "params": {"that": ["true"]}},
    {"id": "second", "type": "assert", "params": {"that": ["true"]}},
]
_WORKFLOW = {
    "name": "w",
    "sourceProvider": "demo",
    "type": "USER_DEFINED",
    "stepsJson": {"version": 1, "steps": _STEPS},
}


@asynccontextmanager
async def traced_platform(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[httpx.AsyncClient, InMemorySpanExporter]]:
    """A platform whose spans are kept in memory; they are there once the block was left."""
    kept = InMemorySpanExporter()
    monkeypatch.setattr(platform, "open_tracer", lambda *_: OtelTracer("towpath", "towpath", kept))
    port = free_ports(1)
    settings = read_settings({"TOWPATH_DATA": str(folder), "TOWPATH_PORT": str(port), "TOWPATH_DEMO": "0"})
    stop = asyncio.Event()
    running = asyncio.create_task(run_platform(settings, LiveSecrets(), stop))
    try:
        await ready(settings.url)
        headers = {"Authorization": f"Bearer {settings.api_key.read_text().strip()}"}
        async with httpx.AsyncClient(base_url=settings.url, headers=headers, timeout=30) as api:
            yield api, kept
    finally:
        stop.set()
        await asyncio.wait_for(running, 60)


async def ended(api: httpx.AsyncClient, path: str, end: str) -> None:
    after, types = 0, set[str]()
    async with asyncio.timeout(60):
        while end not in types:
            for event in (await api.get(path, params={"after": after, "wait": 10})).json()["data"]:
                after = event["data"]["sequence"]
                types.add(event["type"])


def named(spans: list[ReadableSpan], name: str) -> list[ReadableSpan]:
    return [span for span in spans if span.name == name]


def context_of(span: ReadableSpan) -> TraceContext:
    context = span.get_span_context()
    assert context is not None
    return TraceContext(context.trace_id, context.span_id, is_sampled=True)


def states_of(span: ReadableSpan) -> set[str]:
    """What goes along with the spans that it is linked to."""
    return {link.context.trace_state.to_header() for link in span.links}


def linked(span: ReadableSpan) -> set[tuple[int, int]]:
    return {(link.context.trace_id, link.context.span_id) for link in span.links}


async def test_a_run_is_followed_from_its_post_to_its_rows_and_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with traced_platform(tmp_path, monkeypatch) as (api, kept):
        workflow = (await api.post("/api/v2/workflows", json=_WORKFLOW)).json()["id"]
        order = {"workflowExecutionOrder": [workflow]}
        body = {"name": "j", "sourceProvider": "demo", "jobConfigJson": order}
        job = (await api.post("/api/v2/jobs", json=body)).json()["id"]
        run = (await api.post(f"/api/v2/jobs/{job}/run", headers={"traceparent": CALLER, "tracestate": STATE})).json()[
            "id"
        ]
        await ended(api, f"/api/v2/job-runs/{run}/events", "job_run.completed")
    spans = list(kept.get_finished_spans())
    caller, first = parse(CALLER), of_run(run)
    assert caller is not None

    (post,) = named(spans, "POST /api/v2/jobs/{job_id}/run")
    assert post.parent is not None
    assert (post.parent.trace_id, post.parent.span_id) == (caller.trace_id, caller.span_id)
    assert dict(post.attributes or {})["http.response.status_code"] == 201
    (send,) = named(spans, "send run_requests")
    assert send.parent is not None
    assert send.parent.span_id == context_of(post).span_id
    asked = (caller.trace_id, context_of(send).span_id)
    for span in (post, send):
        assert span.context is not None
        assert span.context.trace_state.to_header() == STATE

    decided = [span for span in named(spans, "decide advance") if asked in linked(span)]
    projected = [span for span in named(spans, "project job_runs") if asked in linked(span)]
    assert decided
    assert projected
    for span in (*decided, *projected):
        assert STATE in states_of(span)

    (root,) = named(spans, "job run")
    assert context_of(root) == first
    assert root.parent is None
    assert linked(root) == {asked}
    assert states_of(root) == {STATE}
    assert dict(root.attributes or {})["towpath.outcome"] == "completed"
    steps = named(spans, "step assert")
    assert sorted(str(dict(step.attributes or {})["towpath.step"]) for step in steps) == ["first", "second"]
    for step in steps:
        assert step.parent is not None
        assert (step.parent.trace_id, step.parent.span_id) == (first.trace_id, first.span_id)
        assert dict(step.attributes or {})["towpath.run_id"] == run
        assert root.start_time is not None
        assert step.start_time is not None
        assert root.start_time <= step.start_time


async def test_a_restart_and_a_rebuild_make_no_spans_of_what_happened_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with traced_platform(tmp_path, monkeypatch) as (api, _):
        workflow = (await api.post("/api/v2/workflows", json=_WORKFLOW)).json()["id"]
        run = (await api.post("/api/v2/workflow-runs", json={"workflowId": workflow})).json()["id"]
        await ended(api, f"/api/v2/workflow-runs/{run}/events", "workflow_run.completed")
    async with traced_platform(tmp_path, monkeypatch) as (api, kept):
        assert (await api.get(f"/api/v2/workflow-runs/{run}")).json()["status"] == "COMPLETED"
    names = {span.name for span in kept.get_finished_spans()}
    assert not {name for name in names if name.startswith(("step", "decide", "project", "workflow run", "send"))}


def test_spans_follow_each_other_inside_and_say_the_kind_of_an_error_only() -> None:
    kept = InMemorySpanExporter()
    tracer: Tracer = OtelTracer("gateway", "kafka", kept)
    outer: TraceContext | None = None

    def fail() -> None:
        nonlocal outer
        with tracer.span("outer", SpanKind.SERVER):
            outer = parse(*current_trace())
            with tracer.span("inner", SpanKind.PRODUCER):
                pass
            raise ValueError("a secret")

    with pytest.raises(ValueError, match="secret"):
        fail()
    assert current_trace() == NOBODY
    tracer.close()
    inner, above = kept.get_finished_spans()
    assert outer is not None
    assert inner.parent is not None
    assert inner.parent.span_id == outer.span_id == context_of(above).span_id
    assert dict(inner.attributes or {}) == {"messaging.system": "kafka"}
    assert above.status.description == "ValueError"
    assert not above.events


def test_the_sampler_decides_once_for_all_spans_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    kept = [InMemorySpanExporter(), InMemorySpanExporter()]
    tracers = [OtelTracer("towpath", "kafka", exporter) for exporter in kept]
    runs = [f"{number * 7919:08x}-0000-4000-8000-{number * 104729 * 65537 % 16**12:012x}" for number in range(1, 60)]
    for run in runs:
        tracers[0].record("job run", SpanKind.INTERNAL, 1, 2, run=run, is_first=True)
        tracers[1].record("step click", SpanKind.INTERNAL, 1, 2, run=run)
    for tracer in tracers:
        tracer.close()
    roots, steps = ({context_of(span).trace_id for span in exporter.get_finished_spans()} for exporter in kept)
    assert roots == steps
    assert 0 < len(roots) < len(runs)
