"""What the compose file tells each service, against what the service reads and what `make up` tells it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from api_gateway.settings import settings_from as gateway_settings
from artifact_store.settings import settings_from as store_settings
from browser_runner.settings import settings_from as runner_settings
from cluster.components.kafka import _PROPERTIES
from cluster.keys import Keys
from cluster.layout import read_layout
from cluster.services import Services
from kernel.ids import SystemEntropy
from kernel.log.kafka.settings import kafka_settings
from kernel.service import ServiceSettings
from kernel.settings import read_settings
from kernel.sql.postgres.settings import postgres_settings
from scheduler.settings import Settings as SchedulerSettings

ROOT = Path(__file__).resolve().parents[3]
FILE: Mapping[str, Any] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
KEYS = "/var/lib/towpath/keys"
SERVERS = {
    "TOWPATH_KAFKA": "127.0.0.1:1",
    "TOWPATH_POSTGRES_URL_FILE": "url",
    "ARTIFACT_STORE_S3_BUCKET": "bucket",
    "ARTIFACT_STORE_S3_ENDPOINT": "endpoint",
    "ARTIFACT_STORE_S3_ACCESS_KEY_PATH": "access",
    "ARTIFACT_STORE_S3_SECRET_KEY_PATH": "secret",
}
READ: Mapping[str, tuple[Callable[[Mapping[str, str]], object], ...]] = {
    "api-gateway": (gateway_settings, postgres_settings),
    "artifact-store": (store_settings, postgres_settings),
    "browser-runner": (runner_settings,),
    "scheduler": (lambda environ: read_settings(SchedulerSettings, "SCHEDULER_", environ),),
    "health": (postgres_settings,),
}
ONLY_ON_ONE_MACHINE = {
    "TOWPATH_FOLDER",  # whose processes they are
    "TOWPATH_MEMBER",  # a container has a name of its own
    "BROWSER_RUNNER_HOST_ID",
    "BROWSER_RUNNER_SANDBOX",  # root has none; in a container nobody is root
    *(f"API_GATEWAY_{name}" for name in ("RATE_PER_MINUTE", "RATE_BURST", "OPEN_REQUESTS_MAX", "OPEN_STREAMS_MAX")),
    *(f"API_GATEWAY_ADDRESS_{name}" for name in ("RATE_PER_MINUTE", "RATE_BURST")),
}
"""What `make up` says beside; the limits are its own settings, handed on."""
ONLY_IN_CONTAINERS = {"TOWPATH_PROBES"}
"""What Prometheus scrapes; the gateway of `make up` answers probes beside REST."""


def environ_of(name: str, folder: Path) -> dict[str, str]:
    """What a container finds, with the defaults of the file and its secrets in `folder`."""
    told = {key: str(value) for key, value in FILE["services"][name].get("environment", {}).items()}
    while any("${" in value for value in told.values()):
        told = {key: re.sub(r"\$\{\w+:-([^${}]*)\}", r"\1", value) for key, value in told.items()}
    return {key: value.replace(KEYS, str(folder)) for key, value in told.items()}


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """What the service `keys` makes at the first start; the keyring is made with the tables."""
    keys = Keys(tmp_path)
    keys.make(SystemEntropy())
    keys.make_for_servers(SystemEntropy(), "postgres:5432/towpath")
    keys.keyring.write_text("{}")
    return keys


@pytest.mark.parametrize("name", READ)
def test_what_a_container_is_told_is_all_that_its_service_must_know(name: str, keys: Keys) -> None:
    environ = environ_of(name, keys.folder)
    assert read_settings(ServiceSettings, "TOWPATH_", environ).probes.endswith(":9464")
    assert kafka_settings(environ).bootstrap == "kafka:9092"
    for read in READ[name]:
        read(environ)


@pytest.mark.parametrize("name", [*READ, "prepare"])
def test_every_secret_that_a_container_is_told_of_is_made(name: str, keys: Keys) -> None:
    told = [value for value in environ_of(name, keys.folder).values() if value.startswith(str(keys.folder))]
    assert [path for path in told if not Path(path).exists()] == []


def test_a_container_is_told_what_the_same_process_of_make_up_is_told(tmp_path: Path) -> None:
    layout = read_layout({"TOWPATH_DATA": str(tmp_path)})
    for process in Services(layout, SERVERS).all:
        name = process.name.rpartition("-")[0]
        told = {key for key in process.environment if process.environment[key] != os.environ.get(key)}
        contained = set(FILE["services"][name]["environment"])
        assert told - contained <= ONLY_ON_ONE_MACHINE, name
        assert contained - told <= ONLY_IN_CONTAINERS, name


def test_the_broker_is_configured_as_the_one_of_make_up() -> None:
    environment = FILE["services"]["kafka"]["environment"]
    told = {key.removeprefix("KAFKA_").lower().replace("_", "."): value for key, value in environment.items()}
    same = set(_PROPERTIES) & set(told) - {"listener.security.protocol.map"}
    assert {name: told[name] for name in same} == {name: _PROPERTIES[name] for name in same}
    assert same >= {
        "process.roles", "auto.create.topics.enable", "group.min.session.timeout.ms", "broker.session.timeout.ms",
        "broker.heartbeat.interval.ms", "group.initial.rebalance.delay.ms",
    }  # fmt: skip


def test_the_images_of_the_servers_are_of_the_versions_that_are_tested() -> None:
    jars = re.search(r"kafka-clients:([\d.]+)", (ROOT / "requirements" / "kafka.lock").read_text())
    gateway = re.search(r"versitygw@(v[\d.]+)", (ROOT / "tools" / "versitygw.py").read_text())
    assert jars is not None
    assert gateway is not None
    assert f"apache/kafka:{jars[1]}}}" in FILE["services"]["kafka"]["image"]
    assert f"versity/versitygw:{gateway[1]}}}" in FILE["services"]["s3"]["image"]


def test_what_prometheus_scrapes_is_every_service_of_ours() -> None:
    scraped = yaml.safe_load((ROOT / "deploy" / "observability" / "prometheus.yaml").read_text())["scrape_configs"]
    [place] = scraped[0]["dns_sd_configs"]
    assert set(place["names"]) == set(READ)
    assert place["port"] == 9464
