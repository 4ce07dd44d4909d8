"""What libraries of the platform import without the platform ever using it is left out: a quicker start, less memory.

A restart after a death is part of how soon interrupted work goes on, and most of a restart is importing. Only the
platform process calls this, before its imports; nothing here changes what the libraries do for us.
"""

from __future__ import annotations

import sys
from types import ModuleType

_ABSENT = ("rich",)
"""Optional to those who ask for it (structlog's console output); an import finds it missing."""
_EMPTY = {
    "cel.cli": (),
    "liquid.extra.filters.babel": ("Currency", "DateTime", "Number", "Unit"),
}
"""A command line with a prompt of its own, and filters that are not among ours: imported by their packages always."""


def leave_out() -> None:
    """Make the imports of these modules cheap in this process; what is imported already stays."""
    for name in _ABSENT:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # None is how Python spells "not to be found"
    for name, members in _EMPTY.items():
        stand_in = ModuleType(name)
        for member in members:
            setattr(stand_in, member, object)
        sys.modules.setdefault(name, stand_in)
