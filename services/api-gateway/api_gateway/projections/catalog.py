"""All read models in one table: which of them a fact changes."""

from __future__ import annotations

from collections import defaultdict

from api_gateway.projections import (
    artifacts,
    connections,
    input_requests,
    job_runs,
    jobs,
    provider_health,
    providers,
    request_outcomes,
    run_events,
    steps,
    workflow_revisions,
    workflow_runs,
    workflows,
)
from api_gateway.projections.change import Change, Fact, Project, Table

_MODELS = (
    workflows,
    workflow_revisions,
    jobs,
    providers,
    provider_health,
    connections,
    job_runs,
    workflow_runs,
    steps,
    run_events,
    artifacts,
    input_requests,
)
TABLES: tuple[Table, ...] = (*(model.TABLE for model in _MODELS), request_outcomes.TABLE)
"""Everything a rebuild empties."""


def _by_event() -> dict[type, tuple[Project, ...]]:
    table: defaultdict[type, list[Project]] = defaultdict(list)
    for model in _MODELS:
        for event, project in model.ON.items():
            table[event].append(project)
    return {event: tuple(projects) for event, projects in table.items()}


BY_EVENT: dict[type, tuple[Project, ...]] = _by_event()


def changes(fact: Fact) -> list[Change]:
    """All row changes of one fact, in no particular order: they are about different tables."""
    found = [project(fact) for project in BY_EVENT.get(type(fact.event), ())]
    outcome = request_outcomes.outcome(fact)
    if outcome is not None:
        found.append(outcome)
    return found
