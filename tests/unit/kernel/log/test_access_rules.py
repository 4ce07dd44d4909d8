"""What rules of brokers allow to whom."""

from __future__ import annotations

import pytest

from kernel.log.kafka.access import GATEWAY, PROCESSES, Kind, Need, Right, Rule, allows, nearest_user
from kernel.log.kafka.settings import KafkaSettings
from kernel.log.topics import Topic

USER = "User:towpath-scheduler"
WRITE = Need(Right.WRITE, Kind.TOPIC, "towpath.run_ledger.g1")
LITERAL, PREFIXED = 3, 4
DENY, ALLOW = 2, 3
ANYTHING = 2
SETTINGS = KafkaSettings("127.0.0.1:9092", prefix="mine")


def rule(
    name: str = WRITE.name,
    right: int = Right.WRITE,
    *,
    kind: int = Kind.TOPIC,
    pattern: int = LITERAL,
    user: str = USER,
    host: str = "*",
    permission: int = ALLOW,
) -> Rule:
    return Rule(kind, name, pattern, user, host, right, permission)


@pytest.mark.parametrize(
    "allowing",
    [
        rule(),
        rule("*"),
        rule("towpath.", pattern=PREFIXED),
        rule(user="User:*"),
        rule(right=ANYTHING),
        rule(host="10.0.0.7"),
    ],
)
def test_a_right_is_given_by_name_by_prefix_to_everybody_or_with_all_others(allowing: Rule) -> None:
    assert allows([rule("other"), allowing], USER, WRITE)


@pytest.mark.parametrize(
    "other",
    [
        rule("towpath.run_ledger"),
        rule("towpath.", pattern=LITERAL),
        rule(right=Right.READ),
        rule(kind=Kind.GROUP),
        rule(user="User:towpath-health"),
        rule(permission=DENY),
    ],
)
def test_a_rule_about_something_else_gives_nothing(other: Rule) -> None:
    assert not allows([other], USER, WRITE)


def test_a_denial_counts_before_what_allows_unless_it_is_about_one_host() -> None:
    assert not allows([rule(), rule("towpath.", ANYTHING, pattern=PREFIXED, permission=DENY)], USER, WRITE)
    assert not allows([rule(), rule(user="User:*", permission=DENY)], USER, WRITE)
    assert allows([rule(), rule(host="10.0.0.7", permission=DENY)], USER, WRITE)


def test_who_may_read_or_write_may_look() -> None:
    look = WRITE._replace(right=Right.DESCRIBE)
    assert allows([rule()], USER, look)
    assert not allows([rule()], USER, WRITE._replace(right=Right.DESCRIBE_CONFIGS))


def test_the_user_who_lacks_least_is_named_with_what_is_lacking() -> None:
    needs = [WRITE, WRITE._replace(right=Right.READ), WRITE._replace(right=Right.DELETE)]
    rules = [rule(right=Right.READ, user="User:a"), rule(right=Right.READ, user="User:b"), rule(user="User:b")]
    assert nearest_user(rules, needs) == ("User:b", [needs[2]])
    assert nearest_user([rule("other")], needs) == ("", needs)
    assert nearest_user([], needs) == ("", needs)


def test_needs_have_the_names_of_an_installation() -> None:
    needs = GATEWAY.needs(SETTINGS)
    assert Need(Right.DELETE, Kind.TOPIC, "mine.registry_ledger.g1") in needs
    assert Need(Right.READ, Kind.GROUP, "mine.api-gateway") in needs
    assert str(Need(Right.DESCRIBE_CONFIGS, Kind.TOPIC, "mine.links.g1")) == "describe configs mine.links.g1"
    for one in PROCESSES:
        looked_at = {need.name for need in one.needs(SETTINGS) if need.right is Right.DESCRIBE_CONFIGS}
        assert looked_at == {SETTINGS.broker_topic(topic) for topic in Topic}
