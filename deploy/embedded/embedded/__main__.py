"""`python -m embedded`: the launcher; `watchdog`, `platform` and `demo` are its parts, the rest is for the operator."""

from __future__ import annotations

import sys

_USAGE = """usage: python -m embedded [launch]
       python -m embedded create-organization
       python -m embedded create-key ORGANIZATION_ID
       python -m embedded erase-subject EXTERNAL_ID [ORGANIZATION_ID]
       python -m embedded rotate-keyring"""


def main() -> int:
    """Dispatch to the part that is named; the launcher when none is. Parts import only what they need."""
    part, *rest = sys.argv[1:] or ["launch"]
    match part:
        case "launch":
            from embedded.launcher import launch  # noqa: PLC0415 (a small process stays small)

            return launch()
        case "watchdog":
            from embedded.watching import watch  # noqa: PLC0415 (a small process stays small)

            return watch()
        case "platform":
            from embedded.slim import leave_out  # noqa: PLC0415 (before the imports of the platform)

            leave_out()
            from embedded.platform import main as run_platform  # noqa: PLC0415 (a small process stays small)

            run_platform()
            return 0
        case "demo":
            from embedded.showing import show_demo  # noqa: PLC0415 (a small process stays small)

            return show_demo()
        case "erase-subject" if len(rest) in {1, 2}:
            from embedded.erasing import erase  # noqa: PLC0415 (a small process stays small)

            return erase(*rest)
        case "rotate-keyring" if not rest:
            from embedded.rotating import rotate_keyring  # noqa: PLC0415 (a small process stays small)

            return rotate_keyring()
        case "create-organization" if not rest:
            from embedded.organizations import create_admin_key  # noqa: PLC0415 (a small process stays small)

            return create_admin_key()
        case "create-key" if len(rest) == 1:
            from embedded.organizations import create_admin_key  # noqa: PLC0415 (a small process stays small)

            return create_admin_key(rest[0])
        case _:
            print(_USAGE, file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main())
