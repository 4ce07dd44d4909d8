"""What an operator does about organizations, while the platform is not running: the folder's lock must be free.

A further organization is an id with a first key of level admin; with that its people make their own keys by REST. The
same makes a way back into an organization whose keys are lost.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack

from api_gateway.key_store import KeyStore
from embedded.platform import gateway_settings, open_ended
from embedded.settings import Settings, read_settings
from kernel.errors import LogRefused, Permanent, Rejected


def create_admin_key(organization: str = "") -> int:
    """Print a key of level admin: of `organization` (a UUID), or of a new one. The exit code."""
    try:
        organization, key = asyncio.run(_create(read_settings(), organization))
    except (LogRefused, Permanent, Rejected) as error:
        print(f"towpath: {error.args[0]}", file=sys.stderr)
        return 1
    print(f"organization  {organization}")
    print(f"API key       {key}   (level admin; shown once, kept nowhere)")
    return 0


async def _create(settings: Settings, organization: str) -> tuple[str, str]:
    async with AsyncExitStack() as stack:
        ground = await open_ended(settings, stack)
        store = KeyStore(ground.db, gateway_settings(settings, ground.entropy).pepper, ground.clock, ground.entropy)
        created = await store.create_by_operator(organization)
        return created.answer.organization_id, created.text
