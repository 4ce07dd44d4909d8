"""Looking into the parameters of a step of any kind: structs, texts, expressions, each with its pointer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from kernel.steps.document import Assert, Extract, ForEach, If

_EXPRESSIONS: dict[type[Struct], frozenset[str]] = {
    If: frozenset({"condition"}),
    ForEach: frozenset({"items"}),
    Assert: frozenset({"that", "value"}),
    Extract: frozenset({"until"}),
}
_SCHEMAS: dict[type[Struct], frozenset[str]] = {Assert: frozenset({"schema"}), Extract: frozenset({"schema"})}
_STEPS: dict[type[Struct], frozenset[str]] = {If: frozenset({"then", "else_"}), ForEach: frozenset({"body"})}

T = TypeVar("T", bound=Struct)


def pointer(base: str, *parts: str | int) -> str:
    """`base` extended by `parts`, as a JSON Pointer."""
    return base + "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def structs(value: Struct, base: str) -> Iterator[tuple[str, Struct]]:
    """`value` and every struct inside it, inner steps left out."""
    yield base, value
    for field in msgspec.structs.fields(value):
        if field.name in _STEPS.get(type(value), ()):
            continue
        for at, item in _spread(getattr(value, field.name), pointer(base, field.encode_name)):
            if isinstance(item, Struct):
                yield from structs(item, at)


def texts(value: Struct, base: str) -> Iterator[tuple[str, str]]:
    """Every string that may hold a template."""
    for at, struct in structs(value, base):
        skipped = _EXPRESSIONS.get(type(struct), frozenset()) | _SCHEMAS.get(type(struct), frozenset())
        for field in msgspec.structs.fields(struct):
            if field.name in skipped or field.name in _STEPS.get(type(struct), ()):
                continue
            for place, item in _spread(getattr(struct, field.name), pointer(at, field.encode_name)):
                if isinstance(item, str):
                    yield place, str(item)


def expressions(value: Struct, base: str) -> Iterator[tuple[str, str]]:
    """Every expression."""
    for name in _EXPRESSIONS.get(type(value), ()):
        for place, item in _spread(getattr(value, name), pointer(base, name)):
            if isinstance(item, str):
                yield place, item


def schemas(value: Struct, base: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every JSON Schema."""
    for name in _SCHEMAS.get(type(value), ()):
        schema = getattr(value, name)
        if schema is not None:
            yield pointer(base, name), schema


def map_texts(value: T, change: Callable[[str], str], *, skip: frozenset[str] = frozenset()) -> T:
    """A copy whose template strings went through `change`; fields of `value` itself in `skip` stay as they are."""
    left = skip | _EXPRESSIONS.get(type(value), frozenset()) | _SCHEMAS.get(type(value), frozenset())
    left |= _STEPS.get(type(value), frozenset())
    changed = {
        field.name: _map(getattr(value, field.name), change)
        for field in msgspec.structs.fields(value)
        if field.name not in left
    }
    return msgspec.structs.replace(value, **changed)


def _map(value: Any, change: Callable[[str], str]) -> Any:
    match value:
        case Struct():
            return map_texts(value, change)
        case str() if type(value) is str:
            return change(value)
        case tuple():
            return tuple(_map(item, change) for item in value)
        case dict():
            return {name: _map(item, change) for name, item in value.items()}
        case _:
            return value


def _spread(value: Any, base: str) -> Iterator[tuple[str, Any]]:
    match value:
        case Mapping():
            for name, item in value.items():
                yield from _spread(item, pointer(base, name))
        case list() | tuple():
            for index, item in enumerate(value):
                yield from _spread(item, pointer(base, index))
        case None:
            return
        case _:
            yield base, value
