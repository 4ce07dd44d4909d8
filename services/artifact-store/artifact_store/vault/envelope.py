"""Envelope encryption, pure: one random data key per record version, wrapped by a key of the keyring (the KEK).

    wrapped key = nonce | AES-256-GCM(KEK, data key)        box = nonce | AES-256-GCM(data key, value)

Both carry tenant, kind, id, version and algorithm as associated data, so a row copied to another place does not open.
One data key encrypts one value. Rotation wraps data keys anew and never sees a value.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from artifact_store.vault.keyring import Keyring
from kernel.errors import SecretUnavailable
from kernel.ids import Entropy

ALGORITHM = "AES-256-GCM"
KEY_BYTES = 32
_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class Place:
    """Where an envelope belongs; it opens nowhere else."""

    organization_id: str
    kind: str
    id: str
    version: int = 1

    def associated(self, part: str) -> bytes:
        """Associated data of one part, each field preceded by its length."""
        fields = (self.organization_id, self.kind, self.id, str(self.version), ALGORITHM, part)
        return b"".join(len(field.encode()).to_bytes(4, "big") + field.encode() for field in fields)


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A data key as it is stored."""

    kek_id: str
    wrapped: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """A value as it is stored."""

    key: WrappedKey
    box: bytes


def wrap_key(keyring: Keyring, key: bytes, place: Place, entropy: Entropy) -> WrappedKey:
    """Wrap a data key by the active KEK."""
    return WrappedKey(keyring.active_id, _encrypt(keyring.active, key, place.associated("key"), entropy))


def unwrap_key(keyring: Keyring, key: WrappedKey, place: Place) -> bytes:
    """The data key; `SecretUnavailable` when the KEK is not in the keyring or the row was changed."""
    return _decrypt(keyring.kek(key.kek_id), key.wrapped, place.associated("key"))


def rewrap_key(keyring: Keyring, key: WrappedKey, place: Place, entropy: Entropy) -> WrappedKey:
    """The same data key under the active KEK."""
    return wrap_key(keyring, unwrap_key(keyring, key, place), place, entropy)


def encrypt(keyring: Keyring, value: bytes, place: Place, entropy: Entropy) -> Envelope:
    """Encrypt a value under a fresh data key."""
    key = entropy.bytes(KEY_BYTES)
    return Envelope(
        wrap_key(keyring, key, place, entropy), _encrypt(AESGCM(key), value, place.associated("box"), entropy)
    )


def decrypt(keyring: Keyring, envelope: Envelope, place: Place) -> bytes:
    """The value; `SecretUnavailable` when anything about it was changed."""
    return _decrypt(AESGCM(unwrap_key(keyring, envelope.key, place)), envelope.box, place.associated("box"))


def _encrypt(aead: AESGCM, value: bytes, associated: bytes, entropy: Entropy) -> bytes:
    nonce = entropy.bytes(_NONCE_BYTES)
    return nonce + aead.encrypt(nonce, value, associated)


def _decrypt(aead: AESGCM, box: bytes, associated: bytes) -> bytes:
    try:
        return aead.decrypt(box[:_NONCE_BYTES], box[_NONCE_BYTES:], associated)
    except (InvalidTag, ValueError):
        raise SecretUnavailable("the vault's row was changed or belongs elsewhere") from None
