"""The table of topics and types, and where keys are placed."""

from __future__ import annotations

import pytest

from kernel.log.topics import TOPICS, TYPES, Topic, Writer, murmur2, partition_of


@pytest.mark.parametrize(
    ("key", "hash_"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_keys_are_hashed_as_kafkas_java_client_hashes_them(key: bytes, hash_: int) -> None:
    assert murmur2(key) == hash_ & 0xFFFFFFFF


def test_a_negative_hash_makes_no_negative_partition() -> None:
    assert partition_of("21", 12) == (-973932308 & 0x7FFFFFFF) % 12


def test_every_topic_is_documented_and_used() -> None:
    assert set(TOPICS) == set(Topic)
    for topic, row in TOPICS.items():
        assert row.key, topic
        assert row.about, topic
    assert {topic for row in TYPES.values() for topic in row.topics} == set(Topic)


def test_each_type_has_one_name_and_stands_somewhere() -> None:
    names = [row.wire for row in TYPES.values()]
    assert len(set(names)) == len(names)
    assert all(row.topics for row in TYPES.values())


def test_each_type_has_one_writer_in_each_topic() -> None:
    rows = [(row.wire, topic) for row in TYPES.values() for topic in row.topics]
    assert len(set(rows)) == len(rows)


def test_only_deciders_write_facts_that_outsiders_read() -> None:
    for row in TYPES.values():
        for topic, writer in row.topics.items():
            if TOPICS[topic].public:
                assert writer in {Writer.ADVANCE, Writer.REGISTRY}, f"{row.wire} in {topic}"


def test_a_decision_stands_in_one_ledger_alone() -> None:
    for row in TYPES.values():
        ledgers = [topic for topic, writer in row.topics.items() if TOPICS[topic].ledger and writer is not Writer.OWNER]
        assert len(ledgers) <= 1, row.wire


def test_wire_names_are_dotted_snake_case() -> None:
    for row in TYPES.values():
        aggregate, _, event = row.wire.partition(".")
        assert aggregate.replace("_", "").isalpha(), row.wire
        assert event.replace("_", "").isalpha(), row.wire
        assert row.wire == row.wire.lower()
