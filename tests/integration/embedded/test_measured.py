"""What the embedded platform shows at `/metrics`: every series of the table, and what really happened."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from embedded.platform import run_platform
from embedded.settings import read_settings
from kernel.metrics import SERIES, Series
from kernel.redaction import LiveSecrets
from tests.integration.embedded.test_ending import ready
from tests.support.platform_process import free_ports

_ASSERT = {"id": "look", "type": "assert", "params": {"that": ["true"]}}
_WORKFLOW = {
    "name": "w",
    "sourceProvider": "demo",
    "type": "USER_DEFINED",
    "stepsJson": {"version": 1, "steps": [_ASSERT]},
}

COMES_LATER = ('runs_in_state{state="pending"}', 'runner_slots{pool="light",state="busy"} 0.0')
"""Runs are counted now and then, and a runner lets go of a slot when the end of its task is acknowledged."""


async def test_the_platform_shows_every_series_of_the_table_and_what_it_has_done(tmp_path: Path) -> None:
    port = free_ports(1)
    settings = read_settings({"TOWPATH_DATA": str(tmp_path), "TOWPATH_PORT": str(port), "TOWPATH_DEMO": "0"})
    stop = asyncio.Event()
    platform = asyncio.create_task(run_platform(settings, LiveSecrets(), stop))
    try:
        await ready(settings.url)
        headers = {"Authorization": f"Bearer {settings.api_key.read_text().strip()}"}
        async with httpx.AsyncClient(base_url=settings.url, headers=headers, timeout=30) as api:
            workflow = (await api.post("/api/v2/workflows", json=_WORKFLOW)).json()["id"]
            run = (await api.post("/api/v2/workflow-runs", json={"workflowId": workflow})).json()["id"]
            path, ended, after = f"/api/v2/workflow-runs/{run}/events", False, 0
            async with asyncio.timeout(60):
                while not ended:
                    for event in (await api.get(path, params={"after": after, "wait": 10})).json()["data"]:
                        after, ended = event["data"]["sequence"], event["type"] == "workflow_run.completed"
            async with asyncio.timeout(60):
                text = (await api.get("/metrics")).text
                while not all(line in text for line in COMES_LATER):
                    await asyncio.sleep(0.1)
                    text = (await api.get("/metrics")).text
    finally:
        stop.set()
        await asyncio.wait_for(platform, 60)
    for series in SERIES:
        assert_shown(series, text)
    assert 'run_duration_seconds_count{outcome="completed"} 1.0' in text
    assert 'step_duration_seconds_count{kind="assert",outcome="completed"} 1.0' in text
    assert "run_queue_wait_seconds_count 1.0" in text
    assert re.search(r'decider_transitions_total\{decider="advance"\} [1-9]', text)
    assert re.search(r"^process_resident_memory_bytes [1-9]", text, re.MULTILINE)
    assert_no_ids(text, run, workflow)


def assert_shown(series: Series, text: str) -> None:
    """The type is said also while there is no value yet."""
    assert f"# TYPE {series.name} {series.kind.value}\n" in text, series.name
    assert f"# HELP {series.name} " in text


def assert_no_ids(text: str, *ids: str) -> None:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            values = set(sample.labels.values())
            assert not values & set(ids)
            assert not any(re.fullmatch(r"[0-9a-f]{8}-[0-9a-f-]{27}", value) for value in values), sample
