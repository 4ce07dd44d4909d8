"""Builds of the services that follow each other, made of copies of this tree, so that several can run at once.

    this    this tree, but for snapshots, which come soon
    next    the release after it. It adds what goes both ways: a field of a request, of a decision, of a public fact, of
            a state value; a kind of input that no older build misses; a migration that only adds. And it works in
            another shape of a state value, reads it, and still writes the former one
    last    the release after that: it writes the new shape

Each `Edit` stands at a text of this tree. Where that text has changed, the edit is to be put beside it again.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc_tools

ROOT = Path(__file__).resolve().parents[2]
MEMBERS = ("kernel", *(f"services/{name}" for name in ("api-gateway", "scheduler", "browser-runner", "artifact-store")))
NOTE = "told by the next build"
"""What gateways of the next build say in their requests, and nobody before."""
SNAPSHOT_RECORDS = 40


@dataclass(frozen=True, slots=True)
class Edit:
    """`before`, which stands once in the file, becomes `after`."""

    path: str
    before: str
    after: str

    def apply(self, folder: Path) -> None:
        file = folder / self.path
        text = file.read_text()
        assert text.count(self.before) == 1, f"{self.path} does not hold once: {self.before!r}"
        file.unlink()  # the file may be shared with another build
        file.write_text(text.replace(self.before, self.after))


@dataclass(frozen=True, slots=True)
class Build:
    """One build. `number` tells its processes apart from those of others; `path` is its PYTHONPATH."""

    name: str
    number: int
    path: str


def make_builds(folder: Path) -> tuple[Build, Build, Build]:
    """This one, the next one, and the one after it, below `folder`."""
    this = _made(folder / "this", ROOT, _SOON)
    following = _made(folder / "next", folder / "this", _NEXT)
    _generate(folder / "next", sorted({edit.path for edit in _NEXT if edit.path.endswith(".proto")}))
    last = _made(folder / "last", folder / "next", _LAST)
    return Build("this", 1, this), Build("next", 2, following), Build("last", 3, last)


def _made(folder: Path, origin: Path, edits: Sequence[Edit]) -> str:
    for member in ("protos", *MEMBERS):
        shutil.copytree(origin / member, folder / member)
    for edit in edits:
        edit.apply(folder)
    return ":".join(str(folder / member) for member in ("protos/gen", *MEMBERS))


def _generate(folder: Path, files: Sequence[str]) -> None:
    protos, include = folder / "protos", Path(grpc_tools.__file__).parent / "_proto"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{protos}", f"-I{include}", f"--python_out={protos}/gen"]
    subprocess.run([*command, *(str(folder / file) for file in files)], check=True, capture_output=True)


_BOUNDS = "Bounds(snapshot_step_records=64, snapshot_step_bytes=65_536, snapshot_rest_seconds=30.0)"
_SOON = [
    Edit(path, _BOUNDS, f"Bounds(snapshot_step_records=64, snapshot_records={SNAPSHOT_RECORDS})")
    for path in ("services/scheduler/scheduler/main.py", "services/api-gateway/api_gateway/main.py")
]

_JOB_RUN = "kernel/kernel/domain/job_run.py"
_STATE = "services/scheduler/scheduler/advance/state.py"
_REQUESTS = "services/scheduler/scheduler/advance/requests.py"
_HEARTBEAT = "services/browser-runner/browser_runner/heartbeat.py"
_MIGRATIONS = "services/api-gateway/api_gateway/migrations.py"

_A_FIELD_MORE = [
    Edit(
        "protos/contracts/internal/requests.proto",
        "  // Place in the plan at which it begins; above 0 only for a retry.\n  int32 first_position = 13;\n",
        "  int32 first_position = 13;\n  string note = 100;\n",
    ),
    Edit(
        "protos/contracts/internal/run.proto",
        "  int32 first_position = 13;\n",
        "  int32 first_position = 13;\n  string note = 100;\n",
    ),
    Edit(
        "protos/contracts/v1/job_run.proto",
        "  repeated SealedBody inputs = 13;\n",
        "  repeated SealedBody inputs = 13;\n  string note = 100;\n",
    ),
    Edit(
        _JOB_RUN,
        '    """Where in the plan it begins; those before are taken as done by the run that this one repeats."""\n',
        '    note: str = ""\n',
    ),
    Edit(
        _JOB_RUN,
        "    created_ms: int\n    first_position: int = 0\n",
        '    created_ms: int\n    first_position: int = 0\n    note: str = ""\n',
    ),
    Edit(
        _JOB_RUN,
        '    """Beside `workflow_ids`: JSON objects of the inputs, sealed; secret ones are vault references."""\n',
        '    note: str = ""\n',
    ),
    Edit(
        "services/api-gateway/api_gateway/commands.py",
        "        request = JobRunRequested(\n",
        f"        request = JobRunRequested(\n            note={NOTE!r},\n",
    ),
    Edit(
        _REQUESTS,
        "            created_ms=pen.context.now_ms,\n            first_position=request.first_position,\n",
        "            created_ms=pen.context.now_ms,\n            first_position=request.first_position,\n"
        "            note=request.note,\n",
    ),
    Edit(
        _REQUESTS,
        "            inputs=tuple(workflow.inputs for workflow in request.plan),\n",
        "            inputs=tuple(workflow.inputs for workflow in request.plan),\n            note=request.note,\n",
    ),
]

_A_STATE_THAT_COUNTS = [
    Edit(
        _STATE,
        "    position: int = -1\n    current: Current | None = None\n",
        "    position: int = -1\n    current: Current | None = None\n    heard: int = 0\n",
    ),
    Edit(
        _STATE,
        "    return replace(run, sequence=sequence, current=evolve_current(run.current, event))\n",
        "    current = evolve_current(run.current, event)\n"
        "    return replace(run, sequence=sequence, current=current, heard=run.heard + 1)\n",
    ),
]

_A_SHAPE = [
    Edit(
        _STATE,
        "@dataclass(frozen=True, slots=True)\nclass Tombstone:\n",
        """@dataclass(frozen=True, slots=True)
