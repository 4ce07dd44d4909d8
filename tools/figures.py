"""The tables of kept figures, made from `tests/bench/results`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent.parent / "tests" / "bench" / "results"

MUSTS: dict[str, tuple[float, float | None]] = {
    "w1_p50_ms": (12, 5),
    "w1_c100_runs_per_s": (300, 1500),
    "w1_c100_cpu_ms_per_run": (5, 1.2),
    "w2_ms_per_step": (3, 1),
    "post_p50_ms": (15, 5),
    "idle_memory_mb": (200, 120),
    "browser_step_overhead_ms": (10, 3),
    "browser_cpu_overhead_percent": (10, 5),
    "kafka_w1_p50_ms": (40, 20),
    "kafka_w1_c100_runs_per_s": (250, 1200),
    "kafka_w1_c100_cpu_ms_per_run": (6, 1.5),
    "kafka_transitions_per_s": (5000, 20_000),
    "kafka_start_p50_ms": (50, 15),
    "kafka_start_p99_ms": (250, 60),
    "kafka_post_p50_ms": (60, 20),
    "kafka_takeover_term_s": (1, 0.5),
    "kafka_takeover_kill_s": (4, 2.5),
    "kafka_rebuild_facts_per_s": (20_000, 30_000),
    "kafka_list_50_at_1m_ms": (10, None),
    "kafka_list_50_failed_of_workflow_at_1m_ms": (10, None),
    "kafka_get_at_1m_ms": (10, None),
}
"""What a figure must reach, and what it should."""

Rows = list[tuple[str, ...]]


def rows_of(name: str) -> tuple[str, Rows]:
    """Where `results/NAME` was measured, in a sentence, and its rows: name, value, unit, baseline, must, goal, load.

    A line with a `commit` of its own is of an earlier run.
    """
    surroundings, *figures = (json.loads(line) for line in (RESULTS / name).read_text().splitlines())
    return _where(surroundings), [_row(one) for one in figures]


def _where(said: dict[str, Any]) -> str:
    return (
        f"{said['machine']}, {said['cores']} cores, Linux {said['kernel']}, Python {said['python']};"
        f" commit `{said['commit'][:12]}`, where a line names no other."
    )


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    must, goal = ("" if number is None else _short(number) for number in MUSTS.get(one["name"], (None, None)))
    baseline = f"{_short(one['baseline'])} ({one['baseline_name']})"
    older = f" (`{one['commit'][:12]}`)" if "commit" in one else ""
    return f"`{one['name']}`{older}", _short(one["value"]), one["unit"], baseline, must, goal, f"{one['load']:.1f}"


def _short(number: float) -> str:
    """Three digits that count."""
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"
