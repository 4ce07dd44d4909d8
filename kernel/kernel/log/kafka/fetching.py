"""Single questions about one partition: records from an offset on, where it begins and ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aiokafka.protocol.admin import DeleteRecordsRequest
from aiokafka.protocol.offset import OffsetRequest

from kernel.errors import LogRefused
from kernel.log.kafka.brokers import Brokers, Stream
from kernel.log.kafka.records import stored_records
from kernel.log.kafka.wire import Code, Fetched, FetchRequest, name_of
from kernel.log.port import Stored

EARLIEST, LATEST = -2, -1
_RECORD_BYTES = 1024
"""What a record weighs, roughly: decides how much is fetched for a number of records."""
_FETCH_BYTES_MAX = 1024 * 1024
_READ_BYTES_MAX = 4 * 1024 * 1024
_UNCOMMITTED = 0
_DELETE_MS = 3000
"""How long replicas that are behind are waited for; they follow in any case."""
_DELETE = "delete"
"""The lane of what may take so long."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Records, and where to read on; with none, that is where the partition ends, or before."""

    found: list[Stored]
    following: int


class Fetcher:
    """Asks whoever leads a partition. Raises `LogUnavailable` and `LogRefused` as the port says."""

    def __init__(self, brokers: Brokers) -> None:
        self._brokers = brokers

    async def offset_at(self, stream: Stream, place: int) -> int:
        """The offset of the first record (`EARLIEST`), or behind the last one that all replicas have (`LATEST`)."""
        topic, partition = stream
        request = OffsetRequest(-1, _UNCOMMITTED, [(topic, [(partition, place)])])
        answer = await self._brokers.ask_leader(stream, lambda: request, _offset_code)
        code = _offset_code(answer)
        if code != Code.NONE:
            raise LogRefused(f"{topic}/{partition}: {name_of(code)}")
        return int(answer.topics[0][1][0][3])

    async def delete_before(self, stream: Stream, offset: int) -> None:
        """Let go what stands below `offset`, which is not behind the end."""
        topic, partition = stream
        request = DeleteRecordsRequest([(topic, [(partition, offset)])], _DELETE_MS)
        code = _delete_code(await self._brokers.ask_leader(stream, lambda: request, _delete_code, _DELETE))
        if code not in (Code.NONE, Code.REQUEST_TIMED_OUT):
            raise LogRefused(f"{topic}/{partition}: {name_of(code)}")

    async def read(self, stream: Stream, topic: str, offset: int, max_records: int) -> Reading:
        """What stands from `offset` on, up to `max_records` or some MiB; `topic` is its name in what is read."""
        found: list[Stored] = []
        size = 0
        while len(found) < max_records and size < _READ_BYTES_MAX:
            left = max_records - len(found)
            fetched = await self._fetch(stream, offset, min(left * _RECORD_BYTES, _FETCH_BYTES_MAX))
            if fetched.code == Code.OFFSET_OUT_OF_RANGE:
                start, end = await self.offset_at(stream, EARLIEST), await self.offset_at(stream, LATEST)
                if offset >= start:
                    return Reading(found, min(offset, end))
                offset = start
                continue
            more, offset = stored_records(topic, fetched, offset, left)
            found += more
            size += len(fetched.records)
            if not fetched.records or offset >= fetched.high_watermark:
                return Reading(found, offset if found else min(offset, fetched.high_watermark))
        return Reading(found, offset)

    async def _fetch(self, stream: Stream, offset: int, most: int) -> Fetched:
        topic, partition = stream

        def request() -> FetchRequest:
            if offset > 0:
                self._brokers.refuse_recreated(topic)
            wanted = {self._brokers.topic_id(topic): [(partition, offset, most)]}
            return FetchRequest(wanted, max_bytes=_FETCH_BYTES_MAX)

        answer = await self._brokers.ask_leader(stream, request, _fetch_code)
        fetched: Fetched = answer.partitions[0]
        if fetched.code not in (Code.NONE, Code.OFFSET_OUT_OF_RANGE):
            raise LogRefused(f"{topic}/{partition}: {name_of(fetched.code)}")
        return fetched


def _offset_code(answer: Any) -> int:
    return int(answer.topics[0][1][0][1])


def _delete_code(answer: Any) -> int:
    return int(answer.topics[0][1][0][2])


def _fetch_code(answer: Any) -> int:
    return int(answer.code or answer.partitions[0].code)
