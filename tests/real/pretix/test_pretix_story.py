"""The whole story on pretix, again and again: log in with a code, read, export, send a form; half the time it is hit.

What: each time everybody is logged out first. In half of the rounds the platform process, the browser, or both get
SIGKILL at a moment drawn by the seed. Each run must complete with the right data, the form must have been sent once,
and no code of the authenticator app may have been sent twice, in all rounds together.

How: the moment is seen in the log of the folder, then a delay drawn by the seed, then the kill. pretix itself counts.
`TOWPATH_TIMES` says how often, `TOWPATH_SEED` repeats the same moments.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from random import Random  # noqa: TID251 (moments are drawn by the seed)

import pytest

from kernel.domain.ids import JobRunId
from kernel.domain.task import StepFinished, StepStarted
from tests.support.chromium import needs_chromium
from tests.support.demo_runs import DemoRun, Moment, after
from tests.support.platform_process import PlatformProcess, Role, Trace
from tests.support.pretix import Pretix, needs_pretix
from tests.support.pretix_jobs import Customer
from tests.support.pretix_proofs import prove_codes, prove_exports, prove_orders

SEED = int(os.environ.get("TOWPATH_SEED") or 58)
TIMES = int(os.environ.get("TOWPATH_TIMES") or 1)

pytestmark = [needs_pretix, needs_chromium, pytest.mark.timeout(120 + 150 * TIMES)]

WHOLE = ("login", "orders", "exports", "quota")
MOMENTS: dict[str, Moment] = {
    "the login page is open": after(StepFinished, "open_login"),
    "the code was typed": after(StepFinished, "enter_code"),
    "the code's sending was announced": after(StepStarted, "send_code"),
    "the login was reported": after(StepFinished, "send_code"),
    "the orders are open": after(StepFinished, "open_orders"),
    "the orders were read": after(StepFinished, "read_orders"),
    "an export was saved": after(StepFinished, "save_csv"),
    "the form is open": after(StepFinished, "open_form"),
    "the form's sending was announced": after(StepStarted, "save"),
    "the form's sending was reported": after(StepFinished, "save"),
}
VICTIMS = ((Role.PLATFORM,), (Role.BROWSER,), (Role.PLATFORM, Role.BROWSER, Role.DRIVER))


def test_the_story_comes_out_right_however_often_and_whatever_is_killed(
    customer: Customer, product: PlatformProcess, site: Pretix, report: Callable[[str], None]
) -> None:
    chance = Random(SEED)
    hit = set(chance.sample(range(TIMES), (TIMES + 1) // 2))
    # Every moment once before any comes twice.
    moments = [name for _ in range(1 + TIMES // len(MOMENTS)) for name in chance.sample(list(MOMENTS), len(MOMENTS))]
    trace = Trace(product.data)
    report(f"seed {SEED}, {TIMES} times")
    for turn in range(TIMES):
        site.end_sessions()
        begun, quota = time.monotonic(), f"Set aside {SEED}-{turn}"
        run_id = customer.start(*WHOLE, name=quota, products=[site.products[turn % len(site.products)]])
        told = _kill(product, trace, run_id, moments.pop(), chance) if turn in hit else "nothing killed"
        run = customer.well(run_id)
        report(f"{turn + 1}: {told}; done after {time.monotonic() - begun:.1f} s")
        prove_orders(customer, run)
        prove_exports(customer, run)
        prove_codes(customer)
        assert site.quotas().count(quota) == 1, f"the form was sent {site.quotas().count(quota)} times"


def _kill(product: PlatformProcess, trace: Trace, run_id: str, moment: str, chance: Random) -> str:
    victims, delay_ms = chance.choice(VICTIMS), chance.randrange(150)
    MOMENTS[moment](product, trace, DemoRun(JobRunId(run_id), "", 0))
    time.sleep(delay_ms / 1000)
    product.signal(signal.SIGKILL, *victims)
    if Role.PLATFORM in victims:
        product.await_ready()
    return f"{moment} + {delay_ms} ms, killed {', '.join(victims)}"
