"""Exchange the key above the vault of a folder, while the platform is not running: the folder's lock must be free."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack

from artifact_store.vault.rotation import rotate, told
from embedded.platform import open_ended
from embedded.settings import Settings, read_settings
from kernel.errors import LogRefused, Permanent, Rejected


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
    async with AsyncExitStack() as stack:
        ground = await open_ended(settings, stack)
        return told(await rotate(ground.db, settings.keyring, ground.entropy))
