"""What an operator types to exchange the key above the vault; the folder is a real one, without a platform over it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from subprocess import CompletedProcess

from embedded.platform import open_ground
from embedded.settings import Settings
from kernel.domain.ids import SubjectId
from kernel.ids import SystemEntropy
from kernel.redaction import LiveSecrets
from tests.support.stores import ACME, GATEWAY
from tests.support.typed_commands import typed


async def life(data: Path, customer: str) -> tuple[SubjectId, bytes]:
    """What a platform over the folder has of a customer: who it is, and the key."""
    async with AsyncExitStack() as stack:
        vault = (await open_ground(Settings(data), stack, LiveSecrets())).store.vault
        subject = await vault.subject_for(ACME, customer)
        return subject, await vault.subject_key(subject, GATEWAY)


async def typed_beside_a_platform(data: Path) -> CompletedProcess[str]:
    async with AsyncExitStack() as stack:
        await open_ground(Settings(data), stack, LiveSecrets())
        return await asyncio.to_thread(typed, data, "rotate-keyring")


def test_the_key_above_the_vault_is_exchanged_and_what_is_below_it_stays(tmp_path: Path) -> None:
    before = asyncio.run(life(tmp_path, "customer"))
    keyring = (tmp_path / "keyring.json").read_text()
    done = typed(tmp_path, "rotate-keyring")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("is the active key; 1 data keys were wrapped anew.\n")
    assert (tmp_path / "keyring.json").read_text() != keyring
    assert asyncio.run(life(tmp_path, "customer")) == before


def test_nothing_is_exchanged_beside_a_platform_or_in_the_wrong_folder(tmp_path: Path) -> None:
    asyncio.run(life(tmp_path, SystemEntropy().uuid()))
    keyring = (tmp_path / "keyring.json").read_text()
    refused = asyncio.run(typed_beside_a_platform(tmp_path))
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1), refused.stderr
    assert (tmp_path / "keyring.json").read_text() == keyring
    wrong = typed(tmp_path / "mistyped", "rotate-keyring")
    assert (wrong.returncode, "there is no Towpath in" in wrong.stderr) == (1, True)
