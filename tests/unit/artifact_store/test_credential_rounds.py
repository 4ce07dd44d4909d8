"""Which openings of credentials make one try at the login."""

from __future__ import annotations

from artifact_store.vault.guard import Round, next_round
from kernel.store.port import UNPROVEN_OPENINGS_MAX


def after(*openings: tuple[str, str]) -> list[int | None]:
    """The round of each opening (task, ref), None for a refused one."""
    now, rounds = Round(), list[int | None]()
    for task_id, ref in openings:
        following = next_round(now, task_id, ref)
        rounds.append(None if following is None else following.number)
        now = following or now
    return rounds


def test_different_refs_of_one_task_are_one_round() -> None:
    assert after(("t1", "name"), ("t1", "password"), ("t1", "totp")) == [1, 1, 1]


def test_the_same_ref_again_is_the_next_round() -> None:
    assert after(("t1", "name"), ("t1", "password"), ("t1", "password"), ("t1", "name")) == [1, 1, 2, 2]


def test_another_task_is_the_next_round() -> None:
    assert after(("t1", "name"), ("t2", "password"), ("t1", "password")) == [1, 2, 3]


def test_the_fourth_round_is_refused_and_stays_refused() -> None:
    tasks = [(f"t{n}", "password") for n in range(6)]
    assert after(*tasks) == [1, 2, 3, None, None, None]
    assert UNPROVEN_OPENINGS_MAX == 3


def test_the_third_round_may_be_finished() -> None:
    assert after(("t1", "p"), ("t2", "p"), ("t3", "p"), ("t3", "name"), ("t3", "p")) == [1, 2, 3, 3, None]
