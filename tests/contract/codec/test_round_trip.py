"""Every event of the topic table survives its record, and readers step over what they do not know."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from contracts.v1.workflow_run_pb2 import WorkflowRunStepFinished as StepFinishedMessage
from kernel.building import builder_of
from kernel.domain.job_run import JobRunStarted
from kernel.domain.task import JournalEntry
from kernel.domain.values import Effect, SealedBody
from kernel.domain.workflow_run import WorkflowRunStepFinished
from kernel.errors import LogRefused, UnknownType
from kernel.log.codec import decode, decode_value, encode, encode_value
from kernel.log.envelope import Cause, Envelope, Source
from kernel.log.port import Record, Stored
from kernel.log.topics import TYPES, Topic
from tests.support.events import instances, sample

EVERY_TYPE = pytest.mark.parametrize("cls", TYPES, ids=lambda cls: TYPES[cls].wire)
BARE = Envelope("id-1", 1_750_000_000_123)
FULL = Envelope(
    "id-1", 1_750_000_000_007, "subject-1", 5, "org-1", "correlation-1", "causation-1", "00-a-b-01", "claim-1",
    Cause("run_requests", 3, 17), Source("a/strange:topic id", 3, 17, 2), "vendor=state",
)  # fmt: skip


def record_of(event: Any, envelope: Envelope = FULL) -> Record:
    topic = next(iter(TYPES[type(event)].topics))
    return encode(event, topic=topic, key="key-1", envelope=envelope, partition=2)


@EVERY_TYPE
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_event_comes_back_as_it_was(cls: type, data: st.DataObject) -> None:
    event = data.draw(instances(cls))
    value = encode_value(event)
    assert value, "an empty value reads as a deletion"
    assert decode_value(TYPES[cls].wire, value) == event


@EVERY_TYPE
def test_a_message_comes_back_with_everything_around_its_event(cls: type) -> None:
    record = record_of(sample(cls))
    message = decode(Stored(record, 41, 1_750_000_000_999))
    assert message.event == sample(cls)
    assert type(message.event) is cls
    assert message.envelope == FULL
    assert (message.topic, message.partition, message.offset) == (record.topic, 2, 41)
    assert (message.key, message.appended_ms) == ("key-1", 1_750_000_000_999)


def test_headers_are_cloudevents_in_binary_mode() -> None:
    headers = dict(encode(JobRunStarted(JOB_RUN), topic="job_runs", key="k", envelope=FULL, partition=0).headers)
    assert headers == {
        "content-type": "application/protobuf",
        "ce_specversion": "1.0",
        "ce_type": "towpath.job_run.started.v1",
        "ce_source": "/towpath/advance",
        "ce_dataschema": "urn:towpath:contracts.v1.JobRunStarted",
        "ce_id": "id-1",
        "ce_time": "2025-06-15T15:06:40.007Z",
        "ce_subject": "subject-1",
        "ce_partitionkey": "k",
        "ce_sequence": "5",
        "ce_organizationid": "org-1",
        "ce_correlationid": "correlation-1",
        "ce_causationid": "causation-1",
        "ce_traceparent": "00-a-b-01",
        "ce_tracestate": "vendor=state",
        "towpath_claim": "claim-1",
        "towpath_cause": "run_requests/3/17",
        "towpath_source": "a/strange:topic id/3/17/2",
    }


def test_absent_attributes_make_no_headers() -> None:
    record = encode(JobRunStarted(JOB_RUN), topic="run_ledger", key="", envelope=BARE, partition=0)
    assert {name for name, _ in record.headers} == {
        "content-type", "ce_specversion", "ce_type", "ce_source", "ce_id", "ce_time",
    }  # fmt: skip
    assert decode(Stored(record, 0, 0)).envelope == BARE


def test_a_tracestate_never_stands_alone() -> None:
    alone = structs.replace(BARE, tracestate="vendor=state")
    record = record_of(JobRunStarted(JOB_RUN), alone)
    assert "ce_tracestate" not in dict(record.headers)
    foreign = structs.replace(record, headers=(*record.headers, ("ce_tracestate", "vendor=state")))
    assert decode(Stored(foreign, 0, 0)).envelope == BARE


def test_headers_of_a_later_version_are_stepped_over() -> None:
    record = record_of(JobRunStarted(JOB_RUN))
    later = structs.replace(record, headers=(*record.headers, ("ce_later", "x")))
    assert decode(Stored(later, 0, 0)) == decode(Stored(record, 0, 0))


def test_the_cause_of_a_due_time_names_no_topic() -> None:
    envelope = structs.replace(BARE, cause=Cause("", 0, 0))
    assert decode(Stored(record_of(JobRunStarted(JOB_RUN), envelope), 0, 0)).envelope == envelope


@given(time_ms=st.integers(min_value=0, max_value=253_402_300_799_999))
def test_every_millisecond_of_our_era_survives(time_ms: int) -> None:
    envelope = structs.replace(BARE, time_ms=time_ms)
    assert decode(Stored(record_of(JobRunStarted(JOB_RUN), envelope), 0, 0)).envelope.time_ms == time_ms


def test_a_type_does_not_enter_a_topic_where_it_has_no_writer() -> None:
    with pytest.raises(ValueError, match=r"job_run\.started does not stand in dispatch"):
        encode(JobRunStarted(JOB_RUN), topic=Topic.DISPATCH, key="k", envelope=BARE, partition=0)


def test_an_event_without_any_id_is_refused_because_its_record_would_be_empty() -> None:
    with pytest.raises(ValueError, match="empty record"):
        encode_value(JobRunStarted(type(JOB_RUN)("")))


def test_values_that_no_message_can_hold_are_refused() -> None:
    event = sample(WorkflowRunStepFinished)
    with pytest.raises(ValueError, match="range"):
        encode_value(replace(event, tries=2**31))
    with pytest.raises(TypeError):
        encode_value(replace(event, name=None))
    with pytest.raises(ValueError, match="surrogates"):
        encode_value(replace(event, name="\ud800"))


def test_an_unknown_type_is_told_apart_from_damage() -> None:
    record = record_of(JobRunStarted(JOB_RUN))
    newer = structs.replace(
        record, headers=tuple((k, "towpath.x.y.v1" if k == "ce_type" else v) for k, v in record.headers)
    )
    with pytest.raises(UnknownType, match=r"towpath\.x\.y\.v1"):
        decode(Stored(newer, 0, 0))
    with pytest.raises(UnknownType):
        decode(Stored(structs.replace(record, headers=()), 0, 0))
    with pytest.raises(UnknownType, match=r"x\.y"):
        decode_value("x.y", b"")
    with pytest.raises(LogRefused, match="damaged"):
        decode(Stored(structs.replace(record, value=b"\xff\xff"), 0, 0))


@pytest.mark.parametrize("name", ["ce_id", "ce_time", "towpath_cause", "ce_sequence"])
def test_a_damaged_header_is_refused(name: str) -> None:
    record = record_of(JobRunStarted(JOB_RUN))
    rest = tuple(pair for pair in record.headers if pair[0] != name)
    broken = rest if name == "ce_id" else (*rest, (name, "not this"))
    with pytest.raises(LogRefused, match=f"{record.topic}/2/7"):
        decode(Stored(structs.replace(record, headers=broken), 7, 0))


def test_unknown_fields_are_ignored() -> None:
    value = encode_value(JobRunStarted(JOB_RUN)) + b"\xfa\x3f\x03new"
    assert decode_value("job_run.started", value) == JobRunStarted(JOB_RUN)


def test_an_enum_value_of_a_newer_version_is_an_unknown_type() -> None:
    message = StepFinishedMessage.FromString(encode_value(sample(WorkflowRunStepFinished)))
    message.status = 99  # type: ignore[assignment]  # what a newer version would write
    with pytest.raises(UnknownType, match="StepStatus 99"):
        decode_value("workflow_run.step_finished", message.SerializeToString())


def test_fields_that_an_old_record_lacks_read_as_their_defaults() -> None:
    message = StepFinishedMessage.FromString(encode_value(sample(WorkflowRunStepFinished)))
    message.ClearField("failure")
    message.ClearField("next_name")
    event = decode_value("workflow_run.step_finished", message.SerializeToString())
    assert event.next_name == ""
    assert event.failure == type(event.failure)()


def test_a_builder_makes_what_the_class_itself_makes() -> None:
    built = builder_of(JournalEntry)("p", None, Effect.ONCE, SealedBody(), True, "u", False, "", "")
    made = JournalEntry("p", None, Effect.ONCE, SealedBody(), safe_point=True, url="u", consumed=False)  # type: ignore[arg-type]
    assert built == made
    assert type(built) is JournalEntry
    assert hash(built) == hash(made)
    with pytest.raises(AttributeError):
        built.path = "q"  # type: ignore[misc]  # frozen all the same


JOB_RUN = sample(JobRunStarted).job_run_id
