"""Messages that visitors leave, kept as JSON lines beside the shop's log.

Every one that was sent is kept, a second one with the same words too: who reads the file can count them.
`{"at": seconds, "id", "reference", "name", "order", "text"}`
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from demo_shop.orders import ORDERS

_ORDER_IDS = {order.id for order in ORDERS}
_TEXT_CHARS_MAX = 1000


@dataclass(frozen=True, slots=True)
class Message:
    """One message."""

    at: float
    id: str
    reference: str
    name: str
    order: str
    text: str


def faults(form: Mapping[str, str]) -> dict[str, str]:
    """What is wrong with a form, by field. Pure."""
    found = {}
    if not form.get("name", "").strip():
        found["name"] = "Please tell us your name."
    if form.get("order", "").strip() not in _ORDER_IDS:
        found["order"] = "We do not know this order. Order numbers look like CG-1042."
    if not 1 <= len(form.get("text", "").strip()) <= _TEXT_CHARS_MAX:
        found["text"] = f"Please write a message of at most {_TEXT_CHARS_MAX} characters."
    return found


class MessageBook:
    """All messages; what the file holds survives restarts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._messages: list[Message] = []
        self._writing = asyncio.Lock()

    def read(self) -> None:
        """Fill the book from its file; a last line that a crash cut short is dropped. Blocks."""
        if self._path.exists():
            whole = self._path.read_bytes().rpartition(b"\n")[0]
            self._messages = [Message(**json.loads(line)) for line in whole.splitlines()]

    def of(self, reference: str) -> list[Message]:
        """Those with this reference, oldest first."""
        return [message for message in self._messages if message.reference == reference]

    async def leave(self, form: Mapping[str, str], at: float) -> Message:
        """Keep one; durable when it returns."""
        async with self._writing:
            number = f"M-{len(self._messages) + 1:04}"
            given = {name: form.get(name, "").strip() for name in ("reference", "name", "order", "text")}
            message = Message(at, number, given["reference"] or number, given["name"], given["order"], given["text"])
            await asyncio.to_thread(self._append, json.dumps(asdict(message)).encode() + b"\n")
            self._messages.append(message)
            return message

    def _append(self, line: bytes) -> None:
        with self._path.open("ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
