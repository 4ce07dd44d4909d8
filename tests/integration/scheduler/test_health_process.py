"""The health process as an operator sees it: probes, figures, a clean end, and one clear line when it cannot begin."""

from __future__ import annotations

import asyncio
import os
import subprocess
import urllib.request
from functools import partial
from pathlib import Path

import pytest

from kernel.log.port import Record
from kernel.refusing import REFUSED_EXIT_CODE, UNREACHED_EXIT_CODE
from tests.support.components import has_kafka, has_postgres
from tests.support.health_facts import ACME, GUSTO, NOON, failed, record
from tests.support.health_process import COMMAND, PARTITIONS, Ground, decided_in, ground_in
from tests.support.requires import requires
from tests.support.tcp_proxy import free_port

pytestmark = [
    requires("Kafka", available=has_kafka(), reason="make kafka, and Java"),
    requires("PostgreSQL", available=has_postgres(), reason="apt-get install postgresql"),
    pytest.mark.timeout(240),
]


async def test_it_is_ready_counts_tells_the_registry_and_ends_with_all_it_knows_written(tmp_path: Path) -> None:
    async with ground_in(tmp_path) as ground:
        probes = f"127.0.0.1:{free_port()}"
        ground.environment["TOWPATH_PROBES"] = probes
        process = ground.process("health-1")
        process.start()
        await ground.until(partial(answers, probes, "/health/ready"))
        await ground.append([failure(number) for number in range(6)])
        await ground.until(partial(has_decided, ground))
        assert "process_" in await asyncio.to_thread(read, probes, "/metrics")
        await ground.append([failure(number) for number in range(6, 12)])
        await asyncio.sleep(0.3)  # taken, perhaps, and waiting for its second
        assert process.end() == 0
        again = ground.process("health-2")
        again.start()
        await ground.until(partial(answers, probes, "/health/ready"))
        await ground.until(ground.all_written)
        assert again.end() == 0
        rows = await ground.db.fetch_all("SELECT organization_id, provider FROM provider_outcomes")
        assert set(rows) == {(ACME, GUSTO)}
        said = "".join((tmp_path / f"health-{number}.log").read_text() for number in (1, 2))
        assert "Traceback" not in said
        left = await asyncio.to_thread(lambda: {path.suffix for path in tmp_path.iterdir()})
        assert left == {".log"}, "it leaves nothing where it works"


@pytest.mark.parametrize(
    ("wrong", "code", "line"),
    [
        ({"TOWPATH_POSTGRES_URL": ""}, REFUSED_EXIT_CODE, "TOWPATH_POSTGRES_URL"),
        ({"TOWPATH_TOPIC_PREFIX": "nobody"}, REFUSED_EXIT_CODE, "nobody.job_runs.g1"),
        ({"TOWPATH_KAFKA": "127.0.0.1:9", "TOWPATH_START_SECONDS": "1"}, UNREACHED_EXIT_CODE, "Kafka at 127.0.0.1:9"),
    ],
)
async def test_what_is_wrong_is_said_in_one_line(wrong: dict[str, str], code: int, line: str, tmp_path: Path) -> None:
    async with ground_in(tmp_path) as ground:
        environment = {**os.environ, **ground.environment, **wrong}
        ended = await asyncio.to_thread(
            partial(subprocess.run, COMMAND, env=environment, capture_output=True, text=True, check=False, timeout=90)
        )
        assert ended.returncode == code
        (said,) = ended.stderr.splitlines()
        assert said.startswith("towpath health: ")
        assert line in said


def failure(number: int) -> Record:
    return record(failed("target_missing"), f"run-{number}", 1, NOON + number, partitions=PARTITIONS)


async def has_decided(ground: Ground) -> bool:
    return await decided_in(ground.log) == {(ACME, GUSTO): ["ProviderDegraded"]}


async def answers(probes: str, path: str) -> bool:
    try:
        await asyncio.to_thread(read, probes, path)
    except OSError:
        return False
    return True


def read(probes: str, path: str) -> str:
    with urllib.request.urlopen(f"http://{probes}{path}", timeout=5) as answer:
        return str(answer.read().decode())
