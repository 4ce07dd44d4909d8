"""Sealed values: personal data as it travels in records, under the data key of its subject (design 11).

The edges seal and unseal; deciders see references only. Deleting the subject's key makes every copy worthless, in the
log, in backups and at subscribers. A box is

    version (1 byte) | nonce (12 bytes) | AES-256-GCM ciphertext and tag

with subject and purpose as associated data, so a box moved to another subject or kind of field does not open. A nonce
is random; a subject's key stays far below the 2^32 seals that this allows. Small JSON bodies travel inline, larger
boxes are staged as blobs named by the digest of the box.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kernel.clock import Clock
from kernel.domain.ids import OrganizationId, SubjectId
from kernel.domain.values import Sealed, SealedBody
from kernel.errors import SecretUnavailable
from kernel.ids import Entropy
from kernel.store.port import ByteStore, Opener, PutHeader, Vault

INLINE_BYTES_MAX = 16 * 1024
"""Boxes up to this size travel in the record."""

PURPOSE_TEXT = "text"
PURPOSE_JSON = "json"

_VERSION = b"\x01"
_NONCE_BYTES = 12
_OVERHEAD_BYTES = len(_VERSION) + _NONCE_BYTES + 16


class SubjectCipher:
    """The data key of one subject, ready for use; making one costs a key schedule, so keep it."""

    __slots__ = ("_aead", "_associated", "subject_id")

    def __init__(self, subject_id: SubjectId, key: bytes) -> None:
        self.subject_id = subject_id
        self._aead = AESGCM(key)
        self._associated = {purpose: _associated_data(subject_id, purpose) for purpose in (PURPOSE_TEXT, PURPOSE_JSON)}

    def seal(self, plaintext: bytes, entropy: Entropy, purpose: str = PURPOSE_TEXT) -> bytes:
        """A fresh box of `plaintext`."""
        nonce = entropy.bytes(_NONCE_BYTES)
        return _VERSION + nonce + self._aead.encrypt(nonce, plaintext, self._associated[purpose])

    def unseal(self, box: bytes, purpose: str = PURPOSE_TEXT) -> bytes:
        """The plaintext; `SecretUnavailable` when the box is damaged, foreign or made for another purpose."""
        if len(box) < _OVERHEAD_BYTES or box[:1] != _VERSION:
            raise SecretUnavailable("no sealed box of a known version")
        try:
            return self._aead.decrypt(box[1 : 1 + _NONCE_BYTES], box[1 + _NONCE_BYTES :], self._associated[purpose])
        except InvalidTag:
            raise SecretUnavailable("the sealed box does not open under this subject's key") from None


def _associated_data(subject_id: SubjectId, purpose: str) -> bytes:
    return f"towpath/sealed/1\x1f{subject_id}\x1f{purpose}".encode()


def seal(subject_id: SubjectId, key: bytes, plaintext: bytes, entropy: Entropy, purpose: str = PURPOSE_TEXT) -> Sealed:
    """Seal once; callers on a hot path keep a `SubjectCipher`."""
    return Sealed(subject_id, SubjectCipher(subject_id, key).seal(plaintext, entropy, purpose))


def unseal(sealed: Sealed, key: bytes, purpose: str = PURPOSE_TEXT) -> bytes:
    """The plaintext of `sealed`; empty for an absent value. `SecretUnavailable` when it does not open."""
    return SubjectCipher(sealed.subject_id, key).unseal(sealed.box, purpose) if sealed.box else b""


def seal_body(cipher: SubjectCipher, value: Any, entropy: Entropy) -> SealedBody:
    """Seal a JSON value inline; `ValueError` when its box is over 16 KiB (then use `Sealer.seal_json`)."""
    box = cipher.seal(msgspec.json.encode(value), entropy, PURPOSE_JSON)
    if len(box) > INLINE_BYTES_MAX:
        raise ValueError(f"a box of {len(box)} bytes does not travel inline")
    return SealedBody(cipher.subject_id, box=box, size=len(box))


def open_body(cipher: SubjectCipher, body: SealedBody) -> Any:
    """The JSON value of an inline body, None when there is none; `ValueError` for a staged one."""
    if body.blob:
        raise ValueError("a staged body needs the byte store")
    return msgspec.json.decode(cipher.unseal(body.box, PURPOSE_JSON)) if body.box else None


class SubjectKeys:
    """Subjects' ciphers, kept for a while: at most `capacity` of them, each at most `ttl_seconds` old.

    The time limit bounds how long another process can go on sealing for an erased subject. Keys are kept per
    organization, so that one tenant's opening never serves another's. Concurrent misses share one opening; when it is
    refused, which may be for the one that asked, each of the others asks for itself.
    """

    def __init__(self, vault: Vault, clock: Clock, *, capacity: int = 4096, ttl_seconds: float = 300.0) -> None:
        self._vault = vault
        self._clock = clock
        self._capacity = capacity
        self._ttl_ms = ttl_seconds * 1000
        self._kept: OrderedDict[tuple[OrganizationId, SubjectId], tuple[float, SubjectCipher]] = OrderedDict()
        self._opening: dict[tuple[OrganizationId, SubjectId], asyncio.Task[SubjectCipher]] = {}

    async def cipher(self, subject_id: SubjectId, opener: Opener) -> SubjectCipher:
        """The subject's cipher; asks the vault on a miss and raises what it raises."""
        slot = (opener.organization_id, subject_id)
        while True:
            kept = self._kept.get(slot)
            if kept is not None and kept[0] > self._clock.boot_ms():
                self._kept.move_to_end(slot)
                return kept[1]
            opening = self._opening.get(slot)
            if opening is None:
                opening = self._opening[slot] = asyncio.create_task(self._open(slot, opener))
                opening.add_done_callback(lambda done: self._opened(slot, done))
                return await asyncio.shield(opening)
            try:
                return await asyncio.shield(opening)
            except SecretUnavailable:
                continue

    def forget(self, subject_id: SubjectId) -> None:
        """Drop the key at once: the subject is being erased."""
        for slot in [slot for slot in self._kept if slot[1] == subject_id]:
            del self._kept[slot]
        for slot in [slot for slot in self._opening if slot[1] == subject_id]:
            del self._opening[slot]

    async def _open(self, slot: tuple[OrganizationId, SubjectId], opener: Opener) -> SubjectCipher:
        return SubjectCipher(slot[1], await self._vault.subject_key(slot[1], opener))

    def _opened(self, slot: tuple[OrganizationId, SubjectId], done: asyncio.Task[SubjectCipher]) -> None:
        if self._opening.get(slot) is not done:
            return  # The subject was forgotten while its key was under way.
        del self._opening[slot]
        if done.cancelled() or done.exception() is not None:
            return
        self._kept[slot] = (self._clock.boot_ms() + self._ttl_ms, done.result())
        self._kept.move_to_end(slot)
        while len(self._kept) > self._capacity:
            self._kept.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Sealer:
    """Seals and opens for one opener: an organization at the gateway, one attempt in the runner. Cheap to make."""

    keys: SubjectKeys
    store: ByteStore
    entropy: Entropy
    opener: Opener

    async def seal_text(self, subject_id: SubjectId, text: str) -> Sealed:
        """Seal a short text: an external id, an error text, a display name."""
        cipher = await self.keys.cipher(subject_id, self.opener)
        return Sealed(subject_id, cipher.seal(text.encode(), self.entropy, PURPOSE_TEXT))

    async def open_text(self, sealed: Sealed) -> str:
        """The text; empty for an absent value. `SecretUnavailable` when erased or damaged."""
        if not sealed.box:
            return ""
        cipher = await self.keys.cipher(sealed.subject_id, self.opener)
        return cipher.unseal(sealed.box, PURPOSE_TEXT).decode()

    async def seal_json(self, subject_id: SubjectId, value: Any) -> SealedBody:
        """Seal a JSON value of any size; a box over 16 KiB is staged as a blob before this returns."""
        cipher = await self.keys.cipher(subject_id, self.opener)
        box = cipher.seal(msgspec.json.encode(value), self.entropy, PURPOSE_JSON)
        if len(box) <= INLINE_BYTES_MAX:
            return SealedBody(subject_id, box=box, size=len(box))
        staged = await self.store.put_bytes(box, PutHeader(subject_id, self.opener))
        return SealedBody(subject_id, blob=staged.sha256, size=staged.size)

    async def open_json(self, body: SealedBody) -> Any:
        """The JSON value, fetched when staged; None when there is none. `SecretUnavailable` when erased or damaged."""
        if not body.box and not body.blob:
            return None
        cipher = await self.keys.cipher(body.subject_id, self.opener)
        box = body.box or await self.store.get_bytes(body.blob)
        return msgspec.json.decode(cipher.unseal(box, PURPOSE_JSON))
