"""The platform under faults, asked through the gateway's real commands.

What: as `test_simulator`, with commands, registry, vault and projector in it. How: clients ask again under their
idempotency key when they hear nothing, two replicas ask at once, the projector is late; each key starts one run.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.simulator.gateway import simulate_with_gateway
from tests.support.simulator.simulation import Scenario


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(12))
async def test_each_key_starts_one_run_and_all_of_them_end(seed: int, tmp_path: Path) -> None:
    simulation = await simulate_with_gateway(seed, tmp_path, Scenario(runs=4, faults=15))
    assert len(set(simulation.roots.values())) == 4
    assert set(simulation.outside.jobs) == set(simulation.roots.values())
    assert set(simulation.refused) <= {"not_found", "run_already_ended", "input_already_answered"}
