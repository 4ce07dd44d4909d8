"""Instances of any event class: a fixed sample, and a hypothesis strategy, both made from the annotations alone."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from enum import StrEnum
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

_SMALL = st.integers(min_value=-(2**31), max_value=2**31 - 1)
_LONG = st.integers(min_value=-(2**63), max_value=2**63 - 1)
_LONG_NAMES = frozenset({"offset", "size", "start", "derived_below"})
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def sample(cls: type) -> Any:
    """One instance with a telling value in every field; always the same one."""
    hints = get_type_hints(cls)
    return cls(*[_sample_value(hints[field.name], field.name) for field in fields(cls)])


def _sample_value(hint: Any, name: str) -> Any:
    hint = getattr(hint, "__supertype__", hint)
    if get_origin(hint) is tuple:
        return (_sample_value(get_args(hint)[0], name), _sample_value(get_args(hint)[0], f"{name}-2"))
    if NoneType in get_args(hint):
        return _sample_value(get_args(hint)[0], name)
    if is_dataclass(hint) and isinstance(hint, type):
        return sample(hint)
    if issubclass(hint, StrEnum):
        return list(hint)[-1]
    if hint is bool:
        return True
    if hint is int:
        return 1_750_000_000_123 if name.endswith("_ms") else 1 + len(name)
    return f"{name}-1".encode() if hint is bytes else f"{name}-ü"


def instances(cls: type) -> st.SearchStrategy[Any]:
    """Any instance whose numbers fit their message and whose first text is not empty, as of every real event."""
    hints = get_type_hints(cls)
    parts = {field.name: _values(hints[field.name], field.name) for field in fields(cls)}
    first = next((name for name, hint in hints.items() if getattr(hint, "__supertype__", hint) is str), None)
    if first is not None:
        parts[first] = parts[first].filter(bool)
    return st.builds(cls, **parts)


def _values(hint: Any, name: str) -> st.SearchStrategy[Any]:
    hint = getattr(hint, "__supertype__", hint)
    if get_origin(hint) is tuple:
        return st.lists(_values(get_args(hint)[0], name), max_size=2).map(tuple)
    if NoneType in get_args(hint):
        return st.none() | _values(get_args(hint)[0], name)
    if is_dataclass(hint) and isinstance(hint, type):
        hints = get_type_hints(hint)
        return st.builds(hint, **{field.name: _values(hints[field.name], field.name) for field in fields(hint)})
    if issubclass(hint, StrEnum):
        return st.sampled_from(hint)
    if hint is int:
        return _LONG if name.endswith("_ms") or name in _LONG_NAMES else _SMALL
    scalars: dict[type, st.SearchStrategy[Any]] = {
        bool: st.booleans(),
        bytes: st.binary(max_size=20),
        str: _TEXT,
    }
    return scalars[hint]
