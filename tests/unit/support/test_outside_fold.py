"""The outside observer of the fault tests sees each kind of breach; a blind one would prove nothing."""

from __future__ import annotations

from typing import Any

from contracts.v1 import artifact_pb2, job_run_pb2, workflow_run_pb2
from tests.support.outside_fold import OutsideFold


class Feed:
    """Records of one run, numbered as the product numbers them."""

    def __init__(self) -> None:
        self.fold = OutsideFold()
        self.sequence = 0

    def fact(self, wire: str, message: Any, *, sequence: int = 0, fact_id: str = "", partition: int = 1) -> None:
        self.sequence = sequence or self.sequence + 1
        headers = {
            "ce_type": f"towpath.{wire}.v1",
            "ce_sequence": str(self.sequence),
            "ce_id": fact_id or f"id-{self.sequence}",
        }
        self.fold.take("job_runs", partition, "run", headers, message.SerializeToString())

    def created(self, **how: Any) -> None:
        self.fact("job_run.created", job_run_pb2.JobRunCreated(job_run_id="run", job_id="job"), **how)

    def workflow_created(self, name: str = "w1", position: int = 0) -> None:
        event = workflow_run_pb2.WorkflowRunCreated(workflow_run_id=name, job_run_id="run", position=position)
        self.fact("workflow_run.created", event)

    def workflow_completed(self, name: str = "w1") -> None:
        status = workflow_run_pb2.WORKFLOW_RUN_STATUS_COMPLETED
        event = workflow_run_pb2.WorkflowRunCompleted(workflow_run_id=name, status=status)
        self.fact("workflow_run.completed", event)

    def completed(self, **how: Any) -> None:
        self.fact("job_run.completed", job_run_pb2.JobRunCompleted(job_run_id="run"), **how)


def test_a_whole_run_is_told_without_a_problem() -> None:
    feed = Feed()
    feed.created()
    feed.workflow_created()
    status = workflow_run_pb2.STEP_STATUS_COMPLETED
    step = workflow_run_pb2.WorkflowRunStepFinished(workflow_run_id="w1", attempt=1, path="open", status=status)
    feed.fact("workflow_run.step_finished", step)
    feed.fact("artifact.created", artifact_pb2.ArtifactCreated(artifact_id="a", workflow_run_id="w1"))
    feed.workflow_completed()
    feed.completed()
    run = feed.fold.runs["run"]
    assert feed.fold.problems == []
    assert (run.status, run.ended, run.artifacts) == ("COMPLETED", True, {"a"})
    assert run.workflow_runs["w1"].steps == [(1, "open", "COMPLETED")]


def test_a_record_that_comes_again_is_a_repeat_and_no_problem() -> None:
    feed = Feed()
    feed.created()
    feed.created(sequence=1)
    assert (feed.fold.problems, feed.fold.repeats) == ([], 1)


def test_a_gap_is_told() -> None:
    feed = Feed()
    feed.created()
    feed.completed(sequence=3)
    assert "follows number 1" in feed.fold.problems[0]


def test_two_facts_under_one_number_are_told() -> None:
    feed = Feed()
    feed.created()
    feed.completed(sequence=1, fact_id="id-1")
    assert "another fact stood under this number" in feed.fold.problems[0]


def test_one_fact_under_two_numbers_is_told() -> None:
    feed = Feed()
    feed.created(fact_id="same")
    feed.completed(fact_id="same")
    assert "its id stood under another number" in feed.fold.problems[0]


def test_a_key_in_two_partitions_is_told() -> None:
    feed = Feed()
    feed.created()
    feed.completed(partition=2)
    assert "its key began in 1" in feed.fold.problems[0]


def test_a_fact_behind_the_end_is_told() -> None:
    feed = Feed()
    feed.created()
    feed.completed()
    feed.completed()
    assert "follows the end of its run" in feed.fold.problems[0]


def test_a_workflow_run_that_does_not_wait_its_turn_is_told() -> None:
    feed = Feed()
    feed.created()
    feed.workflow_created("w1", 0)
    feed.workflow_created("w2", 1)
    assert "the one before it is PENDING" in feed.fold.problems[0]


def test_what_was_refused_is_counted_and_is_no_part_of_a_run() -> None:
    fold = OutsideFold()
    fold.take("job_runs", 0, "run", {"ce_type": "towpath.run.request_rejected.v1", "ce_id": "x"}, b"")
    assert (fold.rejected, fold.runs) == (1, {})
