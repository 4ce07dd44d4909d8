"""Requests for runs as a gateway would append them, for benches that load a log without one."""

from __future__ import annotations

import msgspec

from kernel.clock import Clock
from kernel.domain.decider import Event
from kernel.domain.ids import OrganizationId, RequestId, SubjectId, UserId, WorkflowId, WorkflowRunId
from kernel.domain.plan import PlannedWorkflow
from kernel.domain.values import Document, Pool, Sealed
from kernel.domain.workflow_run import WorkflowRunRequested
from kernel.ids import Entropy
from kernel.log import codec
from kernel.log.envelope import Envelope
from kernel.log.port import Record
from kernel.log.topics import Topic, partition_of
from tests.bench.runs import no_op_steps

ORGANIZATIONS = 10
_HOUR_MS = 3_600_000
_DOCUMENT = msgspec.json.encode(no_op_steps(3)).decode()


class Asking:
    """Makes records for topics of so many partitions."""

    def __init__(self, clock: Clock, entropy: Entropy, partitions: int) -> None:
        self._clock = clock
        self._entropy = entropy
        self._partitions = partitions

    def record(self, event: Event, topic: Topic, key: str) -> Record:
        """`event` as it is appended now."""
        envelope = Envelope(self._entropy.uuid(), self._clock.now_ms())
        return codec.encode(
            event, topic=topic, key=key, envelope=envelope, partition=partition_of(key, self._partitions)
        )

    def request(self, number: int) -> Record:
        """Somebody asks for a run of three no-op steps; organizations take turns by `number`."""
        return self._request(WorkflowRunId(self._entropy.uuid()), number)

    def request_in(self, partition: int) -> Record:
        """The same in a partition that the caller names."""
        while True:
            id_ = self._entropy.uuid()
            if partition_of(id_, self._partitions) == partition:
                return self._request(WorkflowRunId(id_), partition)

    def _request(self, id_: WorkflowRunId, number: int) -> Record:
        organization = OrganizationId(f"00000000-0000-4000-8000-{number % ORGANIZATIONS:012}")
        workflow = PlannedWorkflow(
            workflow_run_id=id_,
            workflow_id=WorkflowId(organization),
            name="wait",
            pool=Pool.LIGHT,
            document=Document(_DOCUMENT, "", len(_DOCUMENT)),
        )
        request = WorkflowRunRequested(
            request_id=RequestId(self._entropy.uuid()),
            organization_id=organization,
            subject_id=SubjectId(organization),
            external_id=Sealed(),
            workflow=workflow,
            test_mode=False,
            created_by=UserId("bench"),
            retry_of="",
            priority=0,
            valid_until_ms=self._clock.now_ms() + _HOUR_MS,
        )
        return self.record(request, Topic.RUN_REQUESTS, id_)
