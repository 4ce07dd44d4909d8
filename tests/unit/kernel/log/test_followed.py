"""The records of one followed partition in memory: what readers get is what a plain list would give them."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.log.kafka import following
from kernel.log.kafka.following import Followed
from kernel.log.port import Record, Stored


def followed(begin: int = 0) -> Followed:
    return Followed(("facts", 0), "facts", UUID(int=1), begin, begin, 0.0, handed=begin)


def stored(offset: int, size: int = 10) -> Stored:
    return Stored(Record("facts", 0, str(offset), (), b"x" * size), offset, 0)


gaps = st.lists(st.integers(0, 3), min_size=1, max_size=30)
reads = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 10)), max_size=20)


@given(st.lists(gaps, min_size=1, max_size=6), reads)
def test_a_reader_gets_what_stands_from_its_offset_on_whatever_gaps_there_are(
    batches: list[list[int]], reads: list[tuple[int, int]]
) -> None:
    partition, everything, offset = followed(), [], 0
    for batch in batches:
        records = []
        for gap in batch:
            offset += gap
            records.append(stored(offset))
            offset += 1
        partition.extend(records, offset)
        everything += records
        for begin, count in reads:
            assert partition.since(begin, count) == [one for one in everything if one.offset >= begin][:count]
    assert partition.bytes_unread == sum(522 for one in everything if one.offset >= partition.handed)
    assert partition.bytes_kept == 522 * len(partition.records)


def test_what_is_unread_is_never_let_go_and_what_was_read_is_let_go_when_it_is_too_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(following, "KEPT_BYTES", 10_000)
    monkeypatch.setattr(following, "ROOM_BYTES", 20_000)
    partition = followed()
    partition.extend([stored(offset, 488) for offset in range(40)], 40)
    assert not partition.has_room
    assert partition.since(0, 15) == [stored(offset, 488) for offset in range(15)]
    assert partition.since(0, 1) is None, "half of what was read is gone"
    assert partition.since(10, 1) == [stored(10, 488)]
    assert partition.since(15, 100) == [stored(offset, 488) for offset in range(15, 40)]
    assert partition.has_room
    assert partition.bytes_kept <= 26_000


def test_deleted_records_are_not_handed_out() -> None:
    partition = followed(5)
    partition.extend([stored(offset) for offset in range(5, 10)], 10)
    partition.drop_before(7)
    assert partition.since(5, 10) is None
    assert partition.since(7, 10) == [stored(offset) for offset in range(7, 10)]
    partition.drop_before(99)
    assert partition.since(10, 10) == []
    partition.extend([stored(10)], 11)
    assert partition.since(10, 10) == [stored(10)]
