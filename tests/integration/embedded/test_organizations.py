"""What an operator types about organizations, typed; the folder is a real one, without a platform over it."""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from api_gateway.auth import Authenticator
from api_gateway.principal import Level, Principal
from embedded.platform import gateway_settings, open_ground
from embedded.settings import Settings
from kernel.redaction import LiveSecrets
from tests.support.typed_commands import typed

UNKNOWN = "00000000-0000-4000-8000-0000000000ff"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder as the platform leaves it when it ends."""
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    asyncio.run(_made(data))
    return data


async def _made(data: Path) -> None:
    async with AsyncExitStack() as stack:
        await open_ground(Settings(data), stack, LiveSecrets())


def told(said: str) -> tuple[str, str]:
    """Organization and key, as they are printed."""
    found = re.fullmatch(r"organization  (\S+)\nAPI key       (\S+)   \(level admin; .*\)\n", said)
    assert found is not None, said
    return found[1], found[2]


async def principals(data: Path, *keys: str) -> list[Principal]:
    async with AsyncExitStack() as stack:
        ground = await open_ground(Settings(data), stack, LiveSecrets())
        pepper = gateway_settings(ground.settings, ground.entropy).pepper
        authenticator = Authenticator(ground.db, pepper, ground.clock)
        return [await authenticator.principal(f"Bearer {key}") for key in keys]


def test_a_further_organization_has_a_key_of_its_own_and_a_way_back(folder: Path) -> None:
    first = told(typed(folder, "create-organization").stdout)
    second = told(typed(folder, "create-organization").stdout)
    again = told(typed(folder, "create-key", first[0]).stdout)
    found = asyncio.run(principals(folder, first[1], second[1], again[1]))
    assert [principal.organization_id for principal in found] == [first[0], second[0], first[0]]
    assert {principal.level for principal in found} == {Level.ADMIN}
    assert len({first[0], second[0]}) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("create-key", UNKNOWN), "there is no organization"),
        (("create-key", "acme"), "is no id of an organization"),
    ],
)
def test_a_key_for_nobody_is_refused(folder: Path, arguments: tuple[str, ...], said: str) -> None:
    refused = typed(folder, *arguments)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert said in refused.stderr


def test_where_there_is_no_towpath_nothing_is_made(tmp_path: Path) -> None:
    refused = typed(tmp_path / "elsewhere", "create-organization")
    assert refused.returncode == 1
    assert "there is no Towpath in" in refused.stderr
    assert not (tmp_path / "elsewhere").exists()


def test_wrong_words_get_the_usage(folder: Path) -> None:
    wrong = typed(folder, "create-organization", "acme")
    assert wrong.returncode == 2
    assert "create-key ORGANIZATION_ID" in wrong.stderr
