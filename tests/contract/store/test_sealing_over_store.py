"""Sealing over a real store: what gateway and runner do with it, and what an erasure means for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kernel.errors import SecretUnavailable
from kernel.ids import SystemEntropy
from kernel.sealing import Sealer, SubjectKeys
from tests.support.stores import ACME, GATEWAY, WAYS, OpenedStore, run_opener, store_in

LONG = {"rows": [{"iban": f"DE{n:020}"} for n in range(2000)]}


@pytest.fixture(params=WAYS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenedStore]:
    async with store_in(tmp_path, request.param) as opened:
        yield opened


async def test_what_the_gateway_seals_the_runner_opens_and_the_other_way(store: OpenedStore) -> None:
    subject = await store.vault.subject_for(ACME, "customer 7")
    gateway = Sealer(SubjectKeys(store.vault, store.clock), store.bytes, SystemEntropy(), GATEWAY)
    runner = Sealer(SubjectKeys(store.runner_vault, store.clock), store.runner_bytes, SystemEntropy(), run_opener())
    for one, other in ((gateway, runner), (runner, gateway)):
        assert await other.open_text(await one.seal_text(subject, "customer 7")) == "customer 7"
        for value in ({"short": 1}, LONG):
            assert await other.open_json(await one.seal_json(subject, value)) == value


async def test_after_an_erasure_no_sealed_value_opens(store: OpenedStore) -> None:
    subject = await store.vault.subject_for(ACME, "customer 7")
    keys = SubjectKeys(store.vault, store.clock)
    gateway = Sealer(keys, store.bytes, SystemEntropy(), GATEWAY)
    short, long = await gateway.seal_json(subject, {"short": 1}), await gateway.seal_json(subject, LONG)
    assert (short.blob, long.box) == ("", b"")
    await store.vault.erase_subject(subject)
    keys.forget(subject)
    for body in (short, long):
        with pytest.raises(SecretUnavailable):
            await gateway.open_json(body)
    assert await store.bytes.stat(long.blob) is None


async def test_a_value_is_sealed_without_asking_the_vault_each_time(store: OpenedStore) -> None:
    subject = await store.vault.subject_for(ACME)
    gateway = Sealer(SubjectKeys(store.vault, store.clock), store.bytes, SystemEntropy(), GATEWAY)
    for n in range(50):
        await gateway.seal_text(subject, str(n))
    rows = await store.db.fetch_all("SELECT outcome FROM vault_audit")
    assert rows == [("granted",)]
