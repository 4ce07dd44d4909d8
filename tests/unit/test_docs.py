"""Holds the documents to the code: what they link to and name exists, and what users meet is named."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest

from api_gateway.surfaces.api_v2.errors import STATUS
from kernel.settings import variables
from kernel.steps.check import check_document
from tools.manual import PAGES, renewed
from tools.service_settings import TABLES
from towpath.cli import cli as towpath

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "clients").glob("*/README.md"))
)
FAILS = "docs/when-things-fail.md"
WRITING = "docs/writing-workflows.md"

FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
JSON = re.compile(r"^(?:```json|cat > \S+ <<'EOF')\n(.*?)^(?:```|EOF)$", re.DOTALL | re.MULTILINE)
INLINE_CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
MAKE = re.compile(r"(?:`|^|\s)make ((?:[a-z][a-z-]*[ \t]*)+)(?=`|$|[ \t]*[A-Z#]|\n|[ \t]{2})", re.MULTILINE)
COMMAND = re.compile(r"(?:\.venv/bin/|\$ |^|\(|`)towpath ([a-z]+)(?: ([a-z]+))?((?: +[^\n`|)]*)?)", re.MULTILINE)
OPTION = re.compile(r"(?<!\S)--[a-z][a-z-]*")
VARIABLE = re.compile(r"\bTOWPATH_[A-Z_]+\b")
CODE_ROW = re.compile(r"^\| `([a-z_]+)` \|(?: (\d{3}) \|)?", re.MULTILINE)

SETTINGS_FILES = (
    "deploy/embedded/embedded/settings.py", "clients/python/towpath/settings.py",
    "deploy/cluster/cluster/layout.py", "kernel/kernel/log/kafka/settings.py", "kernel/kernel/sql/postgres/settings.py",
    "tools/kafka.py", "tools/versitygw.py",
)  # fmt: skip
FOR_TESTS = {
    "TOWPATH_REQUIRE", "TOWPATH_SEED", "TOWPATH_SEEDS", "TOWPATH_REFRESH_SNAPSHOTS",
    "TOWPATH_TEST_KAFKA", "TOWPATH_TEST_KAFKA_NODES", "TOWPATH_TEST_DATABASE", "TOWPATH_TEST_LOG",
    "TOWPATH_TEST_POSTGRES_URL", "TOWPATH_FUZZ_CASES", "TOWPATH_HEALTH_KILLS", "TOWPATH_PICTURES",
    "TOWPATH_ROLLING_RUNS", "TOWPATH_TIMES",
}  # fmt: skip
ASKED_FOR = re.compile(r"""environ(?:\.get\(|\[)["'](TOWPATH_[A-Z_]+)["']""")
BETWEEN_OUR_PROCESSES = {"TOWPATH_LIVENESS_FD"}


def text_of(name: str) -> str:
    return (ROOT / name).read_text()


def anchors_of(name: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = HEADING.findall(FENCE.sub("", text_of(name)))
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def section(name: str, heading: str) -> str:
    """What stands below one heading of the second level."""
    return text_of(name).split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


@pytest.mark.parametrize("name", PAGES)
def test_the_generated_parts_are_what_the_code_says(name: str) -> None:
    assert text_of(name) == renewed(text_of(name)), "`make manual` writes them"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_leads_somewhere(name: str) -> None:
    text = INLINE_CODE.sub("", FENCE.sub("", text_of(name)))
    for target in LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        path = ((ROOT / name).parent / file).resolve() if file else ROOT / name
        assert path.exists(), f"{name}: {target}"
        if anchor:
            assert anchor in anchors_of(path.relative_to(ROOT).as_posix()), f"{name}: {target}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_make_verb_that_is_named_exists(name: str) -> None:
    verbs = set(re.findall(r"^([a-z][a-z-]*):", text_of("Makefile"), re.MULTILINE))
    code = "\n".join(code_in(name))
    named = {verb for words in MAKE.findall(code) for verb in words.split()}
    assert not named - verbs


def code_in(name: str) -> Iterator[str]:
    """Code blocks and inline code of a page, without the prose around them."""
    text = text_of(name)
    for block in FENCE.findall(text):
        # What a verb does stands behind two spaces.
        yield re.sub(r"(?<=\S) {2,}.*", "", block)
    yield from (found.strip("`") for found in INLINE_CODE.findall(FENCE.sub("", text)))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_command_that_is_named_exists_with_its_options(name: str) -> None:
    for group_name, command_name, rest in COMMAND.findall("\n".join(code_in(name))):
        group = towpath.commands.get(group_name)
        assert group is not None, f"{name}: towpath {group_name}"
        if not command_name:
            continue
        command = group.commands.get(command_name) if isinstance(group, click.Group) else None
        assert command is not None, f"{name}: towpath {group_name} {command_name}"
        known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
        assert set(OPTION.findall(rest)) <= known, f"{name}: towpath {group_name} {command_name}{rest}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_workflow_that_is_shown_may_be_saved(name: str) -> None:
    for block in JSON.findall(text_of(name)):
        shown = msgspec.json.decode(block)
        steps = shown.get("stepsJson", shown)
        if "steps" in steps:
            assert not check_document(steps, open_hosts={"127.0.0.1"})


def test_settings_and_documents_name_the_same_variables() -> None:
    read_by_name = {found for name in SETTINGS_FILES for found in VARIABLE.findall(text_of(name))}
    places = [place for table in TABLES.values() for place in table]
    read_by_field = {one.name for _, kind, prefix, forms in places for one in variables(kind, prefix, forms)}
    set_in_code = {name for name in read_by_name | read_by_field if VARIABLE.fullmatch(name) and name[-1] != "_"}
    documented = {found for name in DOCUMENTS for found in VARIABLE.findall(text_of(name))}
    assert documented == set_in_code | FOR_TESTS
    assert set(VARIABLE.findall(text_of("docs/configuration.md"))) == documented, "each has its row"


def test_variables_for_tests_are_read_by_tests() -> None:
    read = {
        found for path in (ROOT / "tests").rglob("*.py") if path.name != "test_docs.py"
        for found in VARIABLE.findall(path.read_text())
    }  # fmt: skip
    assert read >= FOR_TESTS


def test_whatever_tests_ask_the_environment_for_is_documented() -> None:
    asked = {found for path in (ROOT / "tests").rglob("*.py") for found in ASKED_FOR.findall(path.read_text())}
    assert asked >= {"TOWPATH_SEED", "TOWPATH_HEALTH_KILLS"}
    assert asked - BETWEEN_OUR_PROCESSES <= set(VARIABLE.findall(text_of("docs/configuration.md")))


def test_every_error_code_of_the_api_has_its_row_and_its_status() -> None:
    rows = dict(CODE_ROW.findall(section(FAILS, "Answers of the API")))
    assert rows == {code: str(status) for code, status in STATUS.items()}


def test_every_failure_code_of_a_run_has_its_row() -> None:
    rows = {code for code, _ in CODE_ROW.findall(section(FAILS, "Failures of runs"))}
    assert rows == set(run_codes())


def run_codes() -> Iterator[str]:
    """Codes that runner and scheduler put into a run's failure."""
    places = [*(ROOT / "services/browser-runner").rglob("*.py"), *(ROOT / "services/scheduler").rglob("*.py")]
    for path in places:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                yield from _code_in(node)


def _code_in(call: ast.Call) -> Iterator[str]:
    """`StepFailed(code, …)`, its `__init__` in a kind of it, `End(status, output, code, …)`, `Failure(code=…)`."""
    name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
    place = {"StepFailed": 0, "__init__": 0, "End": 2}.get(name)
    given = [argument.value for argument in call.keywords if name == "Failure" and argument.arg == "code"]
    if place is not None and len(call.args) > place:
        given.append(call.args[place])
    yield from (str(value.value) for value in given if isinstance(value, ast.Constant) and value.value)


def test_every_fault_of_a_document_has_its_row() -> None:
    rows = {code for code, _ in CODE_ROW.findall(section(WRITING, "What is refused when a workflow is saved"))}
    assert rows == set(fault_codes())


def fault_codes() -> Iterator[str]:
    """Codes that the check of a document gives: `self.say(at, code, …)` and `Detail(at, code, …)`."""
    checks = [ast.parse(text_of(f"kernel/kernel/steps/{name}.py")) for name in ("check", "rejections")]
    for node in itertools.chain(*map(ast.walk, checks)):
        if isinstance(node, ast.Call) and len(node.args) > 1:
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            code = node.args[1]
            if name in {"say", "Detail"} and isinstance(code, ast.Constant):
                yield str(code.value)
