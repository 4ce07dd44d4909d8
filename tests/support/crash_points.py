"""One scenario, interrupted at every point: what a crash, a pause or a cut between any two actions must not change.

The scenario is run once undisturbed and its actions and appends are counted; then it is run again for each of them,
disturbed there. Every run ends with an owner that finishes, and with what an outside reader sees.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from kernel.errors import NotOwner
from kernel.log.envelope import Source
from kernel.log.port import Record
from kernel.processor import Owner
from tests.support.processing import Bench, Cut, check_outside, run_steps, run_to_idle
from tests.support.toy_decider import REPORTED, Asked, Did, ObjectCodec, asked

MakeBench = Callable[[], Awaitable[Bench]]

EXPECTED = {
    "A": [Did("started", 1), Did("signalled", 2), Did("signalled", 3), Did("signalled", 4), Did("ended", 5)],
    "B": [Did("started", 1), Did("signalled", 2), Did("ended", 3), Did("forgot", 4)],
    "C": [Did("started", 1), Did("signalled", 2)],
}


def inputs(codec: ObjectCodec) -> list[Record]:
    """Two keys, a burst, doubled derived records, a repeated request and a third key from another topic."""
    first, second = Source("elsewhere", 0, 7, 0), Source("elsewhere", 0, 7, 1)
    return [
        asked(codec, "start"),
        asked(codec, "start", "B"),
        asked(codec, "signal", "A", source=first),
        asked(codec, Asked("burst", times=2), "A", source=second),
        asked(codec, "signal", "A", source=first),
        asked(codec, "signal", "B"),
        asked(codec, "end"),
        asked(codec, "start"),
        asked(codec, "signal"),
        asked(codec, "end", "B"),
        asked(codec, "forget", "B"),
        asked(codec, "start", "C", topic=REPORTED),
        asked(codec, "signal", "C", topic=REPORTED),
    ]


async def prepared(make: MakeBench) -> Bench:
    bench = await make()
    await bench.log.inner.append(inputs(bench.codec))
    return bench


async def finish(bench: Bench) -> None:
    """A last owner does what is left; then the outside must be right, and the owner's map what the ledger means."""
    bench.log.cuts.clear()
    owner = bench.owner()
    await run_to_idle(owner)
    await check_outside(bench, EXPECTED)


async def count_actions(make: MakeBench) -> int:
    bench = await prepared(make)
    return await run_to_idle(bench.owner())


async def count_appends(make: MakeBench) -> int:
    bench = await prepared(make)
    await run_to_idle(bench.owner())
    return bench.log.appends


async def crash_at(make: MakeBench, actions: int) -> None:
    """An owner is gone after `actions`."""
    bench = await prepared(make)
    await run_steps(bench.owner(), actions)
    await finish(bench)


async def pause_at(make: MakeBench, actions: int, others: int) -> None:
    """An owner sleeps after `actions`, another one takes `others`, the first wakes up, and a third finishes."""
    bench = await prepared(make)
    sleeper, other = bench.owner(), bench.owner()
    await run_steps(sleeper, actions)
    await run_steps(other, others)
    await run_steps(sleeper, 1_000)
    await _go_on(other)
    await finish(bench)


async def cut_at(make: MakeBench, append: int, cut: Cut, *, lands_after: int = 0) -> None:
    """One append has an unknown outcome; what stays in flight lands after that many more actions, or at the end."""
    bench = await prepared(make)
    bench.log.cuts[append] = cut
    owner = bench.owner()
    while not bench.log.late and bench.log.appends <= append:
        await owner.step()
    await run_steps(owner, lands_after)
    await bench.log.land()
    await _go_on(owner)
    await finish(bench)


async def _go_on(owner: Owner) -> None:
    """What a partition's supervisor does: step, and leave it when it is superseded."""
    try:
        await run_to_idle(owner)
    except NotOwner:
        return


async def every_crash_point(make: MakeBench) -> None:
    """All of the above at every point; the net that the mutations must not slip through."""
    actions, appends = await count_actions(make), await count_appends(make)
    for point in range(max(actions + 1, appends)):
        if point <= actions:
            await crash_at(make, point)
            await pause_at(make, point, 1_000)
        if point < appends:
            for cut in Cut:
                await cut_at(make, point, cut)
            await cut_at(make, point, Cut.LATE, lands_after=4)
