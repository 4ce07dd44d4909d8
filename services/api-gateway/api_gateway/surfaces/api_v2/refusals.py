"""Which codes an operation may be refused with: those that follow from its form, and those that are its own."""

from __future__ import annotations

from collections.abc import Iterable

from api_gateway.principal import Level
from api_gateway.surfaces.api_v2.about import About
from api_gateway.surfaces.api_v2.errors import STATUS

_START = ("inputs_missing", "inputs_invalid", "workflow_deleted", "empty_job", "connection_locked", "url_not_allowed")
_RETRY = ("run_not_ended", "run_not_failed", "run_not_retryable", "inputs_gone", "connection_locked")
_STEPS = ("unknown_step_type", "url_not_allowed")

OWN: dict[str, tuple[str, ...]] = {
    "create_workflow": ("already_exists", *_STEPS),
    "patch_workflow": ("workflow_deleted", *_STEPS),
    "put_workflow": ("workflow_deleted", *_STEPS),
    "delete_workflow": ("workflow_deleted", "workflow_in_use"),
    "create_job": ("already_exists", "provider_mismatch"),
    "patch_job": ("provider_mismatch",),
    "put_job": ("provider_mismatch",),
    "run_job": _START,
    "create_job_run": (*_START, "not_found"),
    "create_workflow_run": (*_START, "not_found"),
    "cancel_job_run": ("run_already_ended",),
    "cancel_workflow_run": ("run_already_ended",),
    "retry_job_run": _RETRY,
    "retry_workflow_run": _RETRY,
    "answer_input_request": ("input_already_answered", "inputs_invalid", "inputs_missing"),
    "get_content": ("signature_invalid", "signed_url_expired", "range_not_satisfiable"),
    "create_api_key": ("forbidden",),
    "revoke_api_key": ("last_admin_key",),
    "create_provider": ("provider_exists", "provider_mismatch", "url_not_allowed"),
    "patch_provider": ("provider_mismatch", "url_not_allowed"),
}
"""By the name of the handler: what only this operation is refused with."""


def refusals(
    name: str, method: str, about: About, level: Level | None, *, has_path_names: bool
) -> dict[int, list[str]]:
    """Status to codes, both in order. `level` None: no key is asked for."""
    codes = {*OWN.get(name, ()), *_by_form(method, about, level, has_path_names=has_path_names)}
    found: dict[int, list[str]] = {}
    for code in sorted(codes, key=lambda code: (STATUS[code], code)):
        found.setdefault(STATUS[code], []).append(code)
    return found


def _by_form(method: str, about: About, level: Level | None, *, has_path_names: bool) -> Iterable[str]:
    yield "rate_limited"
    if level is not None:
        yield from ("unauthenticated", "forbidden")
    if has_path_names:
        yield from ("not_found", "invalid_parameter")
    if about.params or about.paged:
        yield "invalid_parameter"
    if about.body is not None:
        yield from (
            "malformed_json",
            "body_too_large",
            "unsupported_media_type",
            "validation_failed",
            "request_timeout",
        )
    if method == "POST":
        yield from ("idempotency_in_progress", "idempotency_key_reused", "invalid_parameter")
    if about.tagged and method in {"PATCH", "PUT", "DELETE"}:
        yield "precondition_failed"
