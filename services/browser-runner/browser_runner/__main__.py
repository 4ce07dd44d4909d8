"""`python -m browser_runner`: the watchdog of a runner; `life` is the runner below it, which imports far more."""

from __future__ import annotations

import sys

from kernel.refusing import run_plainly

_USAGE = "usage: python -m browser_runner"


def main() -> int:
    """Dispatch to the part that is named; the watchdog when none is."""
    match sys.argv[1:]:
        case []:
            from browser_runner.watching import watch  # noqa: PLC0415 (a small process stays small)

            return run_plainly("browser-runner", watch)
        case ["life"]:
            from browser_runner.main import main as live  # noqa: PLC0415 (a small process stays small)

            return live()
        case _:
            print(_USAGE, file=sys.stderr)  # noqa: T201 (a command)
            return 2


if __name__ == "__main__":
    sys.exit(main())
