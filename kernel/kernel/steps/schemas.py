"""JSON Schemas as workflows use them: draft 2020-12, offline, patterns in linear time."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jsonschema_rs
import msgspec

VIOLATIONS_MAX = 10

Validator = jsonschema_rs.Validator
"""A compiled schema."""


class SchemaError(ValueError):
    """The schema itself is refused; the message is for its author."""


def compile_schema(schema: dict[str, Any]) -> Validator:
    """A validator, cached; `SchemaError` when it is malformed, refers outside or needs a backtracking pattern."""
    return _compile(msgspec.json.encode(schema, order="deterministic"))


@lru_cache(maxsize=512)
def _compile(text: bytes) -> Validator:
    try:
        return jsonschema_rs.Draft202012Validator(
            text.decode(), offline=True, pattern_options=jsonschema_rs.RegexOptions()
        )
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise SchemaError(str(error).splitlines()[0][:300]) from None


def violations(schema: dict[str, Any], value: Any) -> list[str]:
    """What `value` breaks, at most ten, each with its place and without the value itself."""
    found: list[str] = []
    for error in compile_schema(schema).iter_errors(value):
        place = "/" + "/".join(str(part) for part in error.instance_path)
        found.append(f"{place}: breaks `{error.kind.name}`")
        if len(found) == VIOLATIONS_MAX:
            break
    return found