class FormerTombstone:
    root_run_id: str
    organization_id: str
    outcome: str
    sequence: int
    expires_ms: int
    request_id: RequestId = RequestId("")

    def raised(self) -> Tombstone:
        end = f"{self.outcome} {self.sequence}"
        return Tombstone(self.root_run_id, self.organization_id, end, self.expires_ms, self.request_id)

    @classmethod
    def lowered(cls, value: Tombstone) -> FormerTombstone:
        outcome, sequence = value.outcome, value.sequence
        return cls(value.root_run_id, value.organization_id, outcome, sequence, value.expires_ms, value.request_id)


@dataclass(frozen=True, slots=True)
class Tombstone:
    SHAPE: ClassVar[int] = 1
    FORMER: ClassVar[tuple[type, ...]] = (FormerTombstone,)
    WRITES: ClassVar[int] = 0
""",
    ),
    Edit(
        _STATE,
        '    outcome: str\n    sequence: int\n    expires_ms: int\n    request_id: RequestId = RequestId("")\n    "',
        '    end: str\n    expires_ms: int\n    request_id: RequestId = RequestId("")\n    "',
    ),
    Edit(
        _STATE,
        "RunValue = LiveRun | Tombstone\n",
        "Tombstone.outcome = property(lambda self: self.end.rpartition(' ')[0])\n"
        "Tombstone.sequence = property(lambda self: int(self.end.rpartition(' ')[2]))\n"
        "RunValue = LiveRun | Tombstone\n",
    ),
    Edit(
        _STATE,
        "                outcome=event.outcome,\n                sequence=run.sequence,\n",
        '                end=f"{event.outcome} {run.sequence}",\n',
    ),
    Edit(_STATE, "from typing import Any\n", "from typing import Any, ClassVar\n"),
]

_A_KIND_OF_INPUT = [
    Edit(
        "protos/contracts/internal/dispatch.proto",
        "message RunnerHeartbeat {\n",
        "message RunnerDescribed {\n  string incarnation = 1;\n  string build = 2;\n}\n\nmessage RunnerHeartbeat {\n",
    ),
    Edit(
        "kernel/kernel/domain/task.py",
        "@dataclass(frozen=True, slots=True)\nclass RunnerHeartbeat:\n",
        "@dataclass(frozen=True, slots=True)\nclass RunnerDescribed:\n"
        "    incarnation: Incarnation\n    build: str\n\n\n"
        "@dataclass(frozen=True, slots=True)\nclass RunnerHeartbeat:\n",
    ),
    Edit(
        "kernel/kernel/log/topics.py",
        "    task.RunnerDied: TypeRow(",
        '    task.RunnerDescribed: TypeRow("runner.described", {Topic.DISPATCH: Writer.RUNNER}),\n'
        "    task.RunnerDied: TypeRow(",
    ),
    Edit(
        _HEARTBEAT,
        "            await services.log.append([record])\n",
        """            described = encode(
                RunnerDescribed(services.incarnation, "next"),
                topic=Topic.DISPATCH,
                key=self._key,
                envelope=Envelope(derived_id("described", services.incarnation, self._pool), now_ms),
                partition=self._partition,
            )
            await services.log.append([described, record] if self._count == 1 else [record])
""",
    ),
    Edit(_HEARTBEAT, "import HeldTask, RunnerHeartbeat\n", "import HeldTask, RunnerDescribed, RunnerHeartbeat\n"),
]

_A_MIGRATION = [
    Edit(_MIGRATIONS, "_OLDEST = {", '_OLDEST = {"notes": 0, '),
    Edit(_MIGRATIONS, "    )\n    words = {", '        ("notes", _NOTES),\n    )\n    words = {'),
    Edit(
        _MIGRATIONS,
        "def migrations(",
        '''_NOTES = """
ALTER TABLE job_runs ADD COLUMN note TEXT NOT NULL DEFAULT '';
CREATE INDEX job_runs_noted ON job_runs (note) WHERE note <> ''
"""


def migrations(''',
    ),
    Edit(
        "services/api-gateway/api_gateway/projections/job_runs.py",
        '        "retry_of": event.retry_of,\n',
        '        "retry_of": event.retry_of,\n        "note": event.note,\n',
    ),
]

_NEXT = [*_A_FIELD_MORE, *_A_STATE_THAT_COUNTS, *_A_SHAPE, *_A_KIND_OF_INPUT, *_A_MIGRATION]
_LAST = [Edit(_STATE, "    WRITES: ClassVar[int] = 0\n", "")]
