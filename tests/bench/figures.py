"""What a measure says: one value beside its raw baseline of the same run, as one JSON line."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec


@dataclass(frozen=True, slots=True)
class Figure:
    """`ratio` is value over baseline; `load` the machine's load average (1 minute) when it was measured."""

    name: str
    value: float
    unit: str
    baseline: float
    baseline_name: str
    ratio: float
    samples: int
    load: float
    detail: dict[str, float] = field(default_factory=dict)


def figure(name: str, value: float, unit: str, baseline: tuple[str, float], samples: int, **detail: float) -> Figure:
    """A figure as of now; `baseline` is its name and value."""
    baseline_name, raw = baseline
    ratio = value / raw if raw else 0.0
    rounded = {key: round(number, 3) for key, number in detail.items()}
    load = round(os.getloadavg()[0], 2)
    return Figure(name, round(value, 3), unit, round(raw, 3), baseline_name, round(ratio, 2), samples, load, rounded)


def line(one: object) -> str:
    """One JSON line, without its end."""
    return msgspec.json.encode(one).decode()


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of all lie; nearest rank."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def put(text: str) -> None:
    """A line for machines."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def tell(text: str) -> None:
    """A line for people: progress, or what is missing."""
    sys.stderr.write(f"bench: {text}\n")
    sys.stderr.flush()
