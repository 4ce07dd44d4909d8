"""The command `migrate [--check]` of services that own tables."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from kernel.sql.port import Database, Migration, migrate


async def run_migrate(
    open_database: Callable[[], Awaitable[Database]], migrations: Sequence[Migration], *, check: bool
) -> int:
    """Apply what is missing, or only name it; 1 when `check` finds something. Errors are those of `migrate`."""
    db = await open_database()
    try:
        missing = await migrate(db, migrations, check=check)
    finally:
        await db.close()
    for one in missing:
        print(f"{'missing' if check else 'applied'}: {one.component} {one.number} {one.name}")  # noqa: T201 (a command)
    if not missing:
        print("the tables are those of this version")  # noqa: T201 (a command)
    return 1 if missing and check else 0
