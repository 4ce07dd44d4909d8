"""The registry says once that a provider is degraded and once that it has recovered, whatever it hears again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kernel.domain.provider import ProviderRegistered, RegisterMode
from kernel.domain.provider_health import (
    TRANSITIONS,
    HealthWindow,
    ProviderDegraded,
    ProviderHealth,
    ProviderHealthObserved,
    ProviderRecovered,
    ProviderStatus,
)
from tests.support.registry import ACME, GUSTO, RIVAL, Registry, register_provider

BAD = tuple(HealthWindow(minutes, succeeded=1, failed=9) for minutes in (1, 15, 60))
GOOD = tuple(HealthWindow(minutes, succeeded=9, failed=1) for minutes in (1, 15, 60))
UNSURE = tuple(HealthWindow(minutes, succeeded=6, failed=4) for minutes in (1, 15, 60))


def seen(at_ms: int, windows: tuple[HealthWindow, ...]) -> ProviderHealthObserved:
    return ProviderHealthObserved(ACME, GUSTO, at_ms, windows)


def test_a_provider_becomes_degraded_and_recovers_with_the_numbers_that_decided() -> None:
    registry = Registry()
    assert registry.facts(seen(1, UNSURE)) == []
    assert registry.facts(seen(2, BAD)) == [ProviderDegraded(ACME, GUSTO, 2, BAD)]
    assert registry.facts(seen(3, BAD)) == []
    assert registry.facts(seen(4, UNSURE)) == []
    assert registry.facts(seen(5, GOOD)) == [ProviderRecovered(ACME, GUSTO, 5, 2, GOOD)]
    assert registry.facts(seen(6, GOOD)) == []
    assert [decision.sequence for decision in registry.ledger] == [1, 2]


def test_an_observation_from_before_the_last_change_changes_nothing() -> None:
    registry = Registry()
    registry.facts(seen(20, BAD))
    registry.facts(seen(30, GOOD))
    assert registry.facts(seen(25, BAD)) == []
    assert registry.facts(seen(31, BAD)) == [ProviderDegraded(ACME, GUSTO, 31, BAD)]


def test_health_is_kept_for_each_organization_and_moves_no_version_of_the_provider() -> None:
    registry = Registry()
    (registered,) = registry.facts(register_provider(request="r1"))
    assert isinstance(registered, ProviderRegistered)
    registry.facts(seen(2, BAD))
    assert registry.facts(ProviderHealthObserved(RIVAL, GUSTO, 3, GOOD)) == []
    registry.facts(register_provider(request="r2", mode=RegisterMode.PUT))
    sequences = [decision.sequence for decision in registry.ledger if isinstance(decision.event, ProviderRegistered)]
    assert sequences == [1, 2]


def test_an_observation_nobody_can_act_on_leaves_no_record() -> None:
    assert Registry().when(seen(1, GOOD)) == []


@given(st.lists(st.tuples(st.integers(1, 50), st.sampled_from([BAD, GOOD, UNSURE])), max_size=30))
def test_facts_alternate_and_never_go_back_in_time(heard: list[tuple[int, tuple[HealthWindow, ...]]]) -> None:
    registry = Registry()
    facts = [fact for at_ms, windows in heard for fact in registry.facts(seen(at_ms, windows))]
    status, newest = ProviderHealth().status, 0
    for fact in facts:
        after = ProviderStatus.DEGRADED if isinstance(fact, ProviderDegraded) else ProviderStatus.HEALTHY
        assert after in TRANSITIONS[status]
        assert fact.observed_ms >= newest
        status, newest = after, fact.observed_ms
