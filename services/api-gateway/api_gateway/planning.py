"""From a workflow definition and a caller's inputs to the frozen plan of a run.

A definition is read once per revision (`Reading`) and kept, so that starting a run costs no parsing. Inputs are checked
against the workflow's schema first; then secret ones go into the vault, and only their references go on.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from kernel.domain.ids import (
    ConnectionId,
    OrganizationId,
    ProviderSlug,
    RootRunId,
    SubjectId,
    WorkflowId,
    WorkflowRunId,
)
from kernel.domain.plan import PlannedWorkflow, RunOptions, WorkflowType
from kernel.domain.values import Document, Pool
from kernel.errors import Detail, Rejected
from kernel.ids import derived_id
from kernel.steps.document import StepsDocument, input_properties, needs_page, parse_document, secret_inputs, walk
from kernel.steps.hosts import hosts_of
from kernel.steps.schemas import Validator, compile_schema
from kernel.store.port import ByteStore, GatewayOpener, PutHeader, SecretKind, Vault

DOCUMENT_INLINE_BYTES_MAX = 16 * 1024
PLAN_BYTES_MAX = 20 * 1024
"""What the plans of one run may weigh: a task carries them, 16 KiB of journal and an answer in a 64 KiB record."""
PLANNED_WORKFLOW_BYTES = 400
SECRET_INPUT_TTL_MS = 30 * 24 * 60 * 60 * 1000
_INPUT_FAULTS_MAX = 20


@dataclass(frozen=True, slots=True)
class Definition:
    """A workflow as the read model has it, with what its provider's registration says."""

    workflow_id: WorkflowId
    organization_id: OrganizationId
    name: str
    provider: ProviderSlug
    type: WorkflowType
    document: Document
    revision: int
    provider_domains: tuple[str, ...]
    provider_concurrency: int


@dataclass(frozen=True, slots=True)
class Reading:
    """What starting a run needs to know of a document."""

    pool: Pool
    hosts: tuple[str, ...]
    inputs: frozenset[str]
    secrets: frozenset[str]
    artifacts: frozenset[str]
    """Those that name artifacts by their ids."""
    required: frozenset[str]
    """Must be there at the start: neither secret nor asked for later."""
    step_ids: frozenset[str]
    """Of the steps that do the work; those of `sessionCheck` and `finally` are not among them."""
    validator: Validator


@dataclass(frozen=True, slots=True)
class Chosen:
    """One workflow that is to run, with the inputs that it takes, checked."""

    definition: Definition
    reading: Reading
    inputs: dict[str, Any]


def read_steps(steps: StepsDocument) -> Reading:
    """Read a checked document."""
    properties = input_properties(steps)
    secrets = secret_inputs(steps)
    can_be_asked = secrets | {name for name, schema in properties.items() if schema.get("askUser") is True}
    required = frozenset(steps.input_schema.get("required", ())) - can_be_asked
    schema = {**steps.input_schema, "required": sorted(required)}
    return Reading(
        pool=Pool.BROWSER if needs_page(steps) else Pool.LIGHT,
        hosts=hosts_of(steps),
        inputs=frozenset(properties),
        secrets=secrets,
        artifacts=frozenset(name for name, schema in properties.items() if schema.get("kind") == "artifact"),
        required=required,
        step_ids=frozenset(step.id for step in walk(steps.steps)),
        validator=compile_schema(schema),
    )


def parse_reading(text: str | bytes) -> Reading:
    """Read a document that was checked when it was saved."""
    return read_steps(parse_document(text))


def check_inputs(reading: Reading, given: Mapping[str, Any], base: str) -> dict[str, Any]:
    """The inputs that this workflow takes. `Rejected`: `inputs_missing`, `inputs_invalid`, with pointers below `base`.

    Messages name the broken rule and never the value.
    """
    taken = {name: value for name, value in given.items() if name in reading.inputs}
    missing = sorted(reading.required - taken.keys())
    if missing:
        details = tuple(Detail(f"{base}/{_escaped(name)}", "inputs_missing", "is required") for name in missing)
        raise Rejected("inputs_missing", f"inputs are missing: {', '.join(missing)}", details)
    faults = []
    for error in reading.validator.iter_errors(taken):
        pointer = base + "".join(f"/{_escaped(str(part))}" for part in error.instance_path)
        faults.append(Detail(pointer, "inputs_invalid", f"breaks `{error.kind.name}`"))
        if len(faults) == _INPUT_FAULTS_MAX:
            break
    if faults:
        raise Rejected("inputs_invalid", "inputs do not fit the workflow's inputSchema", tuple(faults))
    return taken


