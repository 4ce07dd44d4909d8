"""`python -m cluster backup FOLDER` and `restore FOLDER`.

Where the cluster is, the environment says, as it says to the services; without `TOWPATH_KAFKA` it is the local cluster
of `make up`, whose servers are started for it when they do not run.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from cluster.backup.local import servers_for_backup, servers_for_restore
from cluster.backup.places import make_place_of_blobs, open_places
from cluster.backup.restoring import restore
from cluster.backup.saving import save
from cluster.layout import read_layout
from kernel.errors import TowpathError

_KEYS = "Keys are not in it: keep the keyring, the pepper of API keys and the signing keys elsewhere."


def run(command: str, folder: str) -> int:
    """Carry out `backup` or `restore`; the exit code."""
    # What the client tries again, as on topics that are new, is no line for an operator; what fails is raised.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        with _environment(command) as environ:
            asyncio.run(_run(command, Path(folder), environ))
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


async def _run(command: str, folder: Path, environ: Mapping[str, str]) -> None:
    if command == "restore" and environ is not os.environ:
        await make_place_of_blobs(environ)
    async with open_places(environ) as places:
        if command == "backup":
            await save(places, folder, _say)
            print(f"The backup is in {folder}. {_KEYS}")
        else:
            await restore(places, folder, _say)
            print("Restored. Start the services with the keys that belong to the backup.")


@contextmanager
def _environment(command: str) -> Iterator[Mapping[str, str]]:
    """`os.environ` itself when it names a cluster, else that of a local one."""
    if os.environ.get("TOWPATH_KAFKA"):
        yield os.environ
        return
    servers = servers_for_backup if command == "backup" else servers_for_restore
    with servers(read_layout()) as where:
        yield {**os.environ, **where}


def _say(line: str) -> None:
    print(f"  {line}", flush=True)


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
