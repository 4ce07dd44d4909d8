"""How many nodes a broker knows, asked with as little of Kafka's protocol as it takes: one request, one number."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress

_METADATA, _VERSION = 3, 1
_ANSWER_SECONDS = 2.0
_REQUEST = struct.pack(">hhih", _METADATA, _VERSION, 1, -1) + struct.pack(">i", 0)  # no client id, no topics
_FRAME = struct.Struct(">i")


def brokers(port: int) -> int:
    """The number of live nodes that the broker at 127.0.0.1:`port` names; 0 when it does not answer yet."""
    with suppress(OSError, EOFError), socket.create_connection(("127.0.0.1", port), timeout=_ANSWER_SECONDS) as link:
        link.sendall(_FRAME.pack(len(_REQUEST)) + _REQUEST)
        length: int = _FRAME.unpack(_read(link, _FRAME.size))[0]
        body = _read(link, length)
        count: int = _FRAME.unpack_from(body, 4)[0]  # behind the correlation id
        return count
    return 0


def _read(link: socket.socket, size: int) -> bytes:
    parts = b""
    while len(parts) < size:
        part = link.recv(size - len(parts))
        if not part:
            raise EOFError
        parts += part
    return parts
