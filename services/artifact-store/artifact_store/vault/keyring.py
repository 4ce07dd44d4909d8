"""The keyring file: the keys above all data keys.

JSON, readable by its owner only, made at the first start. It holds several key-encrypting keys (KEKs) with one active,
and the key of the hash that finds subjects by external id. Losing it loses every secret and every sealed value: it
belongs into the backup, apart from the database.

`artifact_store.vault.rotation.rotate` exchanges the KEKs while no vault is open.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kernel.errors import Permanent, SecretUnavailable
from kernel.ids import Entropy

_KEY_BYTES = 32


class _File(msgspec.Struct, forbid_unknown_fields=True):
    """What stands in the file; keys are base64."""

    active: str
    keks: dict[str, bytes]
    lookup: bytes


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys in memory. Its `repr` shows ids only."""

    active_id: str
    lookup_key: bytes
    """Keys the HMAC that finds a subject by its external id; never rotated, or no subject would be found again."""
    _keks: dict[str, AESGCM]

    @property
    def active(self) -> AESGCM:
        """The KEK that wraps new data keys."""
        return self._keks[self.active_id]

    @property
    def kek_ids(self) -> frozenset[str]:
        """Ids of all keys that open something."""
        return frozenset(self._keks)

    def kek(self, kek_id: str) -> AESGCM:
        """A key by id; `SecretUnavailable` when the keyring does not hold it."""
        try:
            return self._keks[kek_id]
        except KeyError:
            raise SecretUnavailable(f"the keyring holds no key {kek_id}") from None

    def __repr__(self) -> str:
        return f"Keyring(active={self.active_id}, keks={sorted(self._keks)})"


def open_keyring(path: Path, entropy: Entropy, *, create: bool) -> Keyring:
    """Read the keyring; with `create` make one when there is none (first start only: never beside existing rows).

    `Permanent`: `keyring_missing`, `keyring_exposed` (group or others may read it), `keyring_damaged`.
    """
    if create and not path.exists():
        kek_id = _fresh_id(entropy)
        keks = {kek_id: entropy.bytes(_KEY_BYTES)}
        _write(path, _File(active=kek_id, keks=keks, lookup=entropy.bytes(_KEY_BYTES)))
    return _keyring(_read(path))


def add_kek(path: Path, entropy: Entropy) -> Keyring:
    """Add a fresh KEK and make it the active one; the others go on opening what they wrapped."""
    file = _read(path)
    kek_id = _fresh_id(entropy)
    file.keks[kek_id] = entropy.bytes(_KEY_BYTES)
    file.active = kek_id
    _write(path, file)
    return _keyring(file)


def drop_kek(path: Path, kek_id: str) -> Keyring:
    """Remove a KEK that wraps nothing any more (`rewrap` says so); `Permanent("keyring_in_use")` for the active one."""
    file = _read(path)
    if kek_id == file.active:
        raise Permanent("keyring_in_use", "the active key is not dropped")
    file.keks.pop(kek_id, None)
    _write(path, file)
    return _keyring(file)


def _fresh_id(entropy: Entropy) -> str:
    return f"kek_{entropy.bytes(6).hex()}"


def _keyring(file: _File) -> Keyring:
    return Keyring(file.active, file.lookup, {kek_id: AESGCM(key) for kek_id, key in file.keks.items()})


def _read(path: Path) -> _File:
    try:
        with path.open("rb") as opened:
            if stat.S_IMODE(os.fstat(opened.fileno()).st_mode) & 0o077:
                raise Permanent("keyring_exposed", f"others may read {path.name}: chmod 600 it and rotate its keys")
            file = msgspec.json.decode(opened.read(), type=_File)
    except FileNotFoundError:
        raise Permanent("keyring_missing", f"there is no keyring {path.name}") from None
    except msgspec.DecodeError:
        # The decoder's message may quote what it read.
        raise Permanent("keyring_damaged", f"{path.name} is no keyring") from None
    keys = [*file.keks.values(), file.lookup]
    if file.active not in file.keks or any(len(key) != _KEY_BYTES for key in keys):
        raise Permanent("keyring_damaged", f"{path.name} lacks its active key, or a key has the wrong length")
    return file


def _write(path: Path, file: _File) -> None:
    """Replace the file in one step: written beside it, synced, renamed, folder synced."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
        opened.write(msgspec.json.encode(file))
        opened.flush()
        os.fsync(opened.fileno())
    fresh.rename(path)
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
