"""The compose file: true to its schema, to the images and to the settings; nothing open, no secret in it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from api_gateway.settings import ProcessSettings
from api_gateway.settings import Settings as GatewaySettings
from artifact_store.settings import Settings as StoreSettings
from browser_runner.settings import Settings as RunnerSettings
from kernel.service import ServiceSettings
from kernel.sql.postgres.settings import PostgresSettings

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
TEXT = (DEPLOY / "compose.yaml").read_text()
FILE: Mapping[str, Any] = yaml.safe_load(TEXT)
SERVICES: Mapping[str, Mapping[str, Any]] = FILE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("towpath-")}
BUILDERS = {service["image"]: name for name, service in OURS.items() if "build" in service}
KEYS = {"gateway-keys", "store-keys", "runner-keys", "postgres-keys", "s3-keys"}
READ = {
    "API_GATEWAY_": (GatewaySettings, ProcessSettings),
    "ARTIFACT_STORE_": (StoreSettings,),
    "BROWSER_RUNNER_": (RunnerSettings,),
    "TOWPATH_": (ServiceSettings,),
    "TOWPATH_POSTGRES_": (PostgresSettings,),
}


def names_that_are_read() -> set[str]:
    """Every variable that some service reads, with the ending of secrets in files."""
    plain = {
        prefix + field.name.upper() for prefix, kinds in READ.items() for kind in kinds for field in fields(kind)
    } | {"TOWPATH_KAFKA"}
    return plain | {f"{name}_FILE" for name in plain}


def mounted(name: str) -> dict[str, str]:
    """The volumes of a service, each with the folder it is at."""
    return {source: target for source, target, *_ in (text.split(":") for text in SERVICES[name].get("volumes", []))}


def test_it_is_what_the_schema_of_compose_files_allows() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, DEPLOY / "compose.yaml"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_nothing_is_published_but_on_this_machine() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert all(service.get("network_mode", "none") == "none" for service in SERVICES.values())
    assert not any("outside" in SERVICES[name].get("networks", []) for name in ("kafka", "postgres", "s3", "scheduler"))


@pytest.mark.parametrize("name", OURS)
def test_each_of_ours_may_do_nothing_that_it_need_not(name: str) -> None:
    service = OURS[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["read_only"] is True
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["restart"] == ("no" if name in {"keys", "prepare"} else "unless-stopped")
    assert ("healthcheck" in service) is (name not in {"keys", "prepare"})


@pytest.mark.parametrize("name", OURS)
def test_each_of_ours_is_an_image_that_the_dockerfile_builds(name: str) -> None:
    targets = set(re.findall(r"^FROM \S+ AS (\S+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE))
    target = OURS[BUILDERS[OURS[name]["image"]]]["build"]["target"]
    assert target in targets
    assert OURS[name]["image"] == f"towpath-{target}:${{TOWPATH_VERSION:-0.1.0}}"


def test_an_image_is_built_once_so_that_a_second_start_finds_every_service_as_it_was() -> None:
    built = [service["image"] for service in OURS.values() if "build" in service]
    assert len(built) == len(set(built)) == len(BUILDERS)
    assert {name for name, service in OURS.items() if service.get("pull_policy") == "never"} == (
        set(OURS) - set(BUILDERS.values())
    )


def test_everything_in_the_images_is_compiled_for_nothing_can_be_kept_later() -> None:
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    installs = re.findall(r"uv pip (?:sync|install) .*", text)
    assert installs
    assert all("--compile-bytecode" in install for install in installs)
    assert "python3 -m compileall" in text


def test_servers_are_started_by_the_names_of_their_programs_wherever_an_image_has_them() -> None:
    started = [" ".join(service["entrypoint"]) for service in SERVICES.values() if "entrypoint" in service]
    assert [re.findall(r"exec (\S+)", text) for text in started] == [["docker-entrypoint.sh"], ["versitygw"]]


@pytest.mark.parametrize("name", OURS)
def test_each_of_ours_is_told_only_what_some_service_reads(name: str) -> None:
    assert set(OURS[name].get("environment", {})) <= names_that_are_read()


@pytest.mark.parametrize("name", OURS)
def test_a_service_sees_the_secrets_that_it_is_told_of_and_no_others(name: str) -> None:
    if name in {"keys", "prepare"}:
        assert set(mounted(name)) >= KEYS
        return
    folders = {source: target for source, target in mounted(name).items() if source in KEYS}
    told = [str(value) for value in OURS[name]["environment"].values() if "/keys/" in str(value)]
    assert {str(Path(path).parent) for path in told} == set(folders.values())
    assert all(text.endswith(":ro") for text in OURS[name].get("volumes", []))


def test_every_service_waits_for_what_it_needs_and_every_volume_is_named() -> None:
    for name, service in SERVICES.items():
        assert set(service.get("depends_on", {})) <= set(SERVICES)
        named = {source for source in mounted(name) if not source.startswith(".")}
        assert named <= set(FILE["volumes"])
        for source in set(mounted(name)) - named:
            assert (DEPLOY / source).exists(), f"{name} mounts {source}, which is not there"
    for name in set(OURS) - {"keys", "prepare"}:
        assert OURS[name]["depends_on"]["prepare"] == {"condition": "service_completed_successfully"}


def test_who_hands_artifacts_over_while_it_ends_ends_before_the_store() -> None:
    users = {name for name, service in OURS.items() if any("_STORE" in key for key in service.get("environment", {}))}
    users -= {"artifact-store", "prepare"}
    assert users == {"api-gateway", "browser-runner"}
    assert all("artifact-store" in OURS[name]["depends_on"] for name in users)


def test_every_variable_has_a_default_and_is_told_in_the_example() -> None:
    told = set(re.findall(r"^#?([A-Z][A-Z0-9_]+)=", (DEPLOY / ".env.example").read_text(), re.MULTILINE))
    used = set(re.findall(r"(?<!\$)\$\{([A-Z][A-Z0-9_]+)", TEXT))
    assert used == set(re.findall(r"(?<!\$)\$\{([A-Z][A-Z0-9_]+):-", TEXT)), "one without a default"
    assert used == told


def test_no_secret_stands_in_it() -> None:
    assert not re.findall(r"(?i)(password|secret|token)\w*:\s*[\"']?\w{6,}", TEXT.replace("/keys/", ""))


def test_the_profile_of_the_runner_lets_chromium_make_its_sandbox() -> None:
    [path] = [text.partition("=")[2] for text in OURS["browser-runner"]["security_opt"] if text.startswith("seccomp=")]
    profile = yaml.safe_load((DEPLOY / path).read_text())
    denied = {name for rule in profile["syscalls"] if rule["action"] == "SCMP_ACT_ERRNO" for name in rule["names"]}
    assert profile["defaultAction"] == "SCMP_ACT_ALLOW"
    assert not {"clone", "clone3", "unshare", "setns", "chroot", "pkey_mprotect"} & denied
    assert {"mount", "bpf", "keyctl", "init_module", "kexec_load", "io_uring_setup"} <= denied
