"""The tables of what the processes of a cluster read from their environment, made from their settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field
from pathlib import Path
from typing import Any

from api_gateway import settings as gateway
from artifact_store import settings as store
from browser_runner import settings as runner
from kernel import service
from kernel.settings import SECRET_SUFFIX, Form, variables
from kernel.sql.postgres import settings as postgres
from scheduler import settings as scheduler

Place = tuple[str, type[Any], str, Mapping[Any, Form]]
"""A file, a class in it, the prefix of its variables, and how its own types are read."""

TABLES: Mapping[str, Sequence[Place]] = {
    "settings-of-every-process": [
        ("kernel/kernel/service.py", service.ServiceSettings, "TOWPATH_", {}),
        ("kernel/kernel/sql/postgres/settings.py", postgres.PostgresSettings, "TOWPATH_POSTGRES_", {}),
    ],
    "settings-of-the-gateway": [
        ("services/api-gateway/api_gateway/settings.py", kind, "API_GATEWAY_", gateway.FORMS)
        for kind in (gateway.ProcessSettings, gateway.Settings)
    ],
    "settings-of-the-scheduler": [("services/scheduler/scheduler/settings.py", scheduler.Settings, "SCHEDULER_", {})],
    "settings-of-the-runner": [
        ("services/browser-runner/browser_runner/settings.py", runner.Settings, "BROWSER_RUNNER_", {})
    ],
    "settings-of-the-store": [
        ("services/artifact-store/artifact_store/settings.py", store.Settings, "ARTIFACT_STORE_", {})
    ],
}
"""The name of each part of the manual, and what it tells."""


def rows_of(place: Place, texts: Mapping[str, str]) -> list[tuple[str, ...]]:
    """Variable, default, meaning; `texts` are what stands below each attribute."""
    _, kind, prefix, forms = place
    return [
        (f"`{one.name}`", _default(one.field), _meaning(one.name, texts[one.field.name]))
        for one in variables(kind, prefix, forms)
    ]


def _meaning(name: str, text: str) -> str:
    return f"A file: {text[0].lower()}{text[1:]}" if name.endswith(SECRET_SUFFIX) else text


def _default(field: Field[Any]) -> str:
    if field.default is MISSING:
        return "required"
    match field.default:
        case True | False:
            return f"`{str(field.default).lower()}`"
        case "" | None | () | b"":
            return "none"
        case frozenset():
            return "none"
        case int() | float() | str() | Path():
            return f"`{field.default}`"
        case address:
            return f"`{address.host}:{address.port}`"
