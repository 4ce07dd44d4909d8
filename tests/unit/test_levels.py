"""What each level of tests runs on: from `integration` up a log, a database and a store are those of the product.

Doubles of them live in `tests/support/doubles` (and `kernel/log/memory.py`, made for the simulator) and are for `unit`
and `contract`. In `chaos` the simulator, the walks and the mutations that both must notice are models by nature;
nothing else is. Imports are followed through everything below `tests`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache

from tests.unit.test_tidy import FILES, PYTHON, imported_by, text_of

REAL = ("tests/integration/", "tests/chaos/", "tests/bench/", "tests/e2e/", "tests/real/")
DOUBLES = ("kernel.log.memory", "tests.support.doubles", "unittest.mock")
MODELS = ("tests.support.simulator", "tests.support.walk", "tests.support.ledger_walk")
OF_MODELS = ("tests/chaos/simulator/", "tests/chaos/small_scope/", "tests/chaos/mutations/")
TELLING = ("end_offset", "fetch_all", "get_bytes", "subject_key", "open_secret", "digests")
"""Methods by which a class shows that it is a log, a database, a store, a vault, or blobs."""


def is_of(module: str, rooms: tuple[str, ...]) -> bool:
    return any(module == room or module.startswith(f"{room}.") for room in rooms)


@cache
def file_of(module: str) -> str:
    """The file of a module of ours below `tests`; empty for everything else, names inside a module included."""
    path = module.replace(".", "/")
    return next((name for name in (f"{path}.py", f"{path}/__init__.py") if name in FILES), "")


@cache
def imports_of(name: str) -> list[str]:
    """The modules that a file imports, each once."""
    return sorted(set(imported_by(name)))


def reached(name: str, *, but_not: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Every module that `name` imports, itself or by others below `tests`, with the file that does so.

    Modules of `but_not` are named, and not looked into.
    """
    seen, waiting = {name}, [name]
    while waiting:
        file = waiting.pop()
        for module in imports_of(file):
            yield module, file
            following = "" if is_of(module, but_not) else file_of(module)
            if following and following not in seen:
                seen.add(following)
                waiting.append(following)


def doubles_of(name: str) -> list[str]:
    """What `name` reaches and must not, as `module, by way of file`."""
    of_models = name.startswith(OF_MODELS)
    forbidden = DOUBLES if of_models else (*DOUBLES, *MODELS)
    found = reached(name, but_not=MODELS if of_models else ())
    return [f"{name}: {module}, by way of {file}" for module, file in found if is_of(module, forbidden)]


def homemade(name: str) -> list[str]:
    """Classes that are shaped like a port and ask no other one of that shape: `file: class.method`."""
    return [
        f"{name}: {found.name}.{method.name}"
        for found in ast.walk(ast.parse(text_of(name)))
        if isinstance(found, ast.ClassDef)
        for method in found.body
        if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef) and method.name in TELLING
        if not any(
            isinstance(node, ast.Attribute) and node.attr == method.name and ast.unparse(node.value) != "self"
            for node in ast.walk(method)
        )
    ]


LEVEL_FILES = [name for name in PYTHON if name.startswith(REAL)]


def test_above_the_contract_level_nothing_stands_in_for_a_log_a_database_or_a_store() -> None:
    assert LEVEL_FILES
    assert not [line for name in LEVEL_FILES for line in doubles_of(name)]


def test_nobody_above_the_contract_level_writes_a_double_of_his_own() -> None:
    used = {file for name in LEVEL_FILES for _, file in reached(name, but_not=(*DOUBLES, *MODELS))}
    assert not [line for name in sorted(used) for line in homemade(name)]


def test_a_double_would_be_noticed() -> None:
    assert doubles_of("tests/unit/kernel/test_fence.py")
    assert doubles_of("tests/support/simulator/world.py")
    assert homemade("tests/support/doubles/reports_log.py")
    assert homemade("tests/support/doubles/runner_world.py")
    assert not homemade("tests/support/processing.py"), "it cuts what another log does"
