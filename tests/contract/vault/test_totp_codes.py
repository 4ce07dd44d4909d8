"""The contract of `Vault.totp_code`, in process and over gRPC: a window's code leaves once, whoever asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from artifact_store.vault.totp import read_seed
from kernel.domain.ids import ConnectionId
from kernel.errors import Rejected, SecretUnavailable, Temporary
from kernel.store.port import SecretKind, SecretRef
from kernel.store.secret import Secret
from tests.support.stores import ACME, WAYS, OpenedStore, run_opener, store_in

BANK = ConnectionId("connection-bank")
SEED = b"JBSWY3DPEHPK3PXP"
WINDOW_MS = 30_000


@pytest.fixture(params=WAYS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenedStore]:
    async with store_in(tmp_path, request.param) as opened:
        yield opened


async def put_seed(store: OpenedStore, value: bytes = SEED, kind: SecretKind = SecretKind.CREDENTIAL) -> SecretRef:
    return await store.vault.put_secret(ACME, await store.vault.subject_for(ACME, "customer 7"), kind, value)


def code_at(now_ms: int) -> Secret:
    seed = read_seed(SEED.decode())
    return Secret(seed.code(seed.window_at(now_ms)).encode())


async def test_the_code_is_that_of_the_present_window_and_the_seed_stays_inside(store: OpenedStore) -> None:
    ref = await put_seed(store)
    code = await store.runner_vault.totp_code(ref, run_opener(), BANK)
    assert code == code_at(store.clock.now_ms())
    rows = await store.db.fetch_all("SELECT opener, action, kind, outcome FROM vault_audit")
    assert [tuple(row) for row in rows] == [("run", "code", "credential", "granted")]


async def test_a_windows_code_is_given_out_once_to_any_run_and_any_copy_of_the_seed(store: OpenedStore) -> None:
    ref, copy = await put_seed(store), await put_seed(store, b"jbsw y3dp ehpk 3pxp")
    await store.runner_vault.totp_code(ref, run_opener(), BANK)
    store.clock.ms += 1000
    for again, run in ((ref, "run-1"), (copy, "run-2")):
        with pytest.raises(Temporary) as used:
            await store.runner_vault.totp_code(again, run_opener(run=run), BANK)
        assert used.value.code == "totp_window_used"
        assert used.value.delay_seconds == 29.0
    store.clock.ms += 29_000
    assert await store.runner_vault.totp_code(copy, run_opener(run="run-2"), BANK) == code_at(store.clock.now_ms())


async def test_of_many_that_ask_at_once_one_has_the_code(store: OpenedStore) -> None:
    ref = await put_seed(store, kind=SecretKind.INPUT)
    asked = [store.runner_vault.totp_code(ref, run_opener()) for _ in range(6)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(answer, Secret) for answer in answers) == 1
    assert sum(isinstance(answer, Temporary) for answer in answers) == 5


async def test_a_window_that_is_about_to_end_is_waited_out_and_stays_unused(store: OpenedStore) -> None:
    ref = await put_seed(store)
    store.clock.ms += WINDOW_MS - 2000
    with pytest.raises(Temporary) as late:
        await store.runner_vault.totp_code(ref, run_opener(), BANK)
    assert late.value.delay_seconds == 2.0
    store.clock.ms += 2000
    await store.runner_vault.totp_code(ref, run_opener(), BANK)


async def test_whoever_waits_is_not_counted_as_a_try(store: OpenedStore) -> None:
    ref = await put_seed(store)
    for _ in range(3):
        await store.runner_vault.totp_code(ref, run_opener(), BANK)
        for _ in range(5):
            with pytest.raises(Temporary):
                await store.runner_vault.totp_code(ref, run_opener(), BANK)
        store.clock.ms += WINDOW_MS
    with pytest.raises(SecretUnavailable, match="unproven"):
        await store.runner_vault.totp_code(ref, run_opener(), BANK)


async def test_a_clock_that_was_set_back_opens_no_old_window(store: OpenedStore) -> None:
    ref = await put_seed(store)
    await store.runner_vault.totp_code(ref, run_opener(), BANK)
    store.clock.ms -= 10 * WINDOW_MS
    with pytest.raises(Temporary) as used:
        await store.runner_vault.totp_code(ref, run_opener(), BANK)
    assert used.value.delay_seconds == 330.0


async def test_an_old_token_gets_no_code(store: OpenedStore) -> None:
    ref = await put_seed(store)
    store.tokens.current["run-1"] = 2
    with pytest.raises(SecretUnavailable, match="token"):
        await store.runner_vault.totp_code(ref, run_opener(1), BANK)


async def test_what_is_no_seed_makes_no_code(store: OpenedStore) -> None:
    ref = await put_seed(store, b"correct horse battery staple!")
    with pytest.raises(Rejected) as refusal:
        await store.runner_vault.totp_code(ref, run_opener(), BANK)
    assert refusal.value.code == "totp_seed_malformed"
    answer = await put_seed(store, kind=SecretKind.ANSWER)
    with pytest.raises(SecretUnavailable):
        await store.runner_vault.totp_code(answer, run_opener())


async def test_windows_are_forgotten_after_a_day(store: OpenedStore) -> None:
    await store.runner_vault.totp_code(await put_seed(store), run_opener(), BANK)
    assert await store.inside.sweep(store.clock.now_ms() + 86_399_999) == 0
    assert await store.inside.sweep(store.clock.now_ms() + 86_400_000) == 1
