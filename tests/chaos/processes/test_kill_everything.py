"""The whole product is killed again and again, at moments drawn by a seed; no step is lost and none is doubled.

What: launcher, watchdog, platform, demo shop, demo, driver and browser run as a user starts them, over one folder. Ten
runs of the demo job; each is hit by SIGKILL of the whole tree at another moment, four of them around the step that acts
once. After each kill the product is started again and the same run must complete.

How: the moment is seen in the log of the folder or in the log of the shop, then a delay drawn by the seed, then the
kill. The run's own times prove that it was under way. The shop counts: every reference was collected exactly once.
In some rounds the browser is spared, as if it had outlived the rest: the next start must sweep it away.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random  # noqa: TID251 (moments are drawn by the seed)

import pytest

from kernel.clock import SystemClock
from tests.support.chromium import needs_chromium
from tests.support.demo_runs import LOGIN_MOMENTS, MOMENTS, await_run, first_demo, start_run
from tests.support.platform_process import PlatformProcess, Role, Trace

pytestmark = [needs_chromium, pytest.mark.timeout(600)]

SEED = int(os.environ.get("TOWPATH_SEED") or 20)
KILLS = 10
TOO_LATE_MAX = 6
"""On a busy machine a run may end between the moment and the kill."""
AROUND_THE_CLICK = ("the click was announced", "the click has landed") * 2


def test_whatever_is_killed_whenever_every_run_completes_and_collects_once(
    product: PlatformProcess, report: Callable[[str], None]
) -> None:
    told = [f"seed {SEED}"]
    chance = Random(SEED)
    others = [name for name in MOMENTS if name not in AROUND_THE_CLICK]
    later = [*chance.sample(others, KILLS - 1 - len(AROUND_THE_CLICK)), *AROUND_THE_CLICK]
    chance.shuffle(later)
    clock, trace = SystemClock(), Trace(product.data)
    product.start()
    product.await_ready()
    rounds = [chance.choice(list(LOGIN_MOMENTS)), *later]
    too_late = 0
    while rounds:
        moment = rounds[0]
        delay_ms = chance.randrange(25 if "click" in moment else 40)  # a whole run takes a second or two
        spared = chance.choice([frozenset[Role](), frozenset({Role.BROWSER, Role.DRIVER})])
        with product.client() as client:
            run = first_demo(client) if moment in LOGIN_MOMENTS else start_run(product, client, trace)
        (LOGIN_MOMENTS | MOMENTS)[moment](product, trace, run)
        time.sleep(delay_ms / 1000)
        product.kill_everything(spared)
        killed_ms = clock.now_ms()
        product.start()
        product.await_ready()
        with product.client() as client:
            ended = await_run(client, run.id)
        later_ms = [record.time_ms for record in trace.read() if record.time_ms > killed_ms]
        if not later_ms and moment not in LOGIN_MOMENTS:
            too_late += 1  # it had ended before the kill: such a round proves nothing, and another takes its place
            assert too_late <= TOO_LATE_MAX, f"{moment} + {delay_ms} ms: the run had ended before the kill; {told}"
            # Little is left of a run whose click is reported: a machine that is late once is late again.
            rounds[0] = moment if moment in AROUND_THE_CLICK else chance.choice(others)
            continue
        rounds.pop(0)
        back_ms = later_ms[0] - killed_ms
        told.append(f"{moment} + {delay_ms} ms, spared {sorted(spared)}: first report {back_ms} ms after the kill")
        killed_at = datetime.fromtimestamp(killed_ms / 1000, UTC)
        assert ended.started_at is not None, told
        assert ended.completed_at is not None, told
        assert ended.started_at < killed_at < ended.completed_at, f"the kill did not hit a run under way: {told}"
        assert set(Counter(product.collected()).values()) == {1}, told
        assert not run.ref or run.ref in product.collected(), told
    report("\n".join(told))
    product.kill_everything()
    product.await_nothing_left()