def check_named(given: Iterable[str], workflow_ids: Container[str]) -> None:
    """`Rejected("validation_failed")` when inputs are given for a workflow that the job does not name."""
    details = tuple(
        Detail(f"/workflowInputs/{_escaped(id_)}", "not_found", "the job names no such workflow")
        for id_ in given
        if id_ not in workflow_ids
    )
    if details:
        raise Rejected("validation_failed", "workflowInputs has workflows that the job does not name", details)


def _escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")


async def put_secrets(vault: Vault, subject_id: SubjectId, chosen: Chosen) -> dict[str, Any]:
    """The inputs with every secret one replaced by `{"$secret": ref}`; the values are in the vault afterwards."""
    organization_id = chosen.definition.organization_id
    kind = SecretKind.CREDENTIAL if chosen.definition.type is WorkflowType.LOGIN else SecretKind.INPUT
    safe = dict(chosen.inputs)
    for name in chosen.reading.secrets & chosen.inputs.keys():
        value = chosen.inputs[name]
        raw = value.encode() if isinstance(value, str) else msgspec.json.encode(value)
        ref = await vault.put_secret(organization_id, subject_id, kind, raw, SECRET_INPUT_TTL_MS)
        safe[name] = {"$secret": ref}
    return safe


def check_stop(reading: Reading, options: RunOptions) -> None:
    """`Rejected("validation_failed")` when the run is to stop behind a step that the workflow does not have."""
    if options.stop_after_step and options.stop_after_step not in reading.step_ids:
        spot = Detail("/stopAfterStep", "unknown_step", "the workflow has no step of this id")
        raise Rejected("validation_failed", f"stopAfterStep {spot.message}", (spot,))


def workflow_run_id(root_run_id: str, position: int) -> WorkflowRunId:
    """The id of a job run's workflow run, the same on every replay."""
    return WorkflowRunId(derived_id("workflow_run", root_run_id, str(position)))


def planned(
    chosen: Chosen, root_run_id: RootRunId, position: int, connection_id: ConnectionId, options: RunOptions
) -> PlannedWorkflow:
    """One workflow of a run, without its inputs."""
    definition, reading = chosen.definition, chosen.reading
    uses_login = reading.pool is Pool.BROWSER or definition.type is WorkflowType.LOGIN
    return PlannedWorkflow(
        workflow_run_id=workflow_run_id(root_run_id, position),
        workflow_id=definition.workflow_id,
        revision=definition.revision,
        name=definition.name,
        type=definition.type,
        provider=definition.provider,
        pool=reading.pool,
        document=definition.document,
        connection_id=connection_id if uses_login else ConnectionId(""),
        allowed_hosts=tuple(sorted({*definition.provider_domains, *reading.hosts})),
        concurrency=definition.provider_concurrency,
        options=options,
    )


def connection_of(
    definition: Definition, subject_id: SubjectId, root_run_id: RootRunId, *, has_customer: bool, test_mode: bool
) -> ConnectionId:
    """The login a run uses: the customer's at this provider; without a customer one that lives for the run only."""
    mode = ("test",) if test_mode else ()
    if has_customer:
        return ConnectionId(
            derived_id("connection", definition.organization_id, subject_id, definition.provider, *mode)
        )
    return ConnectionId(derived_id("connection", root_run_id, definition.provider, *mode))


async def fit(
    plan: Iterable[PlannedWorkflow], store: ByteStore, organization_id: OrganizationId, subject_id: SubjectId
) -> tuple[PlannedWorkflow, ...]:
    """The plan, small enough for a record: the longest documents and inputs are staged until it is.

    `Rejected("body_too_large")` when it never is.
    """
    fitted = list(plan)
    while (weight := sum(map(_weight, fitted))) > PLAN_BYTES_MAX:
        index = max(range(len(fitted)), key=lambda place: _heaviest(fitted[place]))
        if _heaviest(fitted[index]) == 0:
            raise Rejected("body_too_large", f"the run's plan weighs {weight} bytes; name fewer workflows")
        fitted[index] = await _staged(fitted[index], store, PutHeader(subject_id, GatewayOpener(organization_id)))
    return tuple(fitted)


def _weight(one: PlannedWorkflow) -> int:
    hosts = sum(len(host) + 2 for host in one.allowed_hosts)
    return PLANNED_WORKFLOW_BYTES + len(one.name) + hosts + len(one.document.inline.encode()) + len(one.inputs.box)


def _heaviest(one: PlannedWorkflow) -> int:
    return max(len(one.document.inline), len(one.inputs.box))


async def _staged(one: PlannedWorkflow, store: ByteStore, header: PutHeader) -> PlannedWorkflow:
    if len(one.document.inline) >= len(one.inputs.box):
        staged = await store.put_bytes(one.document.inline.encode(), header)
        return replace(one, document=Document(blob=staged.sha256, size=staged.size))
    staged = await store.put_bytes(one.inputs.box, header)
    return replace(one, inputs=replace(one.inputs, box=b"", blob=staged.sha256, size=staged.size))
