"""This surface's error table: every code has one status, and every error one shape."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kernel.errors import Detail

STATUS: dict[str, int] = {
    "malformed_json": 400,
    "invalid_parameter": 400,
    "unauthenticated": 401,
    "forbidden": 403,
    "signature_invalid": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "last_admin_key": 409,
    "workflow_deleted": 409,
    "workflow_in_use": 409,
    "provider_exists": 409,
    "already_exists": 409,
    "run_exists": 409,
    "run_already_ended": 409,
    "run_not_ended": 409,
    "run_not_failed": 409,
    "run_not_retryable": 409,
    "inputs_gone": 409,
    "input_already_answered": 409,
    "connection_locked": 409,
    "idempotency_in_progress": 409,
    "signed_url_expired": 410,
    "precondition_failed": 412,
    "body_too_large": 413,
    "unsupported_media_type": 415,
    "range_not_satisfiable": 416,
    "validation_failed": 422,
    "unknown_step_type": 422,
    "provider_mismatch": 422,
    "inputs_missing": 422,
    "inputs_invalid": 422,
    "empty_job": 422,
    "url_not_allowed": 422,
    "idempotency_key_reused": 422,
    "rate_limited": 429,
    "internal": 500,
    "unavailable": 503,
    "request_expired": 503,
}
"""Code to status. What is not in it never leaves the gateway by this name."""

_BODY_REFERENCES = ("/jobConfigJson/", "/defaultJobId")
_BY_HTTP = {
    400: "invalid_parameter",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "body_too_large",
    415: "unsupported_media_type",
    416: "range_not_satisfiable",
}
RETRY_AFTER = {"idempotency_in_progress": "1", "unavailable": "1", "request_expired": "1"}


class ErrorDetail(msgspec.Struct, kw_only=True):
    """One spot of the request; `path` is a JSON Pointer into the body, or names a parameter."""

    path: str
    code: str
    message: str


class ErrorBody(msgspec.Struct, kw_only=True):
    """`code` is stable and is what clients test, `message` is for people."""

    code: str
    message: str
    details: list[ErrorDetail]
    request_id: str


class ErrorAnswer(msgspec.Struct, kw_only=True):
    """What every error looks like."""

    error: ErrorBody


def phrased(code: str, details: Sequence[Detail]) -> str:
    """The code as this surface says it: a list entry that names nothing is a fault of the body, not of the path.

    A code without a status is a gap of ours and becomes `internal`.
    """
    if code == "not_found" and any(detail.path.startswith(_BODY_REFERENCES) for detail in details):
        return "validation_failed"
    return code if code in STATUS else "internal"


def code_of_http(status: int) -> str:
    """The code of an error that the framework raised before or around our own."""
    if status in _BY_HTTP:
        return _BY_HTTP[status]
    return "internal" if status >= 500 else "invalid_parameter"


def error_body(code: str, message: str, details: Sequence[Detail], request_id: str) -> bytes:
    """The body of an error."""
    spots = [ErrorDetail(path=detail.path, code=detail.code, message=detail.message) for detail in details]
    body = ErrorBody(code=code, message=message, details=spots, request_id=request_id)
    return msgspec.json.encode(ErrorAnswer(error=body))
