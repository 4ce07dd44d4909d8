from __future__ import annotations

import pytest

from kernel.errors import Permanent
from kernel.tracing import NO_TRACER, SpanKind, current_trace, open_tracer, within
from kernel.tracing.context import NOBODY, TraceContext, TraceHeaders, of_run, parse, well_formed

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
STATE = "congo=t61rcWkgMzE,rojo@acme=00f067aa0ba902b7"
RUN = "0b54f3f0-5d8c-4c5e-9d3a-7f2f1a6d9b11"


def test_a_traceparent_reads_as_it_is_written() -> None:
    context = parse(CALLER)
    assert context == TraceContext(0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7, is_sampled=True)
    assert context.traceparent == CALLER
    assert TraceContext(1, 2, is_sampled=False).traceparent == f"00-{1:032x}-{2:016x}-00"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        CALLER.upper(),
        CALLER + "-more",
        CALLER + "\n",
        "ff" + CALLER[2:],
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
    ],
)
def test_what_is_malformed_names_nobody(text: str) -> None:
    assert parse(text) is None


def test_a_later_version_of_the_standard_is_read_as_far_as_it_is_known() -> None:
    assert parse("01" + CALLER[2:] + "-what-comes-later") == parse(CALLER)


@pytest.mark.parametrize(
    "text",
    [
        STATE,
        "a=1",
        "a=with space",
        "0tenant@system=~!",
        f"{'k' * 256}={'v' * 255}",
        ",".join(f"vendor{number}=1" for number in range(32)),
    ],
)
def test_a_tracestate_travels_as_it_is(text: str) -> None:
    assert well_formed(text) == text
    context = parse(CALLER, text)
    assert context is not None
    assert context.headers == (CALLER, text)


def test_space_around_members_and_empty_members_are_left_out() -> None:
    assert well_formed(" a=1 ,\tb= 2,, ,c=3") == "a=1,b= 2,c=3"
    assert not well_formed(" , ,")


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "a=",
        "=1",
        "A=1",
        "0a=1",
        "a=1=2",
        "a=1;b=2\n",
        "a=\x1b[31m",
        "a=\xe4",
        "a=1,b",
        "a=1,a=2",
        "tenant@0system=1",
        f"{'k' * 257}=1",
        f"a={'v' * 257}",
        f"a={'v' * 255},b={'v' * 255}",
        ",".join(f"{chr(97 + number % 26)}{number}=1" for number in range(33)),
    ],
)
def test_a_malformed_tracestate_is_left_out_and_its_span_is_named_all_the_same(text: str) -> None:
    assert not well_formed(text)
    assert parse(CALLER, text) == parse(CALLER)


def test_a_tracestate_alone_names_nobody() -> None:
    assert parse("", STATE) is None


def test_a_run_has_one_trace_wherever_it_is_derived() -> None:
    first = of_run(RUN)
    assert parse(first.traceparent) == of_run(RUN)
    assert of_run(RUN.upper()) != first


def test_without_a_collector_a_callers_span_still_travels_on() -> None:
    caller = TraceHeaders(CALLER, STATE)
    assert current_trace() == NOBODY
    with NO_TRACER.span("POST", SpanKind.SERVER, parent=caller):
        assert current_trace() == caller
        with NO_TRACER.span("send", SpanKind.PRODUCER):
            assert current_trace() == caller
    assert current_trace() == NOBODY
    with within(caller):
        assert current_trace() == caller


def test_nobody_collects_unless_the_environment_asks_for_it() -> None:
    assert open_tracer("scheduler", "kafka", {}) is NO_TRACER
    assert open_tracer("scheduler", "kafka", {"OTEL_TRACES_EXPORTER": "none"}) is NO_TRACER


def test_an_exporter_that_is_not_there_is_refused_by_its_name() -> None:
    with pytest.raises(Permanent, match="OTEL_TRACES_EXPORTER is carrier-pigeon, which is not installed"):
        open_tracer("scheduler", "kafka", {"OTEL_TRACES_EXPORTER": "carrier-pigeon"})


def test_the_sdk_that_is_not_there_is_refused_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name="opentelemetry")

    monkeypatch.setattr("kernel.tracing.importlib.import_module", gone)
    with pytest.raises(Permanent, match=r"not installed \(opentelemetry\): install requirements/cluster\.txt"):
        open_tracer("towpath", "towpath", {"OTEL_TRACES_EXPORTER": "otlp"})
