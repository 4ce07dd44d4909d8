"""`python -m cluster`: the launcher, what `make up` starts; `keys` and `prepare` run once before services start.

`backup` and `restore` are for operators; see `cluster.backup`.
"""

from __future__ import annotations

import sys

_USAGE = "usage: python -m cluster [launch | keys | prepare | backup FOLDER | restore FOLDER]"


def main() -> int:
    """Dispatch to the part that is named; the launcher when none is. Parts import only what they need."""
    match sys.argv[1:] or ["launch"]:
        case ["launch"]:
            from cluster.launcher import launch  # noqa: PLC0415 (a small process stays small)

            return launch()
        case ["prepare"]:
            from cluster.preparing import prepare  # noqa: PLC0415 (the launcher stays small)

            return prepare()
        case ["keys"]:
            from cluster.preparing import make_keys  # noqa: PLC0415 (the launcher stays small)

            return make_keys()
        case ["backup" | "restore" as command, folder]:
            from cluster.backup.command import run  # noqa: PLC0415 (the launcher stays small)

            return run(command, folder)
        case _:
            print(_USAGE, file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main())
