"""`towpath events tail` of the log: what is wanted, how it is decoded, how a line looks."""

from __future__ import annotations

import click
import pytest

from contracts.v1 import values_pb2
from contracts.v1.job_run_pb2 import JobRunCreated, JobRunFailed
from kernel.log.messages import message_of as our_message_of
from kernel.log.topics import TYPES
from towpath.commands.log_tail import Wanted, _is_wanted, since
from towpath.event_log.decoding import LogRecord, data_of, message_class, message_of
from towpath.event_log.line import line

RUN = "0e8f3c1a-0000-4000-8000-000000000001"
PART = "7d41b2c9-0000-4000-8000-000000000002"
ALL = Wanted(("job_runs",), (), "", follow=False, since_ms=0, unseal=False, as_json=False)


def a_record(ce_type: str = "towpath.job_run.failed.v1", value: bytes = b"", **headers: str) -> LogRecord:
    given = {"ce_type": ce_type, "ce_time": "2026-11-22T19:30:00.123Z", "ce_sequence": "7", **headers}
    return LogRecord("job_runs", 3, 41, RUN, given, value)


def shown(record: LogRecord, **opened: object) -> str:
    message = message_of(record)
    return line(record, None if message is None else data_of(message), opened).plain


@pytest.mark.parametrize("cls", TYPES, ids=lambda cls: TYPES[cls].wire)
def test_every_type_of_the_table_is_known(cls: type) -> None:
    found = message_class(f"towpath.{TYPES[cls].wire}.v1")
    assert found is not None
    assert found.DESCRIPTOR.full_name == our_message_of(cls).DESCRIPTOR.full_name


def test_a_line_tells_time_type_run_number_and_what_happened() -> None:
    failure = values_pb2.Failure(code="step_failed", step_name="Open the orders")
    value = JobRunFailed(job_run_id=RUN, workflow_run_id=PART, failure=failure).SerializeToString()
    assert shown(a_record(value=value)) == (
        "19:30:00.123  job_run.failed                  0e8f3c1a #7    "
        " workflowRunId=7d41b2c9 failure={code=step_failed stepName=Open the orders}"
    )


def test_sealed_values_are_marked_opened_or_erased() -> None:
    sealed = values_pb2.Sealed(subject_id=PART, box=b"box")
    value = JobRunCreated(job_run_id=RUN, external_id=sealed).SerializeToString()
    record = a_record("towpath.job_run.created.v1", value)
    assert "externalId=(sealed)" in shown(record)
    assert 'externalId="ada"' in shown(record, externalId="ada")
    assert "externalId=(erased)" in shown(record, externalId=None)


def test_nothing_from_outside_moves_the_cursor() -> None:
    failure = values_pb2.Failure(code="\x1b[2Jgone\n", step_name="a\tb")
    text = shown(a_record(value=JobRunFailed(failure=failure).SerializeToString()))
    assert text.isprintable()


def test_what_is_not_known_is_told_and_stepped_over() -> None:
    assert shown(a_record("towpath.job_run.dreamt.v1", b"abc")).endswith(
        "3 bytes of a type that this version does not know"
    )
    assert message_of(a_record(value=b"\xff\xff")) is None
    assert message_of(a_record()) is None


def test_types_are_chosen_by_pattern() -> None:
    for patterns, expected in (((), True), (("job_run.*",), True), (("job_run.failed",), True), (("job.*",), False)):
        wanted = Wanted(ALL.topics, patterns, "", follow=True, since_ms=None, unseal=False, as_json=False)
        assert _is_wanted(a_record(), {}, wanted) is expected, patterns


def test_a_run_is_chosen_by_key_or_by_what_the_event_names() -> None:
    for run, data, expected in ((RUN, {}, True), (PART, {"workflowRunId": PART}, True), (PART, {}, False)):
        wanted = Wanted(ALL.topics, (), run, follow=True, since_ms=None, unseal=False, as_json=False)
        assert _is_wanted(a_record(), data, wanted) is expected


def test_a_beginning_is_a_word_an_age_or_a_time() -> None:
    assert since("beginning", 1000.0) == 0
    assert since("now", 1000.0) is None
    assert since("15m", 1000.0) == 100_000
    assert since("2d", 200_000.0) == 27_200_000
    assert since("1970-01-01T00:00:02", 0.0) == 2_000
    assert since("1970-01-01T01:00:02+01:00", 0.0) == 2_000
    with pytest.raises(click.BadParameter):
        since("yesterday", 0.0)
