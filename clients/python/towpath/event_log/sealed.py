"""Sealed values: personal data as it travels in records, opened with the key of its subject.

A box is

    version (1 byte, 0x01) | nonce (12 bytes) | AES-256-GCM ciphertext, its tag (16 bytes) last

with `towpath/sealed/1`, the subject id and the purpose, joined by U+001F, as associated data (UTF-8); the purpose is
`text` for a `Sealed` and `json` for a `SealedBody`. Keys come from `GET /api/v2/subject-keys`, for an API key of level
`events`. After an erasure there is no key, and the value is unreadable for good.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.protobuf.message import Message

from towpath.client import Client
from towpath.errors import Unreadable

TEXT = "text"
JSON = "json"
KEYS_AT_ONCE = 100
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
"""What is none never had a key."""
_VERSION = b"\x01"
_NONCE_BYTES = 12
_SHORTEST = len(_VERSION) + _NONCE_BYTES + 16
_PURPOSES = {"contracts.v1.Sealed": TEXT, "contracts.v1.SealedBody": JSON}

KeyOf = Callable[[str], bytes | None]
"""Subject id to key; None when there is none (any more)."""


def unseal(box: bytes, key: bytes, subject_id: str, purpose: str = TEXT) -> bytes:
    """The plaintext of a box. `Unreadable` when it is damaged, of another subject or made for another purpose."""
    if len(box) < _SHORTEST or box[:1] != _VERSION:
        raise Unreadable("no sealed box of a known version")
    associated = f"towpath/sealed/1\x1f{subject_id}\x1f{purpose}".encode()
    nonce, ciphertext = box[1 : 1 + _NONCE_BYTES], box[1 + _NONCE_BYTES :]
    try:
        return AESGCM(key).decrypt(nonce, ciphertext, associated)
    except InvalidTag:
        raise Unreadable("the box does not open under this key") from None


class SubjectKeys:
    """Keys of subjects, asked for once each. Keep no key for longer than you need it: an erasure ends at its copies."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._kept: dict[str, bytes | None] = {}

    def __call__(self, subject_id: str) -> bytes | None:
        """The key, None when the subject is erased or foreign. Blocks for a call when it is not known."""
        if subject_id not in self._kept:
            self.fetch([subject_id])
        return self._kept[subject_id]

    def fetch(self, subject_ids: Iterable[str]) -> None:
        """Ask for many at once, 100 a call. ApiError `forbidden` for a key without the level `events`."""
        wanted = [id_ for id_ in dict.fromkeys(subject_ids) if id_ not in self._kept]
        self._kept.update(dict.fromkeys(wanted))
        missing = [id_ for id_ in wanted if _UUID.fullmatch(id_)]
        for start in range(0, len(missing), KEYS_AT_ONCE):
            asked = missing[start : start + KEYS_AT_ONCE]
            self._kept.update({id_: base64.b64decode(key) for id_, key in self._client.subject_keys(asked).items()})


def opened(message: Message, key_of: KeyOf) -> dict[str, Any]:
    """What `message` carries sealed, opened: JSON path (`failure.message`) to text or JSON value.

    A value whose key is gone is None. A body that was too long to travel is `{"blob": sha256}`.
    `Unreadable` when a value does not open under its subject's key.
    """
    found: dict[str, Any] = {}
    _open_below(message, "", key_of, found)
    return found


def _open_below(message: Message, path: str, key_of: KeyOf, found: dict[str, Any]) -> None:
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        here = f"{path}.{field.json_name}" if path else field.json_name
        parts: list[tuple[str, Any]] = (
            [(here, value)] if isinstance(value, Message) else [(f"{here}[{i}]", v) for i, v in enumerate(value)]
        )
        for name, part in parts:
            purpose = _PURPOSES.get(field.message_type.full_name)
            if purpose is None:
                _open_below(part, name, key_of, found)
            elif part.box or getattr(part, "blob", ""):
                found[name] = _open(part, purpose, key_of)


def _open(sealed: Any, purpose: str, key_of: KeyOf) -> Any:
    if purpose == JSON and sealed.blob:
        return {"blob": sealed.blob}
    key = key_of(sealed.subject_id)
    if key is None:
        return None
    plaintext = unseal(sealed.box, key, sealed.subject_id, purpose)
    return json.loads(plaintext) if purpose == JSON else plaintext.decode()
