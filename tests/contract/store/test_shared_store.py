"""Several processes over one database and one bucket: puts, removals and erasures of equal bytes at any moments."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from artifact_store.blobs.port import BlobStore
from artifact_store.inprocess import Store, open_store
from artifact_store.owned_bytes import STAGED_MS_MAX
from artifact_store.removals import KEPT_MS, STALE_MS
from kernel.domain.ids import SubjectId
from kernel.errors import SecretUnavailable
from kernel.ids import SystemEntropy
from kernel.store.port import PutHeader, SecretKind
from tests.support.components import needs_s3
from tests.support.stores import ACME, CLUSTER, GATEWAY, BrokenLineError, OpenedStore, broken_after, store_in, stream

BYTES = b"the same bytes"
Act = Callable[[], Awaitable[None]]


class Watched:
    """The blobs as one process sees them; `before` is awaited once before its next call of that name."""

    def __init__(self, behind: BlobStore) -> None:
        self._behind = behind
        self.before: dict[str, Act] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._behind, name)

    async def _reach(self, name: str) -> None:
        act = self.before.pop(name, None)
        if act is not None:
            await act()

    async def publish(self, *arguments: Any) -> None:
        await self._reach("publish")
        await self._behind.publish(*arguments)

    async def names(self, sha256s: Sequence[str]) -> list[str]:
        await self._reach("names")
        return await self._behind.names(sha256s)

    async def remove(self, names: Sequence[str]) -> None:
        await self._reach("remove")
        await self._behind.remove(names)
        await self._reach("removed")


@dataclass(frozen=True, slots=True)
class Replicas:
    """Two processes of one store."""

    opened: OpenedStore
    first: Store
    second: Store
    blobs: Watched
    """As the second one sees them."""
    subject: SubjectId
    other: SubjectId

    async def put(self, subject: SubjectId) -> str:
        return (await self.first.bytes.put_bytes(BYTES, PutHeader(subject, GATEWAY))).sha256


@pytest.fixture(params=["in process", pytest.param(CLUSTER, marks=needs_s3)])
async def replicas(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Replicas]:
    async with store_in(tmp_path, request.param) as opened:
        blobs = Watched(opened.inside.bytes._blobs)
        second = await open_store(
            blobs,
            tmp_path / "keyring.json",
            opened.db,
            opened.tokens,
            clock=opened.clock,
            entropy=SystemEntropy(),
        )
        subjects = [await opened.vault.subject_for(ACME, name) for name in ("one", "two")]
        yield Replicas(opened, opened.inside, second, blobs, subjects[0], subjects[1])


@pytest.mark.parametrize("moment", ["names", "remove", "removed"])
async def test_bytes_that_are_put_while_equal_ones_are_removed_are_there(replicas: Replicas, moment: str) -> None:
    sha256 = await replicas.put(replicas.subject)

    async def put() -> None:
        await replicas.put(replicas.other)

    replicas.blobs.before[moment] = put
    await replicas.second.vault.erase_subject(replicas.subject)
    assert moment not in replicas.blobs.before
    assert await replicas.first.bytes.get_bytes(sha256) == BYTES
    assert await replicas.second.bytes.stat(sha256) == len(BYTES)
    await replicas.first.vault.erase_subject(replicas.other)
    assert await replicas.second.bytes.stat(sha256) is None


async def test_bytes_that_were_there_when_they_were_put_are_not_removed_behind_them(replicas: Replicas) -> None:
    sha256 = await replicas.put(replicas.subject)

    async def erase() -> None:
        await replicas.first.vault.erase_subject(replicas.subject)

    replicas.blobs.before["publish"] = erase
    await replicas.second.bytes.put_bytes(BYTES, PutHeader(replicas.other, GATEWAY))
    assert await replicas.first.bytes.get_bytes(sha256) == BYTES


@asynccontextmanager
async def paused(replicas: Replicas, moment: str, work: Awaitable[object]) -> AsyncIterator[None]:
    """The second process stands still at `moment` of `work`, and goes on at the end of the block."""
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def stand_still() -> None:
        reached.set()
        await go_on.wait()

    replicas.blobs.before[moment] = stand_still
    working = asyncio.ensure_future(work)
    await reached.wait()
    yield
    go_on.set()
    await working


@pytest.mark.parametrize("moment", ["names", "remove"])
async def test_a_paused_removal_that_wakes_up_after_another_took_it_over_takes_nothing(
    replicas: Replicas, moment: str
) -> None:
    sha256 = await replicas.put(replicas.subject)
    async with paused(replicas, moment, replicas.second.vault.erase_subject(replicas.subject)):
        replicas.opened.clock.ms += STALE_MS + 1
        await replicas.first.sweep(replicas.opened.clock.now_ms())
        assert await replicas.first.bytes.stat(sha256) is None
        await replicas.put(replicas.other)
        await replicas.put(replicas.other)
    assert await replicas.first.bytes.get_bytes(sha256) == BYTES


@pytest.mark.parametrize("moment", ["names", "remove"])
async def test_a_paused_removal_takes_nothing_however_often_the_bytes_came_and_went(
    replicas: Replicas, moment: str
) -> None:
    sha256 = await replicas.put(replicas.subject)
    async with paused(replicas, moment, replicas.second.vault.erase_subject(replicas.subject)):
        for number in range(4):
            replicas.opened.clock.ms += STALE_MS + 1
            customer = await replicas.opened.vault.subject_for(ACME, f"customer {number}")
            await replicas.put(customer)
            if number < 3:
                await replicas.first.vault.erase_subject(customer)
    assert await replicas.first.bytes.get_bytes(sha256) == BYTES


async def test_an_erasure_waits_for_a_removal_that_another_process_has_begun(replicas: Replicas) -> None:
    sha256 = await replicas.put(replicas.subject)
    async with paused(replicas, "remove", replicas.second.vault.erase_subject(replicas.subject)):
        await replicas.put(replicas.other)
        await replicas.first.vault.erase_subject(replicas.other)
        assert await replicas.first.bytes.stat(sha256) is None
    assert await replicas.first.bytes.stat(sha256) is None


async def test_a_removal_whose_process_died_is_carried_out_by_the_next_sweep(replicas: Replicas) -> None:
    sha256 = await replicas.put(replicas.subject)

    async def die() -> None:
        raise asyncio.CancelledError

    replicas.blobs.before["remove"] = die
    with pytest.raises(asyncio.CancelledError):
        await replicas.second.vault.erase_subject(replicas.subject)
    assert await replicas.first.bytes.stat(sha256) == len(BYTES)
    replicas.opened.clock.ms += STALE_MS + 1
    await replicas.first.sweep(replicas.opened.clock.now_ms(), orphans=False)
    assert await replicas.first.bytes.stat(sha256) is None


async def test_marks_are_forgotten_a_day_later(replicas: Replicas) -> None:
    await replicas.put(replicas.subject)
    await replicas.first.vault.erase_subject(replicas.subject)
    assert await replicas.opened.db.fetch_all("SELECT done FROM blob_removals") == [(1,)]
    replicas.opened.clock.ms += KEPT_MS + 1
    await replicas.second.sweep(replicas.opened.clock.now_ms())
    assert await replicas.opened.db.fetch_all("SELECT * FROM blob_removals") == []


async def test_both_sweep_at_once_and_what_is_named_or_young_stays(replicas: Replicas) -> None:
    header = PutHeader(replicas.subject, GATEWAY)
    named, unnamed = [(await replicas.first.bytes.put_bytes(word, header)).sha256 for word in (b"named", b"unnamed")]
    await replicas.second.bytes.mark_named([named])
    replicas.opened.clock.ms += STAGED_MS_MAX + 1
    young = (await replicas.second.bytes.put_bytes(b"young", header)).sha256
    now_ms = replicas.opened.clock.now_ms()
    await asyncio.gather(*(store.sweep(now_ms) for store in (replicas.first, replicas.second) * 3))
    sizes = [await replicas.first.bytes.stat(sha256) for sha256 in (named, unnamed, young)]
    assert sizes == [5, None, 5]


async def test_an_upload_that_broke_at_one_process_goes_on_at_the_other(replicas: Replicas) -> None:
    header = PutHeader(replicas.subject, GATEWAY, upload_id="upload-1", size=11)
    with pytest.raises(BrokenLineError):
        await replicas.first.bytes.put(broken_after(b"begun "), header)
    offset = await replicas.second.bytes.query_put("upload-1")
    assert offset == 6
    resumed = PutHeader(replicas.subject, GATEWAY, upload_id="upload-1", size=11, offset=offset)
    staged = await replicas.second.bytes.put(stream(b"there"), resumed)
    assert await replicas.first.bytes.get_bytes(staged.sha256) == b"begun there"


async def test_puts_and_an_erasure_at_once_leave_nothing_of_the_erased(replicas: Replicas) -> None:
    for round_ in range(10):
        subject = await replicas.opened.vault.subject_for(ACME, f"leaving {round_}")
        stores = [replicas.first, replicas.second] * 4

        async def put(store: Store, number: int, owner: SubjectId = subject, round_: int = round_) -> str:
            try:
                value = f"{round_} {number % 3}".encode()
                staged = await store.bytes.put_bytes(value, PutHeader(owner, GATEWAY))
                await store.vault.put_secret(ACME, owner, SecretKind.INPUT, b"secret")
            except SecretUnavailable:
                return ""
            return staged.sha256

        puts = [asyncio.create_task(put(store, number)) for number, store in enumerate(stores)]
        await asyncio.gather(*puts[:1])
        await asyncio.gather(replicas.second.vault.erase_subject(subject), *puts)
        db = replicas.opened.db
        assert await db.fetch_all("SELECT * FROM blob_owners WHERE subject_id = ?", (subject,)) == []
        assert await db.fetch_all("SELECT * FROM secrets WHERE subject_id = ?", (subject,)) == []
        for done in puts:
            assert not done.result() or await replicas.first.bytes.stat(done.result()) is None
