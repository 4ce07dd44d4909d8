"""Expressions: CEL over `inputs`, `steps`, the loop variables and `index`. Bounded before they run.

The engine has no clock and no budget of its own, so everything that could make it slow is refused by form: length,
nesting, loops inside loops, unknown functions. What is left costs at most about the size of the values it reads times
the operations it has, and that product is bounded when it is evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cel

LENGTH_MAX = 1024
NESTING_MAX = 24
LOOPS_MAX = 2
WORK_MAX = 2_000_000
"""Upper bound of (values read) x (values read again per item, in a loop) x (operators that may build values)."""

_FUNCTIONS = frozenset(
    {"size", "has", "contains", "startsWith", "endsWith", "matches", "int", "uint", "double", "string", "bool", "type"}
    | {"timestamp", "duration", "min", "max"}
)
_STRINGS = re.compile(r"""r?(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""")
_LOOP = re.compile(r"\.\s*(map|filter|all|exists|exists_one)\s*\(\s*([A-Za-z_]\w*)\s*,")
_MEMBER = re.compile(r"""\b(steps|inputs)\s*(?:\.\s*([A-Za-z_]\w*)|\[\s*(?:"([^"\\]*)"|'([^'\\]*)')\s*\])""")
_WHOLE = re.compile(r"""(?<!\.)\b(steps|inputs)\b(?!\s*(?:\.|\[\s*["']))""")


class ExpressionError(ValueError):
    """The expression is refused, or does not evaluate; the message is for its author."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """An expression that may run."""

    source: str
    program: cel.Program
    variables: frozenset[str]
    """Free names."""
    inputs: frozenset[str]
    """Members of `inputs` that it names."""
    steps: frozenset[str]
    loops: int
    operators: int


@lru_cache(maxsize=4096)
def compile_expression(source: str) -> Compiled:
    """Check the form of `source` and compile it; `ExpressionError` says what is wrong. Cached."""
    bare = _STRINGS.sub('""', source)
    _check_form(source, bare)
    try:
        program = cel.compile(source)
    except ValueError as error:
        raise ExpressionError(_first_line(error)) from None
    loops = _LOOP.findall(bare)
    members = [(root, a or b or c) for root, a, b, c in _MEMBER.findall(source)]
    if _WHOLE.search(bare):
        raise ExpressionError("`inputs` and `steps` are used by member: `inputs.name`, `steps.id`")
    _check_functions(program)
    return Compiled(
        source,
        program,
        frozenset(program.variables()) - {bound for _, bound in loops},
        frozenset(name for root, name in members if root == "inputs"),
        frozenset(name for root, name in members if root == "steps"),
        len(loops),
        bare.count("+") + bare.count(",") + 1,
    )


def _check_form(source: str, bare: str) -> None:
    if len(source) > LENGTH_MAX:
        raise ExpressionError(f"longer than {LENGTH_MAX} characters")
    depth = loop_depth = 0
    inside: list[bool] = []
    starts = {match.start() + match.group().index("(") for match in _LOOP.finditer(bare)}
    if len(starts) > LOOPS_MAX:
        raise ExpressionError(f"more than {LOOPS_MAX} loops")
    for at, char in enumerate(bare):
        if char in "([{":
            inside.append(at in starts)
            loop_depth += at in starts
            depth += 1
        elif char in ")]}" and inside:
            loop_depth -= inside.pop()
            depth -= 1
        if depth > NESTING_MAX:
            raise ExpressionError(f"nested deeper than {NESTING_MAX}")
        if loop_depth > 1:
            raise ExpressionError("a loop inside a loop")


def _check_functions(program: cel.Program) -> None:
    for name in program.functions():
        if re.fullmatch(r"\w+", name) and not name.startswith("_") and name not in _FUNCTIONS:
            raise ExpressionError(f"unknown function `{name}`")


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]


def evaluate(compiled: Compiled, scope: Mapping[str, Any]) -> Any:
    """The value of an expression over `scope`; `ExpressionError` when it has none. It is handed only what it names."""
    context = {name: _cut(compiled, name, scope) for name in compiled.variables if name in scope}
    _check_work(compiled, context)
    try:
        return compiled.program.execute(context)
    except KeyError as error:
        raise ExpressionError(f"no member {error} in `{compiled.source}`") from None
    except (ValueError, RuntimeError, TypeError, ArithmeticError, LookupError) as error:
        raise ExpressionError(f"{_first_line(error)} in `{compiled.source}`") from None


def evaluate_bool(source: str, scope: Mapping[str, Any]) -> bool:
    """Whether a condition holds; `ExpressionError` when it is no boolean."""
    value = evaluate(compile_expression(source), scope)
    if not isinstance(value, bool):
        raise ExpressionError(f"`{source}` is no condition: it gives {type(value).__name__}")
    return value


def _cut(compiled: Compiled, name: str, scope: Mapping[str, Any]) -> Any:
    members: Collection[str] | None = {"inputs": compiled.inputs, "steps": compiled.steps}.get(name)
    value = scope[name]
    if members is None:
        return value
    return {member: value[member] for member in members if member in value}


def _check_work(compiled: Compiled, context: Mapping[str, Any]) -> None:
    size = _size(context, WORK_MAX)
    work = size * compiled.operators * (size if compiled.loops else 1)
    if work > WORK_MAX:
        raise ExpressionError(f"`{compiled.source}` would read too much")


def _size(value: Any, limit: int) -> int:
    """Values inside `value`, long texts counted by their length; stops counting above `limit`."""
    total, waiting = 0, [value]
    while waiting and total <= limit:
        current = waiting.pop()
        total += 1
        if isinstance(current, Mapping):
            waiting.extend(current.values())
        elif isinstance(current, list | tuple):
            waiting.extend(current)
        elif isinstance(current, str):
            total += len(current) // 64
    return total
