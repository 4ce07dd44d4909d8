"""Erase an end customer from a folder, while the platform is not running: the folder's lock must be free."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack

from api_gateway.idempotency import forget_answers
from embedded.folder import kept_uuid
from embedded.platform import open_ended
from embedded.settings import Settings, read_settings
from embedded.watching import clear_scratch
from kernel.domain.ids import OrganizationId
from kernel.errors import LogRefused, Permanent, Rejected


def erase(external_id: str, organization: str = "") -> int:
    """Delete the data key of `external_id`, secrets, sessions, blobs and kept answers: nothing can be read then.

    `organization` is an id; without one, the customer is of the folder's first organization.
    """
    try:
        settings = read_settings()
        asyncio.run(_erase(settings, external_id, organization))
    except (LogRefused, Permanent, Rejected) as error:
        print(f"towpath: {error}", file=sys.stderr)
        return 1
    print(
        "Erased. What the log still holds cannot be read by anyone; backups of the folder `blobs` are yours to delete."
    )
    return 0


async def _erase(settings: Settings, external_id: str, organization_id: str) -> None:
    async with AsyncExitStack() as stack:
        ground = await open_ended(settings, stack)
        organization = OrganizationId(organization_id or kept_uuid(settings.data / "organization-id", ground.entropy))
        # What a killed browser left there may be the customer's.
        await asyncio.to_thread(clear_scratch, settings)
        await forget_answers(ground.db, organization)
        vault = ground.store.vault
        await vault.erase_subject(await vault.subject_for(organization, external_id))
