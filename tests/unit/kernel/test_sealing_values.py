"""Sealed values: what opens, what does not, and what the cache of keys promises."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.domain.ids import OrganizationId, SubjectId
from kernel.domain.values import Sealed, SealedBody
from kernel.errors import Permanent, SecretUnavailable
from kernel.ids import SystemEntropy
from kernel.sealing import (
    INLINE_BYTES_MAX,
    PURPOSE_JSON,
    Sealer,
    SubjectCipher,
    SubjectKeys,
    open_body,
    seal,
    seal_body,
    unseal,
)
from kernel.store.port import GatewayOpener, Opener, PutHeader, Staged
from tests.support.reports import TestClock

ALICE, BOB = SubjectId("subject-alice"), SubjectId("subject-bob")
OPENER = GatewayOpener(OrganizationId("org-acme"))
KEY = bytes(range(32))
CHANCE = SystemEntropy()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


class Keys:
    """The one call of a vault that sealing needs."""

    def __init__(self) -> None:
        self.opened: list[tuple[SubjectId, Opener]] = []
        self.erased: set[SubjectId] = set()
        self.refused: set[Opener] = set()
        self.gate = asyncio.Event()
        self.gate.set()

    async def subject_key(self, subject_id: SubjectId, opener: Opener) -> bytes:
        self.opened.append((subject_id, opener))
        await self.gate.wait()
        if subject_id in self.erased or opener in self.refused:
            raise SecretUnavailable("erased")
        return hashlib.sha256(subject_id.encode()).digest()


class Blobs:
    """Bytes in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    async def put_bytes(self, value: bytes, header: PutHeader) -> Staged:
        digest = hashlib.sha256(value).hexdigest()
        self.kept[digest] = value
        return Staged(digest, len(value), "application/octet-stream")

    async def get_bytes(self, sha256: str) -> bytes:
        if sha256 not in self.kept:
            raise Permanent("blob_missing", "there is no such blob")
        return self.kept[sha256]

    async def put(self, chunks: AsyncIterator[bytes], header: PutHeader) -> Staged:
        return await self.put_bytes(b"".join([chunk async for chunk in chunks]), header)

    async def get(self, sha256: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        yield self.kept[sha256]

    async def stat(self, sha256: str) -> int | None:
        return len(self.kept[sha256]) if sha256 in self.kept else None

    async def query_put(self, upload_id: str) -> int:
        return 0

    async def mark_named(self, sha256s: Sequence[str]) -> None:
        """Nothing is swept here."""

    async def unname(self, names: Sequence[str]) -> None:
        """Nothing is swept here."""


def sealer(keys: Keys, clock: TestClock | None = None, **limits: Any) -> tuple[Sealer, SubjectKeys, Blobs]:
    blobs = Blobs()
    kept = SubjectKeys(keys, clock or TestClock(), **limits)  # type: ignore[arg-type]  # only one call of the vault is used
    return Sealer(kept, blobs, CHANCE, OPENER), kept, blobs


@given(st.binary())
def test_what_is_sealed_opens_again(plaintext: bytes) -> None:
    assert unseal(seal(ALICE, KEY, plaintext, CHANCE), KEY) == plaintext


def test_an_absent_value_opens_as_nothing() -> None:
    assert unseal(Sealed(), KEY) == b""
    assert open_body(SubjectCipher(ALICE, KEY), SealedBody()) is None


def test_two_seals_of_one_value_differ() -> None:
    assert seal(ALICE, KEY, b"x", CHANCE) != seal(ALICE, KEY, b"x", CHANCE)


@given(st.data())
def test_one_changed_bit_is_seen(data: st.DataObject) -> None:
    box = bytearray(SubjectCipher(ALICE, KEY).seal(b"personal", CHANCE))
    at = data.draw(st.integers(0, len(box) * 8 - 1))
    box[at // 8] ^= 1 << (at % 8)
    with pytest.raises(SecretUnavailable):
        SubjectCipher(ALICE, KEY).unseal(bytes(box))


@given(st.binary(max_size=40))
def test_noise_is_no_box(noise: bytes) -> None:
    with pytest.raises(SecretUnavailable):
        SubjectCipher(ALICE, KEY).unseal(noise)


def test_a_box_opens_for_its_subject_and_purpose_only() -> None:
    box = SubjectCipher(ALICE, KEY).seal(b"personal", CHANCE)
    for cipher, purpose in ((SubjectCipher(BOB, KEY), "text"), (SubjectCipher(ALICE, KEY), PURPOSE_JSON)):
        with pytest.raises(SecretUnavailable):
            cipher.unseal(box, purpose)
    with pytest.raises(SecretUnavailable):
        SubjectCipher(ALICE, bytes(32)).unseal(box)


def test_an_inline_body_opens_and_a_long_one_is_refused() -> None:
    cipher = SubjectCipher(ALICE, KEY)
    assert open_body(cipher, seal_body(cipher, {"a": [1, None]}, CHANCE)) == {"a": [1, None]}
    with pytest.raises(ValueError, match="inline"):
        seal_body(cipher, "x" * INLINE_BYTES_MAX, CHANCE)
    with pytest.raises(ValueError, match="store"):
        open_body(cipher, SealedBody(ALICE, blob="0" * 64, size=1))


@given(JSON)
async def test_json_of_any_shape_opens_again(value: Any) -> None:
    by, _, _ = sealer(Keys())
    assert await by.open_json(await by.seal_json(ALICE, value)) == value


async def test_a_long_body_is_staged_under_the_digest_of_its_box() -> None:
    by, _, blobs = sealer(Keys())
    secret = "very personal " * 2000
    body = await by.seal_json(ALICE, {"note": secret})
    assert body.box == b""
    assert hashlib.sha256(blobs.kept[body.blob]).hexdigest() == body.blob
    assert body.size == len(blobs.kept[body.blob])
    assert b"very personal" not in blobs.kept[body.blob]
    assert await by.open_json(body) == {"note": secret}


async def test_text_opens_again_and_absent_text_is_empty() -> None:
    by, _, _ = sealer(Keys())
    assert await by.open_text(await by.seal_text(ALICE, "Grüße")) == "Grüße"
    assert await by.open_text(Sealed()) == ""
    assert await by.open_json(SealedBody()) is None


async def test_a_key_is_asked_for_once_even_by_many_at_once() -> None:
    keys = Keys()
    by, _, _ = sealer(keys)
    await asyncio.gather(*[by.seal_text(ALICE, "x") for _ in range(20)])
    await by.seal_text(ALICE, "y")
    assert keys.opened == [(ALICE, OPENER)]


async def test_whoever_waited_for_a_key_that_another_was_refused_asks_for_itself() -> None:
    keys = Keys()
    by, kept, blobs = sealer(keys)
    lapsed = [GatewayOpener(OPENER.organization_id, f"lapsed {number}") for number in range(3)]
    keys.refused.update(lapsed)
    keys.gate.clear()
    late = [asyncio.create_task(Sealer(kept, blobs, CHANCE, one).seal_text(ALICE, "x")) for one in lapsed]
    await asyncio.sleep(0)
    good = [asyncio.create_task(by.seal_text(ALICE, "y")) for _ in range(3)]
    await asyncio.sleep(0)
    keys.gate.set()
    assert [isinstance(one, SecretUnavailable) for one in await asyncio.gather(*late, return_exceptions=True)] == [
        True
    ] * 3
    for one in good:
        assert await by.open_text(await one) == "y"


async def test_a_key_is_asked_for_again_when_it_is_old() -> None:
    keys, clock = Keys(), TestClock()
    by, _, _ = sealer(keys, clock, ttl_seconds=60.0)
    await by.seal_text(ALICE, "x")
    clock.ms += 60_000
    await by.seal_text(ALICE, "x")
    assert len(keys.opened) == 2


async def test_the_least_used_key_goes_first() -> None:
    keys = Keys()
    by, _, _ = sealer(keys, capacity=2)
    for subject in (ALICE, BOB, ALICE, SubjectId("subject-carol"), ALICE, BOB):
        await by.seal_text(subject, "x")
    assert [subject for subject, _ in keys.opened] == [ALICE, BOB, "subject-carol", BOB]


async def test_another_organization_is_not_served_from_the_cache() -> None:
    keys = Keys()
    by, kept, blobs = sealer(keys)
    await by.seal_text(ALICE, "x")
    other = GatewayOpener(OrganizationId("org-other"))
    await Sealer(kept, blobs, CHANCE, other).seal_text(ALICE, "x")
    assert keys.opened == [(ALICE, OPENER), (ALICE, other)]


async def test_an_erased_subject_is_forgotten_at_once_even_while_its_key_is_under_way() -> None:
    keys = Keys()
    by, kept, _ = sealer(keys)
    sealed = await by.seal_text(ALICE, "personal")
    keys.gate.clear()
    kept.forget(ALICE)
    late = asyncio.create_task(by.open_text(sealed))
    await asyncio.sleep(0)
    kept.forget(ALICE)
    keys.gate.set()
    await late
    keys.erased.add(ALICE)
    with pytest.raises(SecretUnavailable):
        await by.open_text(sealed)


async def test_a_refused_opening_is_not_kept() -> None:
    keys = Keys()
    by, _, _ = sealer(keys)
    keys.erased.add(ALICE)
    with pytest.raises(SecretUnavailable):
        await by.seal_text(ALICE, "x")
    keys.erased.clear()
    await by.seal_text(ALICE, "x")
