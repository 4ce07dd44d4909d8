"""The reference of `/api/v2` in Markdown, made from its OpenAPI document."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import msgspec

Json = dict[str, Any]
PREFIX = "/api/v2"
_PLAIN = {"uuid": "UUID", "date-time": "time", "string": "text", "boolean": "true or false", "integer": "number"}
_METHODS = ("get", "post", "put", "patch", "delete")


def api_reference(document: Json) -> str:
    """Every operation by resource, then every shape. Pure."""
    operations = [
        (operation["tags"][0], path.removeprefix(PREFIX), method, operation)
        for path, place in document["paths"].items()
        for method, operation in sorted(place.items(), key=lambda entry: _METHODS.index(entry[0]))
    ]
    operations.sort(key=lambda entry: entry[0])
    parts = []
    for tag, found in groupby(operations, key=lambda entry: entry[0]):
        parts.append(f"## {tag}")
        parts += [_operation(path, method, operation) for _, path, method, operation in found]
    parts.append("## Shapes")
    parts += [_shape(name, schema) for name, schema in sorted(document["components"]["schemas"].items())]
    return "\n\n".join(parts)


def _operation(path: str, method: str, operation: Json) -> str:
    lines = [f"### {method.upper()} `{path}`", f"{operation['summary']}. {_level(operation)}"]
    rows = [_parameter(one) for one in operation.get("parameters", ()) if one["name"] != "Idempotency-Key"]
    if rows:
        lines.append("\n".join(["| Parameter | In | Type | Meaning |", "| --- | --- | --- | --- |", *rows]))
    if body := operation.get("requestBody"):
        lines.append(f"Body: {_of_content(body)}.")
    good = [(status, answer) for status, answer in operation["responses"].items() if status.startswith(("2", "3"))]
    told = ", ".join(f"{status}{_with_content(answer)}" for status, answer in good)
    refused = [status for status in operation["responses"] if status.startswith(("4", "5"))]
    lines.append(f"Answers: {told}." + (f" Refusals: {', '.join(refused)}." if refused else ""))
    return "\n\n".join(lines)


def _level(operation: Json) -> str:
    level = operation.get("x-level")
    return f"Needs a key of level `{level}`." if level else "Needs no key."


def _parameter(parameter: Json) -> str:
    about = parameter.get("description", "")
    return _row(f"`{parameter['name']}`", parameter["in"], type_of(parameter["schema"]), about)


def _with_content(answer: Json) -> str:
    return f" with {_of_content(answer)}" if answer.get("content") else ""


def _of_content(described: Json) -> str:
    return " or ".join(
        type_of(entry["schema"]) if media == "application/json" else f"`{media}`"
        for media, entry in described["content"].items()
    )


def _shape(name: str, schema: Json) -> str:
    lines = [f"### {name}"]
    if about := schema.get("description"):
        lines.append(" ".join(about.split()))
    if "enum" in schema:
        lines.append(f"One of {type_of(schema)}.")
    if properties := schema.get("properties"):
        required = schema.get("required", [])
        rows = [
            _row(
                f"`{field}`",
                type_of(shape),
                "yes" if field in required else "",
                " ".join(shape.get("description", "").split()),
            )
            for field, shape in properties.items()
        ]
        lines.append("\n".join(["| Field | Type | Always | Meaning |", "| --- | --- | --- | --- |", *rows]))
    return "\n\n".join(lines)


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def type_of(schema: Json) -> str:
    """A JSON Schema in a few words."""
    match schema:
        case {"anyOf": choices}:
            return " or ".join(dict.fromkeys(type_of(one) for one in choices))
        case {"$ref": ref}:
            name = ref.rsplit("/", 1)[-1]
            return f"[{name}](#{name.lower()})"
        case {"enum": values}:
            return ", ".join(f"`{value}`" if isinstance(value, str) else f"`{_json(value)}`" for value in values)
        case {"type": "array", "items": items}:
            return f"list of {type_of(items)}"
        case {"type": "object", "additionalProperties": dict() as values} if values:
            return f"object of {type_of(values)}"
        case _:
            kind = str(schema.get("format", schema.get("type", "any")))
            return _PLAIN.get(kind, kind)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
