"""What a run gives back: what its `finish` said, else what it extracted; checked against the schema. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from browser_runner.ends import End
from kernel.domain.workflow_run import WorkflowRunStatus
from kernel.steps.document import ExtractStep, StepsDocument
from kernel.steps.schemas import SchemaError, violations


def with_output(end: End, document: StepsDocument, results: Mapping[str, Any]) -> End:
    """`end` with its output, or the failure `output_invalid`. `results`: of the steps, by id.

    A run that was stopped on the way says behind which step, and owes no schema.
    """
    output = end.output
    if output is None:
        output = {
            step.id: results[step.id] for step in document.steps if isinstance(step, ExtractStep) and step.id in results
        } or None
    if end.stopped_after:
        return replace(end, output={"stoppedAfterStep": end.stopped_after, **(output or {})})
    if document.output_schema is not None:
        try:
            broken = violations(document.output_schema, output)
        except SchemaError as error:
            broken = [str(error)]
        if broken:
            return End(WorkflowRunStatus.FAILED, None, "output_invalid", "; ".join(broken))
    return replace(end, output=output)
