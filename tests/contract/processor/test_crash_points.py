"""The owning loop over every log: crashed, paused and cut between any two actions, nothing is lost or doubled."""

from __future__ import annotations

import pytest

from kernel.processor import Action
from tests.support import crash_points
from tests.support.crash_points import EXPECTED, MakeBench, prepared
from tests.support.processing import Cut, check_outside, map_of, run_to_idle


async def test_undisturbed_an_owner_decides_each_input_once(make: MakeBench) -> None:
    bench = await prepared(make)
    await run_to_idle(bench.owner())
    await check_outside(bench, EXPECTED)


async def test_the_scenario_makes_checkpoints_and_snapshots(make: MakeBench) -> None:
    bench = await prepared(make)
    owner = bench.owner()
    taken = set()
    while (action := await owner.step()) is not Action.IDLE:
        taken.add(action)
    apart = set() if bench.as_one else {Action.DERIVE}
    assert taken == set(Action) - {Action.IDLE, Action.DRAINED, Action.DERIVE} | apart
    assert bench.hint.starts
    assert await bench.log.start_offset("run_ledger", 0) > 0


async def test_a_crash_between_any_two_actions_changes_nothing(make: MakeBench) -> None:
    for point in range(await crash_points.count_actions(make) + 1):
        await crash_points.crash_at(make, point)


@pytest.mark.parametrize(("variant", "others"), list(enumerate([2, 16, 1_000])))
async def test_a_paused_owner_that_wakes_up_changes_nothing(
    make: MakeBench, stride: int, variant: int, others: int
) -> None:
    for point in range(variant % stride, await crash_points.count_actions(make) + 1, stride):
        await crash_points.pause_at(make, point, others)


@pytest.mark.parametrize("cut", list(Cut))
async def test_an_append_of_unknown_outcome_changes_nothing(make: MakeBench, cut: Cut) -> None:
    for append in range(await crash_points.count_appends(make)):
        await crash_points.cut_at(make, append, cut)


@pytest.mark.parametrize(("variant", "lands_after"), list(enumerate([1, 2, 5])))
async def test_a_late_append_that_lands_under_a_later_claim_changes_nothing(
    make: MakeBench, stride: int, variant: int, lands_after: int
) -> None:
    for append in range(variant % stride, await crash_points.count_appends(make), stride):
        await crash_points.cut_at(make, append, Cut.LATE, lands_after=lands_after)


async def test_a_restored_map_equals_the_map_in_memory_after_every_batch(make: MakeBench, stride: int) -> None:
    actions = await crash_points.count_actions(make)
    for point in range(3, actions + 1, stride):
        bench = await prepared(make)
        owner = bench.owner()
        for _ in range(point):
            await owner.step()
        while Action.READ_BACK in owner.enabled() or Action.APPEND in owner.enabled():
            await owner.step()
        if Action.TAKE_INPUTS not in owner.enabled():
            continue
        successor = bench.owner()
        await successor.step()
        await successor.step()
        assert map_of(successor) == map_of(owner)
        for topic, offset in successor.partition.positions.items():
            assert offset <= owner.partition.positions[topic], "inputs that led to nothing may be read again, no others"
