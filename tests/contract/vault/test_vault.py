"""The contract of `Vault`, in process and over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kernel.domain.ids import ConnectionId, SubjectId
from kernel.errors import ConnectionLocked, Rejected, SecretUnavailable, Temporary
from kernel.store.port import GatewayOpener, PutHeader, SecretKind, SecretRef, Session
from kernel.store.secret import Secret
from tests.support.stores import ACME, GATEWAY, NOT_ASSIGNED, OTHER, WAYS, OpenedStore, run_opener, store_in

BANK = ConnectionId("connection-bank")
PASSWORD = b"correct horse battery staple"


@pytest.fixture(params=WAYS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenedStore]:
    async with store_in(tmp_path, request.param) as opened:
        yield opened


@pytest.fixture
async def subject(store: OpenedStore) -> SubjectId:
    return await store.vault.subject_for(ACME, "customer 7")


async def credential(store: OpenedStore, subject: SubjectId, value: bytes = PASSWORD) -> SecretRef:
    return await store.vault.put_secret(ACME, subject, SecretKind.CREDENTIAL, value)


async def audit(store: OpenedStore) -> list[tuple[str, str, str, str, int]]:
    rows = await store.db.fetch_all("SELECT opener, action, kind, outcome, attempt FROM vault_audit ORDER BY at_ms")
    return [(row[0], row[1], row[2], row[3], row[4]) for row in rows]


# ---------------------------------------------------------------- subjects


async def test_one_external_id_is_one_subject_even_when_asked_twice_at_once(store: OpenedStore) -> None:
    found = await asyncio.gather(*[store.vault.subject_for(ACME, "customer 7") for _ in range(8)])
    assert len(set(found)) == 1
    assert await store.vault.subject_for(OTHER, "customer 7") != found[0]
    assert await store.vault.subject_for(ACME) != found[0]
    assert await store.vault.subject_for(ACME) == await store.vault.subject_for(ACME)


async def test_looking_for_a_subject_makes_none(store: OpenedStore, subject: SubjectId) -> None:
    assert await store.vault.find_subject(ACME, "customer 7") == subject
    assert await store.vault.find_subject(ACME, "nobody yet") is None
    assert await store.vault.find_subject(OTHER, "customer 7") is None
    rows = await store.db.fetch_all("SELECT subject_id FROM subjects")
    assert [row[0] for row in rows] == [subject]


async def test_the_external_id_stands_nowhere(store: OpenedStore) -> None:
    subject = await store.vault.subject_for(ACME, "alice@customers.example")
    await store.vault.subject_key(subject, GATEWAY)
    await store.db.scrub()
    for path in store.folder.rglob("*"):
        assert not path.is_file() or b"alice@customers.example" not in path.read_bytes()


async def test_a_subjects_key_is_always_the_same_and_its_own(store: OpenedStore, subject: SubjectId) -> None:
    key = await store.vault.subject_key(subject, GATEWAY)
    assert len(key) == 32
    assert await store.runner_vault.subject_key(subject, run_opener()) == key
    assert await store.vault.subject_key(await store.vault.subject_for(ACME), GATEWAY) != key


async def test_a_foreign_organization_opens_no_key(store: OpenedStore, subject: SubjectId) -> None:
    with pytest.raises(SecretUnavailable):
        await store.vault.subject_key(subject, GatewayOpener(OTHER))
    with pytest.raises(SecretUnavailable):
        await store.runner_vault.subject_key(subject, run_opener(organization_id=OTHER))


async def test_after_an_erasure_nothing_of_the_subject_opens(store: OpenedStore, subject: SubjectId) -> None:
    ref = await credential(store, subject)
    await store.runner_vault.save_session(
        BANK, subject, run_opener(), expected_version=0, state=b"cookies", expires_ms=store.clock.now_ms() + 1000
    )
    await store.vault.erase_subject(subject)
    await store.vault.erase_subject(subject)
    with pytest.raises(SecretUnavailable):
        await store.vault.subject_key(subject, GATEWAY)
    with pytest.raises(SecretUnavailable):
        await store.runner_vault.open_secret(ref, run_opener(), BANK)
    with pytest.raises(SecretUnavailable):
        await credential(store, subject)
    with pytest.raises(SecretUnavailable):
        await store.runner_vault.save_session(
            BANK, subject, run_opener(), expected_version=0, state=b"late", expires_ms=store.clock.now_ms() + 1000
        )
    assert await store.runner_vault.load_session(BANK, run_opener()) is None
    assert await store.vault.subject_for(ACME, "customer 7") != subject


# ---------------------------------------------------------------- secrets


async def test_the_current_attempt_opens_a_credential(store: OpenedStore, subject: SubjectId) -> None:
    ref = await credential(store, subject)
    secret = await store.runner_vault.open_secret(ref, run_opener(), BANK)
    assert secret == Secret(PASSWORD)
    assert secret.reveal_text() == PASSWORD.decode()
    assert await audit(store) == [("run", "open", "credential", "granted", 1)]


async def test_an_old_token_opens_nothing_and_leaves_a_trace(store: OpenedStore, subject: SubjectId) -> None:
    ref = await credential(store, subject)
    store.tokens.current["run-1"] = 2
    with pytest.raises(SecretUnavailable, match="token"):
        await store.runner_vault.open_secret(ref, run_opener(1), BANK)
    assert await audit(store) == [("run", "open", "credential", "refused: the token is not current", 1)]


async def test_a_token_that_was_not_seen_opens_nothing_for_now_and_leaves_a_trace(
    store: OpenedStore, subject: SubjectId
) -> None:
    store.tokens.current["run-1"] = NOT_ASSIGNED
    with pytest.raises(Temporary):
        await store.runner_vault.subject_key(subject, run_opener())
    refusal = ("run", "open", "subject_key", "refused: nobody has assigned the token so far", 1)
    assert set(await audit(store)) == {refusal}
    store.tokens.current["run-1"] = 1
    assert await store.runner_vault.subject_key(subject, run_opener())


async def test_a_foreign_secret_looks_like_none(store: OpenedStore, subject: SubjectId) -> None:
    ref = await credential(store, subject)
    with pytest.raises(SecretUnavailable, match=r"^no such secret$"):
        await store.runner_vault.open_secret(ref, run_opener(organization_id=OTHER), BANK)
    with pytest.raises(SecretUnavailable, match=r"^no such secret$"):
        await store.runner_vault.open_secret(SecretRef("none"), run_opener(), BANK)


async def test_the_gateway_opens_its_own_kind_only_and_runs_all_others(store: OpenedStore, subject: SubjectId) -> None:
    webhook = await store.vault.put_secret(ACME, subject, SecretKind.WEBHOOK, b"whsec")
    assert (await store.vault.open_secret(webhook, GATEWAY)).reveal() == b"whsec"
    with pytest.raises(SecretUnavailable):
        await store.runner_vault.open_secret(webhook, run_opener())
    with pytest.raises(SecretUnavailable):
        await store.vault.open_secret(await credential(store, subject), GATEWAY, BANK)
    secret_input = await store.vault.put_secret(ACME, subject, SecretKind.INPUT, b"pin 1234")
    for _ in range(5):
        assert (await store.runner_vault.open_secret(secret_input, run_opener())).reveal() == b"pin 1234"


async def test_an_answer_opens_once_even_when_two_ask(store: OpenedStore, subject: SubjectId) -> None:
    ref = await store.vault.put_secret(ACME, subject, SecretKind.ANSWER, b"482913", ttl_ms=60_000)
    asked = [store.runner_vault.open_secret(ref, run_opener()) for _ in range(4)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(answer, Secret) for answer in answers) == 1
    assert sum(isinstance(answer, SecretUnavailable) for answer in answers) == 3


async def test_a_secret_expires_and_is_deleted(store: OpenedStore, subject: SubjectId) -> None:
    ref = await store.vault.put_secret(ACME, subject, SecretKind.INPUT, b"short lived", ttl_ms=1000)
    store.clock.ms += 1000
    with pytest.raises(SecretUnavailable):
        await store.runner_vault.open_secret(ref, run_opener())
    assert await store.inside.sweep(store.clock.now_ms()) == 1
    kept = await store.vault.put_secret(ACME, subject, SecretKind.INPUT, b"kept")
    await store.vault.delete_secret(kept)
    await store.vault.delete_secret(kept)
    with pytest.raises(SecretUnavailable):
        await store.runner_vault.open_secret(kept, run_opener())


async def test_a_secret_is_kept_for_longer_while_it_is_there(store: OpenedStore, subject: SubjectId) -> None:
    ref = await store.vault.put_secret(ACME, subject, SecretKind.INPUT, b"short lived", ttl_ms=1000)
    assert await store.vault.keep_secret(ref, ACME, 5000)
    assert await store.vault.keep_secret(ref, ACME, 10)
    assert not await store.vault.keep_secret(ref, OTHER, 5000)
    store.clock.ms += 4999
    assert (await store.runner_vault.open_secret(ref, run_opener())).reveal() == b"short lived"
    store.clock.ms += 1
    assert not await store.vault.keep_secret(ref, ACME, 5000)
    assert not await store.vault.keep_secret(SecretRef("none"), ACME, 5000)


async def test_a_secret_belongs_to_a_subject_of_the_organization(store: OpenedStore, subject: SubjectId) -> None:
    with pytest.raises(SecretUnavailable):
        await store.vault.put_secret(OTHER, subject, SecretKind.INPUT, b"x")


# ---------------------------------------------------------------- the lock-out guard


async def test_the_fourth_unproven_opening_is_refused(store: OpenedStore, subject: SubjectId) -> None:
    ref = await credential(store, subject)
    for attempt in (1, 2, 3):
        store.tokens.current["run-1"] = attempt
        await store.runner_vault.open_secret(ref, run_opener(attempt), BANK)
    store.tokens.current["run-1"] = 4
    with pytest.raises(ConnectionLocked, match="unproven"):
        await store.runner_vault.open_secret(ref, run_opener(4), BANK)
    with pytest.raises(ConnectionLocked, match="unproven"):
        await store.runner_vault.open_secret(await credential(store, subject), run_opener(run="run-2"), BANK)
    await store.vault.credentials_proven(BANK, GATEWAY)
    await store.runner_vault.open_secret(ref, run_opener(4), BANK)


async def test_a_user_name_and_a_password_are_one_round(store: OpenedStore, subject: SubjectId) -> None:
    name, password = await credential(store, subject, b"alice"), await credential(store, subject)
    for _ in range(3):
        await store.runner_vault.open_secret(name, run_opener(), BANK)
        await store.runner_vault.open_secret(password, run_opener(), BANK)
    with pytest.raises(SecretUnavailable, match="unproven"):
        await store.runner_vault.open_secret(name, run_opener(), BANK)


async def test_a_proven_login_lets_counting_begin_anew(store: OpenedStore, subject: SubjectId) -> None:
    ref = await credential(store, subject)
    for _ in range(5):
        await store.runner_vault.open_secret(ref, run_opener(), BANK)
        await store.runner_vault.credentials_proven(BANK, run_opener())


async def test_openings_at_once_are_all_counted(store: OpenedStore, subject: SubjectId) -> None:
    ref = await credential(store, subject)
    asked = [store.runner_vault.open_secret(ref, run_opener(run=f"run-{n}"), BANK) for n in range(6)]
    opened = await asyncio.gather(*asked, return_exceptions=True)
    assert 1 <= sum(isinstance(secret, Secret) for secret in opened) <= 3


async def test_a_credential_opens_for_a_connection_only(store: OpenedStore, subject: SubjectId) -> None:
    with pytest.raises(SecretUnavailable, match="connection"):
        await store.runner_vault.open_secret(await credential(store, subject), run_opener())


# ---------------------------------------------------------------- sessions


async def test_a_session_is_saved_by_version(store: OpenedStore, subject: SubjectId) -> None:
    vault, later_ms = store.runner_vault, store.clock.now_ms() + 1000

    async def save(expected_version: int, state: bytes) -> int:
        return await vault.save_session(
            BANK, subject, run_opener(), expected_version=expected_version, state=state, expires_ms=later_ms
        )

    assert await vault.load_session(BANK, run_opener()) is None
    assert await save(0, b"one") == 1
    assert await save(1, b"two") == 2
    for stale in (0, 1, 3):
        with pytest.raises(Rejected) as refusal:
            await save(stale, b"stale")
        assert refusal.value.code == "session_version_mismatch"
    assert await vault.load_session(BANK, run_opener()) == Session(2, b"two")
    await vault.forget_session(BANK, run_opener())
    assert await vault.load_session(BANK, run_opener()) is None


async def test_an_expired_session_is_none_and_may_be_replaced(store: OpenedStore, subject: SubjectId) -> None:
    vault = store.runner_vault
    until = store.clock.now_ms() + 10
    await vault.save_session(BANK, subject, run_opener(), expected_version=0, state=b"old", expires_ms=until)
    store.clock.ms += 10
    assert await vault.load_session(BANK, run_opener()) is None
    version = await vault.save_session(
        BANK, subject, run_opener(), expected_version=0, state=b"new", expires_ms=until + 1000
    )
    assert await vault.load_session(BANK, run_opener()) == Session(version, b"new")


async def test_an_old_attempt_neither_saves_nor_loads_nor_forgets_a_session(
    store: OpenedStore, subject: SubjectId
) -> None:
    vault, until = store.runner_vault, store.clock.now_ms() + 1000
    await vault.save_session(BANK, subject, run_opener(), expected_version=0, state=b"one", expires_ms=until)
    store.tokens.current["run-1"] = 2
    with pytest.raises(SecretUnavailable):
        await vault.save_session(BANK, subject, run_opener(1), expected_version=1, state=b"late", expires_ms=until)
    with pytest.raises(SecretUnavailable):
        await vault.load_session(BANK, run_opener(1))
    with pytest.raises(SecretUnavailable):
        await vault.forget_session(BANK, run_opener(1))
    assert await vault.load_session(BANK, run_opener(2)) == Session(1, b"one")


async def test_a_foreign_organization_sees_no_session(store: OpenedStore, subject: SubjectId) -> None:
    vault, until = store.runner_vault, store.clock.now_ms() + 1000
    await vault.save_session(BANK, subject, run_opener(), expected_version=0, state=b"one", expires_ms=until)
    foreign = run_opener(organization_id=OTHER)
    with pytest.raises(SecretUnavailable):
        await vault.load_session(BANK, foreign)
    await vault.forget_session(BANK, foreign)
    assert await vault.load_session(BANK, run_opener()) is not None


async def test_a_long_session_fits(store: OpenedStore, subject: SubjectId) -> None:
    state = b"indexed database " * 500_000
    await store.runner_vault.save_session(
        BANK, subject, run_opener(), expected_version=0, state=state, expires_ms=store.clock.now_ms() + 1000
    )
    loaded = await store.runner_vault.load_session(BANK, run_opener())
    assert loaded is not None
    assert loaded.state == state


# ---------------------------------------------------------------- traces


async def test_the_audit_knows_who_and_what_but_no_value_and_no_nonce(store: OpenedStore, subject: SubjectId) -> None:
    ref = await credential(store, subject)
    await store.runner_vault.open_secret(ref, run_opener(), BANK)
    await store.runner_vault.subject_key(subject, run_opener())
    rows = await store.db.fetch_all("SELECT * FROM vault_audit")
    assert len(rows) == 2
    told = repr(rows)
    assert "task-run-1-1" in told
    assert "org-acme" in told
    assert PASSWORD.decode() not in told
    assert run_opener().token.nonce not in told


async def test_no_secret_and_no_key_lies_on_the_disk_in_the_clear(store: OpenedStore, subject: SubjectId) -> None:
    await credential(store, subject)
    key = await store.vault.subject_key(subject, GATEWAY)
    await store.bytes.put_bytes(b"artifact", PutHeader(subject, GATEWAY))
    for path in store.folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert PASSWORD not in content
            assert key not in content
