"""A shared rate limit: whatever replicas do, together they admit no more than one plain token bucket would."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_gateway.client_address import UNKNOWN, client_address
from api_gateway.open_calls import OpenCalls
from api_gateway.rates import EPOCH_MS, Bucket, Holding, Rate, Report, full, full_after_ms, lease
from kernel.domain.ids import OrganizationId
from kernel.egress.policy import parse_networks
from kernel.errors import Rejected

RATES = st.builds(Rate, per_minute=st.integers(1, 6000), burst=st.integers(1, 300))
START_MS = 1_700_000_000_000
NOTHING = Report(0, -1, 0)


@dataclass
class Ideal:
    """One plain token bucket, exact: what all replicas together are measured by."""

    rate: Rate
    at_ms: int = START_MS
    tokens: float = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = float(self.rate.burst)

    def spend(self, now_ms: int) -> bool:
        self.tokens = min(self.rate.burst, self.tokens + (now_ms - self.at_ms) * self.rate.per_minute / 60_000)
        self.at_ms = now_ms
        self.tokens -= 1
        return self.tokens > -1e-6


class Shared:
    """The row, and replicas that come and go around it."""

    def __init__(self, rate: Rate, replicas: int) -> None:
        self.rate = rate
        self.row: Bucket | None = None
        self.holdings = [Holding() for _ in range(replicas)]
        self.writes = 0

    def call(self, replica: int, now_ms: int) -> bool:
        holding = self.holdings[replica]
        if holding.spend(now_ms):
            return True
        if holding.refused_for_ms(now_ms):
            return False
        self.lease(replica, now_ms)
        return holding.spend(now_ms)

    def lease(self, replica: int, now_ms: int, *, is_answered: bool = True) -> None:
        """Ask for a portion, also with some left; unanswered, the write lands and nobody hears of it."""
        holding = self.holdings[replica]
        report = holding.report()
        before = self.row or full(self.rate, now_ms)
        self.row, given_ = lease(before, self.rate, now_ms, report)
        self.writes += 1
        if is_answered:
            holding.receive(self.row, given_, self.rate, now_ms)

    def crash(self, replica: int) -> None:
        self.holdings[replica] = Holding()


ACTS = st.sampled_from(["call", "call", "call", "many", "ask", "unanswered", "crash"])
PAUSES = st.one_of(st.integers(0, 300), st.integers(0, 20_000), st.integers(0, 3 * EPOCH_MS))


@given(RATES, st.integers(1, 5), st.lists(st.tuples(PAUSES, st.integers(0, 4), ACTS), max_size=150))
def test_replicas_together_never_admit_more_than_one_bucket(
    rate: Rate, replicas: int, moves: list[tuple[int, int, str]]
) -> None:
    shared, ideal, now_ms = Shared(rate, replicas), Ideal(rate), START_MS
    for pause_ms, number, act in moves:
        now_ms += pause_ms
        replica = number % replicas
        match act:
            case "ask" | "unanswered":
                shared.lease(replica, now_ms, is_answered=act == "ask")
            case "crash":
                shared.crash(replica)
            case _:
                for _ in range(rate.burst if act == "many" else 1):
                    if shared.call(replica, now_ms):
                        assert ideal.spend(now_ms), f"one too many at {now_ms - START_MS} ms"


@given(RATES, st.integers(1, 8))
def test_a_caller_within_the_limit_is_served_by_one_replica_for_ever(rate: Rate, minutes: int) -> None:
    shared, pause_ms = Shared(rate, 1), -(-60_000 // rate.per_minute)
    now_ms = START_MS
    refused = 0
    for _ in range(min(500, minutes * rate.per_minute)):
        refused += not shared.call(0, now_ms)
        now_ms += pause_ms + 1000 // rate.burst
    assert refused <= rate.portion, "at most what was lost with an epoch"


def test_a_burst_over_four_replicas_gets_the_whole_burst_and_the_rate_goes_on() -> None:
    rate = Rate(600, 100)
    shared = Shared(rate, 4)
    assert sum(shared.call(call % 4, START_MS) for call in range(400)) == 100
    served = sum(shared.call(call % 4, START_MS + 10 * call) for call in range(6000))
    assert 500 <= served <= 600, "a minute of one call each 10 ms"


def test_permits_that_were_held_for_long_are_not_filled_up_the_moment_they_are_spent() -> None:
    shared = Shared(Rate(600, 100), 1)
    assert shared.call(0, START_MS)
    assert sum(shared.call(0, START_MS + 30_000) for _ in range(300)) <= 100


def test_writes_are_far_fewer_than_calls_and_a_refused_caller_costs_two_a_second() -> None:
    rate = Rate(6000, 1000)
    shared = Shared(rate, 1)
    assert all(shared.call(0, START_MS + 10 * call) for call in range(6000))
    assert shared.writes <= 6000 // rate.portion + 2
    flooded = Shared(Rate(600, 100), 1)
    for call in range(60_000):
        flooded.call(0, START_MS + call)
    assert flooded.writes <= 2 * 60 + 20


def test_a_clock_that_was_a_day_ahead_keeps_nobody_out_once_it_is_right() -> None:
    rate = Rate(60, 100)
    shared = Shared(rate, 2)
    for _ in range(300):
        shared.call(0, START_MS + 86_400_000)
    now_ms = START_MS + 120_000
    assert not any(shared.call(1, START_MS) for _ in range(300)), "what was spent stays spent"
    assert sum(shared.call(call % 2, now_ms + 1000 * call) for call in range(60)) >= 40


def test_a_full_bucket_may_be_forgotten() -> None:
    rate = Rate(7, 100)
    spent, given_ = lease(full(rate, START_MS), rate, START_MS, NOTHING)
    later = full_after_ms(spent, rate)
    again, _ = lease(spent, rate, later, NOTHING)
    assert given_ == rate.portion
    assert again == lease(full(rate, later), rate, later, NOTHING)[0]


# ---------------------------------------------------------------- who calls from where, and how much is open


@pytest.mark.parametrize(
    ("peer", "forwarded", "trusted", "found"),
    [
        ("203.0.113.9", "", "", "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", "", "203.0.113.9"),
        ("127.0.0.1", "198.51.100.1", "127.0.0.0/8", "198.51.100.1"),
        ("127.0.0.1", "6.6.6.6, 198.51.100.1", "127.0.0.0/8", "198.51.100.1"),
        ("127.0.0.1", "198.51.100.1, 10.0.0.7", "127.0.0.0/8,10.0.0.0/8", "198.51.100.1"),
        ("127.0.0.1", "", "127.0.0.0/8", "127.0.0.1"),
        ("127.0.0.1", "nonsense", "127.0.0.0/8", UNKNOWN),
        ("2001:db8:1:2:3::9", "", "", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.9", "", "", "203.0.113.9"),
        (None, "198.51.100.1", "127.0.0.0/8", UNKNOWN),
    ],
)
def test_an_address_is_believed_only_from_a_trusted_proxy(
    peer: str | None, forwarded: str, trusted: str, found: str
) -> None:
    assert client_address(peer, forwarded, parse_networks(trusted)) == found


def test_what_one_organization_has_open_keeps_no_other_out() -> None:
    calls = OpenCalls("requests", 2)
    first, second = OrganizationId("first"), OrganizationId("second")
    leave = calls.enter(first)
    calls.enter(first)
    with pytest.raises(Rejected, match="rate_limited"):
        calls.enter(first)
    calls.enter(second)
    leave()
    calls.enter(first)
    assert (calls.count(first), calls.count(second)) == (2, 1)
