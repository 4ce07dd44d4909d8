"""`python -m cluster backup FOLDER` and `restore FOLDER`.

Where the cluster is, the environment says, as it says to the services; without `TOWPATH_KAFKA` it is the local cluster
of `make up`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from cluster.backup.places import open_places
from cluster.backup.restoring import restore
from cluster.backup.saving import save
from cluster.layout import read_layout
from cluster.servers import Servers
from kernel.errors import TowpathError

_KEYS = "Keys are not in it: keep the keyring, the pepper of API keys and the signing keys elsewhere."


def run(command: str, folder: str) -> int:
    """Carry out `backup` or `restore`; the exit code."""
    try:
        asyncio.run(_run(command, Path(folder)))
    except (TowpathError, OSError) as error:
        return _complain(error)
    except ExceptionGroup as errors:
        expected, other = errors.split((TowpathError, OSError))
        if other is not None or expected is None:
            raise
        return _complain(_first(expected))
    return 0


def _complain(error: BaseException) -> int:
    print(f"towpath: {error}", file=sys.stderr)
    return 1


async def _run(command: str, folder: Path) -> None:
    async with open_places(_environment()) as places:
        if command == "backup":
            await save(places, folder, _say)
            print(f"The backup is in {folder}. {_KEYS}")
        else:
            await restore(places, folder, _say)
            print("Restored. Start the services with the keys that belong to the backup.")


def _environment() -> Mapping[str, str]:
    if os.environ.get("TOWPATH_KAFKA"):
        return os.environ
    return {**os.environ, **Servers(read_layout()).environment()}


def _say(line: str) -> None:
    print(f"  {line}", flush=True)


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
