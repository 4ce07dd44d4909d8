"""Public facts that say how a provider does, and stories of them by a seed."""

from __future__ import annotations

import random  # noqa: TID251 (seeded: the same story in every test)

from kernel.domain.ids import OrganizationId, ProviderSlug, WorkflowRunId
from kernel.domain.plan import WorkflowType
from kernel.domain.values import Effect, Failure, SealedBody
from kernel.domain.workflow_run import (
    StepStatus,
    WorkflowRunCompleted,
    WorkflowRunFailed,
    WorkflowRunStatus,
    WorkflowRunStepFinished,
)
from kernel.ids import derived_id
from kernel.log.codec import encode
from kernel.log.envelope import Envelope
from kernel.log.port import Record
from kernel.log.topics import Topic, partition_of

ACME = OrganizationId("00000000-0000-4000-8000-0000000000a1")
RIVAL = OrganizationId("00000000-0000-4000-8000-0000000000b2")
GUSTO = ProviderSlug("gusto")
TOAST = ProviderSlug("toast")
NOON = 1_750_000_020_000
"""The beginning of a minute."""

Fact = WorkflowRunCompleted | WorkflowRunFailed | WorkflowRunStepFinished


def completed(
    *, provider: ProviderSlug = GUSTO, login: bool = False, test_mode: bool = False, nothing_to_do: bool = False
) -> WorkflowRunCompleted:
    words = WorkflowRunStatus
    status = words.COMPLETED_WITH_NO_ACTION_TAKEN if nothing_to_do else words.COMPLETED
    return WorkflowRunCompleted(WorkflowRunId("w"), status, SealedBody(), provider, _type(login=login), test_mode)


def failed(
    code: str,
    status: WorkflowRunStatus = WorkflowRunStatus.FAILED,
    *,
    provider: ProviderSlug = GUSTO,
    login: bool = False,
) -> WorkflowRunFailed:
    return WorkflowRunFailed(WorkflowRunId("w"), status, Failure(code=code), provider, _type(login=login))


def step(
    milliseconds: int,
    *,
    kind: str = "click",
    status: StepStatus = StepStatus.COMPLETED,
    provider: ProviderSlug = GUSTO,
) -> WorkflowRunStepFinished:
    return WorkflowRunStepFinished(
        WorkflowRunId("w"), 1, "a", "a", "A", kind, Effect.READ, status, 1, NOON, NOON + milliseconds, SealedBody(),
        Failure(), "", "", provider=provider,
    )  # fmt: skip


def _type(*, login: bool) -> WorkflowType:
    return WorkflowType.LOGIN if login else WorkflowType.USER_DEFINED


def record(
    fact: Fact, run: str, sequence: int, time_ms: int, *, partitions: int, organization: OrganizationId = ACME
) -> Record:
    """The public record of a fact of the root run `run`."""
    envelope = Envelope(
        id=derived_id(run, str(sequence)), time_ms=time_ms, sequence=sequence, organization_id=organization
    )
    return encode(fact, topic=Topic.JOB_RUNS, key=run, envelope=envelope, partition=partition_of(run, partitions))


def story(
    seed: int, runs: int, *, partitions: int, start_ms: int = NOON, success: float = 0.7, name: str = "run"
) -> list[Record]:
    """Some runs of two providers and two organizations; each of a few steps and an end, seconds apart."""
    chance, records, now_ms = random.Random(seed), [], start_ms
    for number in range(runs):
        run, organization = f"{name}-{number}", chance.choice((ACME, ACME, RIVAL))
        provider, login = chance.choice((GUSTO, TOAST)), chance.random() < 0.3
        facts: list[Fact] = [step(chance.randrange(5, 4_000), provider=provider) for _ in range(chance.randrange(4))]
        if chance.random() < success:
            facts.append(completed(provider=provider, login=login))
        else:
            code = chance.choice(("target_missing", "step_timeout", "login_rejected", "runner_lost"))
            facts.append(failed(code, provider=provider, login=login))
        for sequence, fact in enumerate(facts, start=1):
            now_ms += chance.randrange(1_500)
            records.append(record(fact, run, sequence, now_ms, partitions=partitions, organization=organization))
    return records
