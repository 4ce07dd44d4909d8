"""The read model of job runs, from public facts alone: how each stands, as the API would answer.

`JobRuns.take` is the whole rule of a subscriber: per key, drop what is not above the highest number that was seen; step
over types that are not known; fold the rest.
"""

from contracts.v1 import job_run_pb2, workflow_run_pb2

MESSAGES = {
    "towpath.job_run.created.v1": job_run_pb2.JobRunCreated,
    "towpath.job_run.started.v1": job_run_pb2.JobRunStarted,
    "towpath.job_run.completed.v1": job_run_pb2.JobRunCompleted,
    "towpath.job_run.failed.v1": job_run_pb2.JobRunFailed,
    "towpath.job_run.cancelled.v1": job_run_pb2.JobRunCancelled,
    "towpath.workflow_run.created.v1": workflow_run_pb2.WorkflowRunCreated,
}


class JobRuns:
    """`runs`: id to how it stands. `seen`: highest number of each key. Both are plain JSON, ready to be saved."""

    def __init__(self, runs=None, seen=None):
        self.runs = runs or {}
        self.seen = seen or {}
        self.repeated = 0

    def take(self, key, headers, value):
        """Fold one record; whether it changed anything."""
        sequence = int(headers.get("ce_sequence", 0))
        if not sequence:
            return False  # a refused request: no part of anybody's history
        if sequence <= self.seen.get(key, 0):
            self.repeated += 1
            return False
        if sequence != self.seen.get(key, 0) + 1:
            raise ValueError(f"{key}: number {sequence} follows {self.seen.get(key, 0)}")
        self.seen[key] = sequence
        message = MESSAGES.get(headers["ce_type"])
        if message is None:
            return False  # a type of no interest here, or younger than this program
        return self._fold(message.FromString(value), headers["ce_time"])

    def _fold(self, event, time):
        name = type(event).__name__
        if name == "JobRunCreated":
            self.runs[event.job_run_id] = created(event, time)
            return True
        run = self.runs.get(event.job_run_id)
        if run is None:
            return False  # a workflow run that stands alone
        if name == "WorkflowRunCreated":
            run["workflowRunIds"].append(event.workflow_run_id)
            return True
        run["updatedAt"] = time
        if name == "JobRunStarted":
            run.update(status="IN_PROGRESS", startedAt=time)
            return True
        run["completedAt"] = time
        if name == "JobRunCompleted":
            run["status"] = "COMPLETED"
        elif name == "JobRunFailed":
            run.update(status="FAILED", errorReason=event.failure.code, failedStep=failed_step(event))
        else:
            run.update(status="FAILED", errorReason="cancelled")
        return True


def created(event, time):
    """A job run as its first fact tells it."""
    return {
        "id": event.job_run_id,
        "jobId": event.job_id,
        "organizationId": event.organization_id,
        "status": "PENDING",
        "workflowRunIds": [],
        "workflowRevisions": dict(zip(event.workflow_ids, event.workflow_revisions, strict=True)),
        "testMode": event.test_mode,
        "retryOf": event.retry_of or None,
        "createdByUserId": event.created_by,
        "createdAt": time,
        "startedAt": None,
        "completedAt": None,
        "updatedAt": time,
        "errorReason": None,
        "failedStep": None,
    }


def failed_step(event):
    """Where it failed; None when no step is to blame."""
    if not event.failure.step_id:
        return None
    failure = event.failure
    return {"workflowRunId": event.workflow_run_id, "stepId": failure.step_id, "name": failure.step_name}
