"""Exchange the key above the vault of a folder, while the platform is not running: the folder's lock must be free."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack

from artifact_store.vault.rotation import rotate, told
from embedded.platform import open_ground
from embedded.settings import Settings, read_settings
from kernel.errors import LogRefused, Permanent, Rejected
from kernel.redaction import LiveSecrets


def rotate_keyring() -> int:
    """Wrap all data keys by a fresh key; the exit code. It may be broken off and called again."""
    try:
        settings = read_settings()
        print(asyncio.run(_rotate(settings)))
    except (LogRefused, Permanent, Rejected) as error:
        print(f"towpath: {error}", file=sys.stderr)
        return 1
    return 0


async def _rotate(settings: Settings) -> str:
    if not await asyncio.to_thread(settings.database.exists):
        raise Permanent("no_such_folder", f"there is no Towpath in {settings.data}; set TOWPATH_DATA")
    async with AsyncExitStack() as stack:
        ground = await open_ground(settings, stack, LiveSecrets())
        return told(await rotate(ground.db, settings.keyring, ground.entropy))
