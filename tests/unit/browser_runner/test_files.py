"""Which artifacts may be handed on: those of the run's own steps and of its inputs, whatever a reference says."""

from __future__ import annotations

from typing import Any

import msgspec

from browser_runner.files import FileRef, id_of, known_files
from kernel.steps.document import StepsDocument, parse_document

FILE = {"artifactId": "a1", "name": "x.csv", "sha256": "ab", "size": 3, "type": "text/csv"}
REF = FileRef("a1", "x.csv", "ab", 3, "text/csv")


def document(**inputs: Any) -> StepsDocument:
    rows = {"rows": {"css": "tr"}, "fields": {"artifactId": {}}}
    steps = [
        {"id": "dl", "type": "download", "params": {"url": "https://x.example/"}},
        {"id": "shot", "type": "screenshot", "params": {}},
        {"id": "read", "type": "extract", "params": rows},
        {"id": "ask", "type": "ask_user", "params": {"fields": [{"name": "artifact"}]}},
    ]
    raw = {"version": 1, "steps": steps, "inputSchema": {"properties": inputs}}
    return parse_document(msgspec.json.encode(raw))


def known(steps: dict[str, Any], inputs: dict[str, Any] | None = None, **schema: Any) -> dict[str, FileRef]:
    return known_files(document(**schema), {"steps": steps, "inputs": inputs or {}})


def test_what_steps_made_is_known() -> None:
    other = {**FILE, "artifactId": "a2"}
    assert known({"dl": {"files": [FILE]}, "shot": other}) == {
        "a1": REF,
        "a2": FileRef("a2", "x.csv", "ab", 3, "text/csv"),
    }


def test_an_input_counts_only_where_it_is_marked() -> None:
    marked = {"kind": "artifact"}
    assert known({}, {"file": FILE, "files": [FILE]}, file=marked, files=marked) == {"a1": REF}
    assert known({}, {"file": FILE}, file={"type": "object"}) == {}


def test_rows_answers_and_failed_steps_make_nothing_known() -> None:
    steps = {"read": {"rows": [FILE]}, "ask": FILE, "dl": {"failed": True, "code": "download_failed"}}
    assert known(steps) == {}


def test_a_reference_names_its_artifact_by_id_alone() -> None:
    assert [id_of(one) for one in ("a1", FILE, {}, 7, None, {"artifactId": 1})] == ["a1", "a1", "", "", "", ""]
