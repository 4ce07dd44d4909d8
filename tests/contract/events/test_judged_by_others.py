"""The event contract as other people's tools see it: AsyncAPI's own parser, and buf."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kernel.log.topics import GENERATION, TOPICS
from tests.support.node_packages import HAS_NODE, NODE_REASON, installed
from tests.support.requires import requires
from tools.events.__main__ import DOCUMENTS
from tools.events.public import public_events

pytestmark = requires("Node", available=HAS_NODE, reason=NODE_REASON)
HERE = Path(__file__).resolve().parent
BUF_MACHINES = {"x86_64": "x64", "aarch64": "aarch64"}
PROTOS = HERE.parents[2] / "protos"


@pytest.fixture(scope="module")
def packages() -> Path:
    return installed(HERE / "node" / "package-lock.json")


def judged(document: Path, packages: Path) -> dict[str, Any]:
    command = ["node", str(HERE / "node" / "judge_asyncapi.mjs"), str(document), str(packages)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", ["asyncapi.yaml", "asyncapi.json"])
def test_asyncapis_own_parser_has_nothing_to_say(packages: Path, name: str) -> None:
    found = judged(DOCUMENTS / name, packages)
    assert found["diagnostics"] == []
    assert sorted(found["messages"]) == sorted(event.type for event in public_events())
    channels = dict(found["channels"])
    assert sorted(channels) == sorted(f"towpath.{topic}.{GENERATION}" for topic, row in TOPICS.items() if row.public)
    for bindings in channels.values():
        assert bindings["topicConfiguration"]["retention.ms"] == -1


def test_the_parser_would_have_found_what_is_wrong(packages: Path, tmp_path: Path) -> None:
    document = json.loads((DOCUMENTS / "asyncapi.json").read_text())
    document["channels"]["job_runs"]["bindings"]["kafka"]["topicConfiguration"]["retention.ms"] = "for ever"
    (tmp_path / "wrong.json").write_text(json.dumps(document))
    found = judged(tmp_path / "wrong.json", packages)
    assert any("retention.ms" in diagnostic["path"] for diagnostic in found["diagnostics"])


NEEDS_BUF = requires("buf", available=platform.machine() in BUF_MACHINES, reason="run this on x86-64 or ARM-64")


def buf(packages: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = packages / f"node_modules/@bufbuild/buf-linux-{BUF_MACHINES[platform.machine()]}/bin/buf"
    command = [str(program), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@NEEDS_BUF
def test_buf_finds_the_public_contracts_well_made(packages: Path) -> None:
    found = buf(packages, "lint", str(PROTOS))
    assert (found.returncode, found.stdout) == (0, "")


@NEEDS_BUF
def test_buf_finds_nothing_broken_since_the_first_release(packages: Path, tmp_path: Path) -> None:
    against = ("--against", f"{HERE / 'released.pb'}#format=binpb")
    found = buf(packages, "breaking", str(PROTOS), *against)
    assert (found.returncode, found.stdout) == (0, "")
    shutil.copytree(PROTOS, tmp_path / "protos", ignore=shutil.ignore_patterns("gen"))
    proto = tmp_path / "protos/contracts/v1/job_run.proto"
    proto.write_text(proto.read_text().replace("string job_id = 2;", "string job_id = 22;"))
    found = buf(packages, "breaking", str(tmp_path / "protos"), *against)
    assert found.returncode != 0
    assert "job_id" in found.stdout
