"""The programs of `examples/subscribe-to-events`, made ready as their README says.

Builds in Go and Java fetch modules, so they are made once and kept in `.tools/examples`, by what they are made from.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc_tools
import pytest
from grpc_tools import protoc

from tests.support.node_packages import installed

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples/subscribe-to-events"
KEPT = ROOT / ".tools" / "examples"
PROTOS = ROOT / "protos"
PUBLIC = sorted(str(path.relative_to(PROTOS)) for path in (PROTOS / "contracts/v1").glob("*.proto"))
GENERATOR = "google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12"
TOLD = (
    *("id", "jobId", "organizationId", "status", "workflowRunIds", "workflowRevisions", "testMode", "retryOf"),
    *("createdByUserId", "createdAt", "startedAt", "completedAt", "updatedAt", "errorReason", "failedStep"),
)
"""What both sides tell of a job run."""


@dataclass
class Subscriber:
    """One of the example programs."""

    command: list[str]
    environ: dict[str, str]
    state: Path

    def follow(self) -> subprocess.Popen[bytes]:
        """Follow for ever."""
        with self.state.with_suffix(".log").open("ab") as log:
            return subprocess.Popen(self.command, env=self.environ, stdout=log, stderr=log)

    def model(self) -> dict[str, Any]:
        """Go on to the present end; the model."""
        command = [*self.command, "--until-end"]
        done = subprocess.run(command, env=self.environ, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    def forget_last(self, records: int) -> None:
        """Deliver the last records of each partition again."""
        saved = json.loads(self.state.read_text())
        assert saved["runs"], "it has followed before it was killed"
        saved["offsets"] = {at: max(0, offset - records) for at, offset in saved["offsets"].items()}
        self.state.write_text(json.dumps(saved))


def python_example(folder: Path, where: dict[str, str]) -> Subscriber:
    """With classes that are generated as its README says."""
    home = folder / "python"
    shutil.copytree(EXAMPLES / "python", home)
    include = Path(grpc_tools.__file__).parent / "_proto"
    assert protoc.main(["protoc", f"-I{PROTOS}", f"-I{include}", f"--python_out={home}", *PUBLIC]) == 0
    for package in ("contracts", "contracts/v1"):
        (home / package / "__init__.py").touch()  # else our own package of this name would be found first
    state = folder / "python.json"
    command = [sys.executable, str(home / "subscriber.py"), "--state", str(state)]
    return Subscriber(command, {**os.environ, **where}, state)


def node_example(folder: Path, where: dict[str, str]) -> Subscriber:
    home = folder / "node"
    shutil.copytree(EXAMPLES / "node", home)
    (home / "node_modules").symlink_to(installed(EXAMPLES / "node/package-lock.json") / "node_modules")
    state = folder / "node.json"
    environ = {**os.environ, **where, "PROTOS": str(PROTOS), "STATE": str(state)}
    return Subscriber(["node", str(home / "subscriber.mjs")], environ, state)


def built(language: str, build: Callable[[Path], None]) -> Path:
    """A copy of the example, built; made anew when anything of it or of the contracts has changed."""
    digest = hashlib.sha256()
    for path in sorted((*(EXAMPLES / language).rglob("*"), *(PROTOS / name for name in PUBLIC))):
        if path.is_file():
            digest.update(path.read_bytes())
    home = KEPT / f"{language}-{digest.hexdigest()[:16]}"
    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / f"{language}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not (home / "complete").exists():
            shutil.rmtree(home, ignore_errors=True)
            shutil.copytree(EXAMPLES / language, home)
            build(home)
            (home / "complete").touch()
    return home


def called(home: Path, *command: str, **environ: str) -> None:
    """Run a tool; skips the test, or fails it where everything is required, when it cannot fetch what it needs."""
    done = subprocess.run(command, cwd=home, env={**os.environ, **environ}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        told = (done.stdout + done.stderr)[-2000:]
        if any(sign in told for sign in ("dial tcp", "Could not transfer artifact", "Unknown host", "i/o timeout")):
            pytest.skip(f"modules cannot be fetched: {told}")
        pytest.fail(told)


def build_go(home: Path) -> None:
    called(home, "go", "install", GENERATOR, GOBIN=str(home / "bin"))
    path = f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}"
    options = (f"--go_out={home}", "--go_opt=paths=source_relative")
    called(PROTOS, sys.executable, "-m", "grpc_tools.protoc", "-I.", *options, *PUBLIC, PATH=path)
    called(home, "go", "build", "-o", "subscriber", ".")


def build_java(home: Path) -> None:
    (home / "protos").mkdir()
    shutil.copytree(PROTOS / "contracts/v1", home / "protos/contracts/v1")
    called(home, "mvn", "-q", "-B", "compile", "dependency:copy-dependencies", "-DincludeScope=runtime")
