"""`python -m scheduler`: the scheduler as a process; `python -m scheduler health`: the health of providers."""

import sys

USAGE = "usage: python -m scheduler [health]"


def main(arguments: list[str]) -> int:
    """Run the process that is asked for; its exit code."""
    match arguments:
        case []:
            from scheduler.main import main as run  # noqa: PLC0415 (each process loads its own parts only)
        case ["health"]:
            from scheduler.health_app import main as run  # noqa: PLC0415 (each process loads its own parts only)
        case _:
            print(USAGE, file=sys.stderr)  # noqa: T201 (a command line)
            return 64
    return run()


sys.exit(main(sys.argv[1:]))
