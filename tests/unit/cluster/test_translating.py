"""What a restored record says about topics names the new ones; nothing else of it changes."""

from __future__ import annotations

from cluster.backup.restoring import translated
from cluster.backup.tails import tails_of
from kernel.domain.ids import JobRunId
from kernel.domain.job_run import JobRunStarted
from kernel.domain.owner import InputPosition, OwnerCheckpointed, OwnerClaimed, OwnerSnapshotCompleted, Watermark
from kernel.log.codec import decode, encode
from kernel.log.envelope import Cause, Envelope, Source
from kernel.log.port import Record, Stored
from kernel.log.topics import Topic

IDS = {"old-cluster/ledger": "new-cluster/ledger", "old-cluster/requests": "new-cluster/requests"}
TOPICS = {"old-cluster/ledger": Topic.RUN_LEDGER.value}


def stored(event: object, topic: Topic, offset: int = 7, **envelope: object) -> Stored:
    told = Envelope("id", 1_000, **envelope)  # type: ignore[arg-type]  # fields by name
    return Stored(encode(event, topic=topic, key="run", partition=1, envelope=told), offset, 2_000)


def progress(cluster: str) -> tuple[tuple[InputPosition, ...], tuple[Watermark, ...]]:
    return (
        (
            InputPosition(Topic.RUN_REQUESTS, f"{cluster}/requests", 5),
            InputPosition(Topic.RUN_LEDGER, f"{cluster}/ledger", 3),
        ),
        (Watermark(Topic.TASK_REPORTS, f"{cluster}/ledger", 2, 8, 1),),
    )


def test_a_derived_record_names_its_decision_in_the_new_ledger() -> None:
    old = stored(
        JobRunStarted(JobRunId("run")), Topic.JOB_RUNS, sequence=2, source=Source("old-cluster/ledger", 1, 4, 0)
    )
    new = translated(old, IDS)
    assert decode(new).envelope.source == Source("new-cluster/ledger", 1, 4, 0)
    assert (new.offset, new.appended_ms, new.record.value) == (old.offset, old.appended_ms, old.record.value)


def test_progress_names_the_new_topics() -> None:
    for event in (
        OwnerCheckpointed(3, *progress("old-cluster"), 9),
        OwnerSnapshotCompleted(3, *progress("old-cluster"), 9),
    ):
        new = decode(translated(stored(event, Topic.RUN_LEDGER, claim="c"), IDS))
        assert (new.event.positions, new.event.watermarks) == progress("new-cluster")
        assert new.envelope.claim == "c"


def test_other_records_stay_as_they_are_to_the_byte() -> None:
    foreign = Stored(Record(Topic.JOB_RUNS, 0, "", (("ce_type", "towpath.of_tomorrow.v1"),), b"new"), 3, 4)
    for record in (
        foreign,
        stored(OwnerClaimed("claim", "owner"), Topic.RUN_LEDGER),
        stored(JobRunStarted(JobRunId("run")), Topic.RUN_LEDGER, cause=Cause(Topic.RUN_REQUESTS, 1, 4)),
    ):
        assert translated(record, IDS) == record


def test_the_rules_of_a_cut_are_read_out_of_the_records() -> None:
    decision = stored(JobRunStarted(JobRunId("run")), Topic.RUN_LEDGER, 10, cause=Cause(Topic.RUN_REQUESTS, 1, 4))
    same = stored(JobRunStarted(JobRunId("run")), Topic.RUN_LEDGER, 11, cause=Cause(Topic.RUN_REQUESTS, 1, 4))
    due = stored(JobRunStarted(JobRunId("run")), Topic.RUN_LEDGER, 12, cause=Cause("", 0, 0))
    checkpoint = stored(OwnerCheckpointed(3, *progress("old-cluster"), 9), Topic.RUN_LEDGER, 13)
    tails = tails_of([decision, same, due, checkpoint], TOPICS)
    assert [tail.joins_last for tail in tails] == [False, True, False, False]
    assert [tail.needs for tail in tails] == [
        {(Topic.RUN_REQUESTS, 1): 5},
        {(Topic.RUN_REQUESTS, 1): 5},
        {},
        {(Topic.RUN_REQUESTS, 1): 5},
    ]
    assert tails[3].derived_below == ((Topic.RUN_LEDGER, 1), 3)
    fact = stored(
        JobRunStarted(JobRunId("run")), Topic.JOB_RUNS, sequence=1, source=Source("old-cluster/ledger", 1, 9, 0)
    )
    (tail,) = tails_of([fact], TOPICS)
    assert tail.needs == {(Topic.RUN_LEDGER, 1): 10}
    assert tail.source == ((Topic.RUN_LEDGER, 1), 9)
