"""The bounds of one append, checked alike by every implementation before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from kernel.log.port import Position, Record

_texts = msgspec.msgpack.Encoder()

RECORD_BYTES_MAX = 64 * 1024
DECISION_BYTES_MAX = RECORD_BYTES_MAX - 2048
"""What a ledger record may weigh: what is derived from it repeats its event under other headers, and must fit, too."""
BATCH_BYTES_MAX = 1024 * 1024

Batches = dict[tuple[str, int], list[Record]]
"""The records of one call by topic and partition, each list in the order of the call."""
Sizes = dict[tuple[str, int], int]
"""What these weigh."""


def record_bytes(record: Record) -> int:
    """Bytes of key, headers and value, with a byte or two for each text. `ValueError` for what UTF-8 cannot hold."""
    return len(record.value) + len(_texts.encode((record.key, record.headers)))


def batches_of(records: Sequence[Record], partitions: Mapping[str, int]) -> tuple[Batches, Sizes]:
    """Split one call by partition.

    `KeyError` for a topic or partition that does not exist, `ValueError` for a record over 64 KiB or more than 1 MiB
    for one partition.
    """
    batches: Batches = {}
    sizes: Sizes = {}
    for record in records:
        stream = (record.topic, record.partition)
        if not 0 <= record.partition < partitions[record.topic]:
            raise KeyError(stream)
        size = record_bytes(record)
        if size > RECORD_BYTES_MAX:
            raise ValueError(f"a record of {size} bytes for {record.topic} is over {RECORD_BYTES_MAX}")
        sizes[stream] = sizes.get(stream, 0) + size
        if sizes[stream] > BATCH_BYTES_MAX:
            raise ValueError(f"{sizes[stream]} bytes in one append for {stream} are over {BATCH_BYTES_MAX}")
        batches.setdefault(stream, []).append(record)
    return batches, sizes


def positions_of(records: Sequence[Record], first_offsets: Mapping[tuple[str, int], int]) -> list[Position]:
    """Where each record of a call stands, in the order of the call, given the first offset per partition."""
    following = dict(first_offsets)
    positions = []
    for record in records:
        stream = (record.topic, record.partition)
        offset = following[stream]
        following[stream] = offset + 1
        positions.append(Position(record.topic, record.partition, offset))
    return positions
