"""The servers of a folder of `make up`, for a backup of it or a restore into it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from cluster.endpoints import environment_of
from cluster.layout import Layout
from cluster.servers import Servers
from kernel.errors import LogRefused, Permanent
from kernel.sqlite_guard import FolderLock


@contextmanager
def servers_for_backup(layout: Layout) -> Iterator[Mapping[str, str]]:
    """Where they are: those that `make up` runs, else they are started until the end of the block.

    `Permanent`: `no_cluster` when there is none in the folder, `not_started` when `make up` is not ready yet,
    `component_failed` when one does not start. Blocks.
    """
    if not layout.settings.api_key.exists():
        raise Permanent("no_cluster", f"{layout.data} holds no cluster; TOWPATH_DATA names its folder")
    with ExitStack() as stack:
        try:
            lock = FolderLock(layout.data, "launcher.lock")
        except LogRefused:
            yield environment_of(layout)
            return
        stack.callback(lock.release)
        yield _started(Servers(layout), stack)


@contextmanager
def servers_for_restore(layout: Layout) -> Iterator[Mapping[str, str]]:
    """Where they are, started until the end of the block: new ones, over the keys that belong to the backup.

    `LogRefused` while `make up` runs there, `Permanent`: `keys_missing`, `component_failed`. Blocks.
    """
    keys = layout.keys
    needed = (keys.keyring, keys.of("api-gateway", "pepper"), keys.of("api-gateway", "signing-keys"))
    if missing := [path for path in (*needed, layout.settings.api_key) if not path.exists()]:
        text = f"{missing[0]} is not there: copy `keys`, `api-key` and `organization-id` of the backup's cluster"
        raise Permanent("keys_missing", f"{text} into {layout.data} first")
    with ExitStack() as stack:
        stack.callback(FolderLock(layout.data, "launcher.lock").release)
        yield _started(Servers(layout), stack)


def _started(servers: Servers, stack: ExitStack) -> Mapping[str, str]:
    for part in servers.parts:
        stack.callback(part.stop)
        part.start()
    return servers.environment()
