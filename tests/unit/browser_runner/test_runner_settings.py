"""The runner's settings: every field from its variable, malformed ones named."""

from __future__ import annotations

import pytest

from browser_runner.heartbeat import SLOTS_MAX
from browser_runner.settings import Settings, settings_from
from kernel.domain.ids import TaskId
from kernel.domain.task import HeldTask
from kernel.domain.values import Token
from kernel.errors import Permanent
from kernel.log.codec import encode_value
from kernel.log.limits import DECISION_BYTES_MAX
from tests.support.runs import heartbeat


def test_an_empty_environment_gives_the_defaults() -> None:
    assert settings_from({"BROWSER_RUNNER_HOST_ID": ""}) == Settings()


def test_every_kind_of_value_is_read() -> None:
    given = settings_from(
        {
            "BROWSER_RUNNER_BROWSER_SLOTS": "0",
            "BROWSER_RUNNER_HEADLESS": "false",
            "BROWSER_RUNNER_DRAIN_SECONDS": "2.5",
            "BROWSER_RUNNER_HOST_ID": "node-7",
        }
    )
    assert (given.browser_slots, given.headless, given.drain_seconds, given.host_id) == (0, False, 2.5, "node-7")


@pytest.mark.parametrize(
    ("name", "value"), [("BROWSER_SLOTS", "many"), ("HEADLESS", "maybe"), ("LIGHT_SLOTS", "-1"), ("LIGHT_SLOTS", "501")]
)
def test_a_malformed_value_names_its_variable(name: str, value: str) -> None:
    with pytest.raises(Permanent, match=name):
        settings_from({f"BROWSER_RUNNER_{name}": value})


def test_a_heartbeat_that_names_the_most_that_a_runner_may_hold_fits_a_record() -> None:
    held = HeldTask(TaskId(f"{'a' * 36}/100"), Token(100, "f" * 32), waiting=True)
    assert len(encode_value(heartbeat(slots=SLOTS_MAX, held=(held,) * SLOTS_MAX))) < DECISION_BYTES_MAX
