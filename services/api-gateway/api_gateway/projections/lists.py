"""Short lists inside a row, as JSON text."""

from __future__ import annotations

import json
from collections.abc import Iterable


def text_list(values: Iterable[str]) -> str:
    """`["a","b"]`."""
    return json.dumps(list(values), separators=(",", ":"))


def number_list(values: Iterable[int]) -> str:
    """`[1,2]`."""
    return json.dumps(list(values), separators=(",", ":"))
