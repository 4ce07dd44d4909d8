"""Records as bytes of a batch and back."""

from __future__ import annotations

from collections.abc import Sequence

from aiokafka.errors import KafkaError
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from kernel.errors import LogRefused
from kernel.log.kafka.wire import Fetched
from kernel.log.port import Record, Stored

BATCH_ROOM_BYTES = 4 * 1024 * 1024
"""What the records of one append may take at the broker: short ones weigh more there than the port counts."""
_HEADER_ROOM = 1024


def batch_bytes(records: Sequence[Record], now_ms: int, producer: tuple[int, int, int]) -> bytes:
    """One batch of `records` under (producer id, epoch, first sequence number)."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=0,
        producer_id=producer[0],
        producer_epoch=producer[1],
        base_sequence=producer[2],
        batch_size=BATCH_ROOM_BYTES - _HEADER_ROOM,
    )
    for index, record in enumerate(records):
        headers = [(name, text.encode()) for name, text in record.headers]
        added = builder.append(index, timestamp=now_ms, key=record.key.encode(), value=record.value, headers=headers)
        if added is None:
            raise ValueError(
                f"{len(records)} records for {record.topic} are over {BATCH_ROOM_BYTES} bytes in one batch"
            )
    return bytes(builder.build())


def stored_records(
    topic: str, fetched: Fetched, offset: int, max_records: int | None = None
) -> tuple[list[Stored], int]:
    """The records of an answer from `offset` on, and the offset to read on at. `LogRefused` for bytes nobody can read.

    Batches are checked against their CRC. What an aborted transaction wrote and the marks that end transactions are
    left out: nobody of ours writes either, but offsets have gaps where somebody did. Nothing of ours is compressed, and
    topics keep batches as they are sent (`compression.type=producer`).
    """
    found: list[Stored] = []
    following = offset
    aborted = _Aborted(fetched.aborted)
    batches = MemoryRecords(fetched.records)
    while batches.has_next() and (max_records is None or len(found) < max_records):
        batch = batches.next_batch()
        if not isinstance(batch, DefaultRecordBatch) or not batch.validate_crc():
            raise LogRefused(f"a batch of {topic}/{fetched.partition} at offset {following} is damaged")
        if batch.next_offset <= offset:
            continue
        if not aborted.hides(batch):
            try:
                found += _records_of(topic, fetched.partition, batch, offset)
            except KafkaError as error:
                where = f"{topic}/{fetched.partition} at offset {following}"
                raise LogRefused(f"a batch of {where} cannot be read: {error}") from error
        following = batch.next_offset
    if max_records is not None and len(found) > max_records:
        del found[max_records:]
        following = found[-1].offset + 1
    return found, following


def _records_of(topic: str, partition: int, batch: DefaultRecordBatch, offset: int) -> list[Stored]:
    return [
        Stored(
            Record(
                topic,
                partition,
                _text(record.key),
                _headers(record.headers),
                record.value or b"",
            ),
            record.offset,
            record.timestamp,
        )
        for record in batch
        if record.offset >= offset
    ]


def _headers(headers: Sequence[tuple[str, bytes | None]]) -> tuple[tuple[str, str], ...]:
    """A dozen a record: without a call for each. Only foreign ones have no value, or one that is no UTF-8."""
    try:
        return tuple([(name, value.decode()) for name, value in headers])  # type: ignore[union-attr]  # caught
    except (AttributeError, UnicodeDecodeError):
        return tuple([(name, _text(value)) for name, value in headers])


def _text(value: bytes | None) -> str:
    """Foreign bytes that are no UTF-8 must not stop a partition."""
    if value is None:
        return ""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode(errors="replace")


class _Aborted:
    """Which batches belong to aborted transactions, as their answer lists them."""

    def __init__(self, transactions: Sequence[tuple[int, int]]) -> None:
        self._coming = sorted(transactions, key=lambda transaction: transaction[1], reverse=True)
        self._open: set[int] = set()

    def hides(self, batch: DefaultRecordBatch) -> bool:
        """Whether no reader sees `batch`. To be asked of each batch in order."""
        while self._coming and self._coming[-1][1] <= batch.base_offset:
            self._open.add(self._coming.pop()[0])
        if batch.is_control_batch:
            self._open.discard(batch.producer_id)
            return True
        return batch.is_transactional and batch.producer_id in self._open
