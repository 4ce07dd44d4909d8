"""Who is proposed which partitions: evenly, and whatever can stay stays."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kernel.log.kafka.spreading import spread

MEMBERS = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=2),
    st.fixed_dictionaries({"ledger": st.frozensets(st.integers(0, 14)), "facts": st.frozensets(st.integers(0, 5))}),
    min_size=1,
    max_size=7,
)


@given(MEMBERS, st.integers(1, 12), st.integers(1, 4))
def test_every_partition_has_one_member_and_no_member_two_more_than_another(
    owned: dict[str, dict[str, frozenset[int]]], ledger: int, facts: int
) -> None:
    shares = spread({"ledger": ledger, "facts": facts}, owned)
    assert shares.keys() == owned.keys()
    for topic, partitions in (("ledger", ledger), ("facts", facts)):
        given_out = [share[topic] for share in shares.values()]
        assert sorted(partition for share in given_out for partition in share) == list(range(partitions))
        assert max(map(len, given_out)) - min(map(len, given_out)) <= 1


@given(MEMBERS)
def test_what_was_spread_stays_as_it_is(owned: dict[str, dict[str, frozenset[int]]]) -> None:
    ledger = {"ledger": 12}
    once = spread(ledger, owned)
    assert spread(ledger, once) == once


@given(MEMBERS)
def test_what_was_spread_of_several_topics_settles(owned: dict[str, dict[str, frozenset[int]]]) -> None:
    topics = {"ledger": 12, "facts": 5}
    twice = spread(topics, spread(topics, owned))
    assert spread(topics, twice) == twice


def test_a_member_that_joins_takes_only_its_own_share() -> None:
    before = {"a": {"ledger": [0, 1, 2, 3, 4, 5]}, "b": {"ledger": [6, 7, 8, 9, 10, 11]}}
    after = spread({"ledger": 12}, {**before, "c": {}})
    assert {member: len(share["ledger"]) for member, share in after.items()} == {"a": 4, "b": 4, "c": 4}
    assert set(after["a"]["ledger"]) < set(before["a"]["ledger"])
    assert set(after["b"]["ledger"]) < set(before["b"]["ledger"])


def test_what_a_lost_member_had_is_all_that_moves() -> None:
    after = spread({"ledger": 6}, {"b": {"ledger": [2, 3]}, "c": {"ledger": [4, 5]}})
    assert after == {"b": {"ledger": [0, 2, 3]}, "c": {"ledger": [1, 4, 5]}}


def test_one_more_of_one_topic_is_no_more_of_the_next() -> None:
    assert spread({"a-ledger": 1, "b-ledger": 1}, {"a": {}, "b": {}}) == {
        "a": {"a-ledger": [0], "b-ledger": []},
        "b": {"a-ledger": [], "b-ledger": [0]},
    }


def test_more_members_than_partitions_leave_some_with_nothing() -> None:
    shares = spread({"ledger": 1}, {"a": {}, "b": {"ledger": [0]}})
    assert shares == {"a": {"ledger": []}, "b": {"ledger": [0]}}
