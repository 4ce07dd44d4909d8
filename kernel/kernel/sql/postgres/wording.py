"""Shared SQL text as PostgreSQL reads it: `?` becomes `$1`, `$2`, ... wherever it stands for a parameter."""

from __future__ import annotations

import re
from functools import lru_cache

_TOKEN = re.compile(
    r"""'(?:[^']|'')*'            # a text
      | "(?:[^"]|"")*"            # a quoted name
      | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$   # a function's body
      | --[^\n]*                  # a comment
      | /\*.*?\*/
      | \?                        # a parameter
    """,
    re.VERBOSE | re.DOTALL,
)
_DELETED_FROM = re.compile(r"\s*DELETE\s+FROM\s+(\w+)", re.IGNORECASE)

_COPY = re.compile(r"COPY (\w+) \(([\w, ]+)\) FROM STDIN")


@lru_cache(maxsize=4096)
def numbered(sql: str) -> str:
    """`sql` with numbered parameters."""
    count = 0

    def number(token: re.Match[str]) -> str:
        nonlocal count
        if token[0] != "?":
            return token[0]
        count += 1
        return f"${count}"

    return _TOKEN.sub(number, sql)


@lru_cache(maxsize=4096)
def deleted_from(sql: str) -> str:
    """The table that a statement deletes rows from; empty for every other statement."""
    found = _DELETED_FROM.match(sql)
    return found[1] if found else ""


@lru_cache(maxsize=4096)
def copied_into(sql: str) -> tuple[str, tuple[str, ...]] | None:
    """Table and columns of a `COPY table (a, b) FROM STDIN`; None for every other statement."""
    found = _COPY.fullmatch(sql)
    return (found[1], tuple(found[2].split(", "))) if found else None


def changed(status: str) -> int:
    """How many rows a statement has changed, by the tag of its answer: `INSERT 0 3`, `UPDATE 2`, `CREATE TABLE`."""
    number = status.rpartition(" ")[2]
    return int(number) if number.isdigit() else 0
