"""`make up` as a person has it: the demo on Kafka, PostgreSQL and S3, and what becomes of it when something is killed.

One story over one folder, because a start takes its time: the first start, whose scheduler and broker are killed while
the demo runs; Ctrl-C; a second start, which goes on where the first one was; the launcher killed.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from urllib.request import urlopen

import pytest

from cluster.components.process import answers
from cluster.servers import BUCKET
from tests.support.chromium import chromium_path, needs_chromium
from tests.support.cluster_process import ClusterProcess
from tests.support.components import needs_kafka, needs_postgres, needs_s3
from tests.support.platform_process import shop_log, until

pytestmark = [needs_chromium, needs_kafka, needs_postgres, needs_s3, pytest.mark.timeout(600)]


@pytest.fixture
def product(tmp_path: Path) -> Iterator[ClusterProcess]:
    with ClusterProcess(tmp_path, browser=chromium_path()) as product:
        yield product


def collected(product: ClusterProcess) -> list[str]:
    """The reference of every collection that the demo shop saw, repetitions included."""
    return [entry["run_ref"] for entry in shop_log(product.data) if entry["event"] == "collected"]


def is_ready(url: str) -> bool:
    with suppress(OSError):
        urlopen(f"{url}/health/ready", timeout=10).close()
        return True
    return False


def test_the_demo_runs_on_real_servers_and_survives_kills_stops_and_starts(product: ClusterProcess) -> None:
    product.start()
    product.await_said("1/2 Demo: log in to the shop")
    for name in ("scheduler-1", "scheduler-2"):
        os.kill(product.pid(name), signal.SIGKILL)
    product.await_said("completed in")
    product.await_said("keeps serving")
    assert "60 orders extracted" in product.said()
    for name in ("scheduler-1", "scheduler-2"):
        product.await_said(f"{name} died (signal 9); started again as process")
    assert len(collected(product)) == 1, "what may happen once has happened once"

    told = product.endpoints()
    assert told["gateway"] == product.url
    assert told["postgres"].startswith("postgresql://towpath:")
    assert told["s3_bucket"] == BUCKET
    assert all(answers(int(re.split(r"[:/]", told[server].rstrip("/"))[-1])) for server in ("kafka", "s3"))
    services = ("artifact-store", "scheduler", "browser-runner", "api-gateway")
    names = {
        "kafka",
        "postgres",
        "s3",
        "demo-shop",
        "health-1",
        *(f"{name}-{number}" for name in services for number in (1, 2)),
    }
    assert {part["name"] for part in told["processes"]} == names
    for url in told["gateways"]:  # one that has just been given partitions says that it is not, for a moment
        until(partial(is_ready, url), 60, f"{url} is ready", pause_seconds=0.1)
    with product.client(0) as first, product.client(1) as second:
        [run] = first.job_runs.list().data
        assert second.job_runs.get(run.id) == first.job_runs.get(run.id)

    assert product.stop() == 0
    assert "Towpath drains" in product.said()
    assert product.processes() == []
    assert not (product.data / "endpoints.json").exists()

    product.start()
    product.await_said("1/2 Demo: log in to the shop")
    os.kill(product.pid("kafka"), signal.SIGKILL)
    product.await_said("completed in")
    assert "API key     in " in product.said()
    assert len(collected(product)) == 2
    with product.client() as client:
        assert len(client.job_runs.list().data) == 2

    assert product.launcher is not None
    product.launcher.kill()
    until(lambda: not product.processes(), 60, "an end of everything below a launcher that was killed")


def test_a_second_launcher_on_the_folder_is_refused(tmp_path: Path) -> None:
    with ClusterProcess(tmp_path, browser="", TOWPATH_DEMO="0") as product:
        product.start()
        until((product.data / "launcher.lock").exists, 60, "the first launcher")
        second = subprocess.run(
            [sys.executable, "-m", "cluster"], env=product.environ, capture_output=True, text=True, check=False
        )
        assert second.returncode == 2
        assert re.fullmatch(r"towpath: the folder .* is in use by process \d+; stop that one first\n", second.stderr)
        assert product.stop() == 0
        assert product.processes() == []
