"""Writes the parts of the manual that are made from the code, so that they cannot say something else.

    python -m tools.manual            write
    python -m tools.manual --check    compare, change nothing; exit 1 with the names of what differs

A part stands between `<!-- generated: NAME -->` and `<!-- end of NAME -->`; what stands around it is written by hand.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from api_gateway.surfaces.api_v2.meta import openapi_bytes
from kernel.log.topics import TOPICS, TYPES, Topic, TypeRow
from kernel.metrics import SERIES, Shown
from kernel.steps.document import KINDS, steps_json_schema
from tools.api_reference import api_reference
from tools.events import access
from tools.events.public import public_contracts, public_events
from tools.events.schemas import about_of
from tools.figures import rows_of as figures_of
from tools.service_settings import TABLES, rows_of

ROOT = Path(__file__).resolve().parent.parent
PAGES = (
    *("ARCHITECTURE.md", "README.md", "docs/api.md", "docs/configuration.md", "docs/figures.md", "docs/observing.md"),
    *("docs/subscribe-to-events.md", "docs/writing-workflows.md"),
)
PART = re.compile(r"<!-- generated: (?P<name>[a-z-]+) -->\n.*?<!-- end of (?P=name) -->", re.DOTALL)
DOCUMENTS = ("kernel/kernel/steps/document.py", "kernel/kernel/steps/targets.py")
SETTINGS = "deploy/embedded/embedded/settings.py"
VARIABLE = re.compile(r"^`(TOWPATH_[A-Z_]+)`:\s*")
DEFAULTS_SAID = {"data": "`.towpath`", "browser": "what `make run` finds"}
"""Defaults that are made elsewhere than in the class."""

SHAPES = (
    *("Target", "Locator", "Identity", "Expect", "ResponseIs", "DownloadIs", "Check", "Rejection", "CountIs", "Retry"),
    *("FieldOf", "ColumnOf", "NextButton", "PageNumber", "InfiniteScroll", "VirtualList", "AskField"),
)
"""What parameters are made of, in the order of the manual."""
STEP_LIST = "NavigateStep"
"""A list of steps is told by its first kind."""
FOR_CODERS = re.compile(r", see `kernel\.[\w.]+`")
SNAKE = re.compile(r"`([a-z]+(?:_[a-z]+)+)`")

Schema = dict[str, Any]
Rows = list[tuple[str, ...]]


def table(head: tuple[str, ...], rows: Rows) -> str:
    """A Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


# ---------------------------------------------------------------- what attributes say of themselves


@dataclass(frozen=True, slots=True)
class Said:
    """An attribute of a class and the text below it."""

    name: str
    default: str
    text: str


def said_in(path: str, class_name: str) -> list[Said]:
    """The attributes of a class in the file `path`, in order."""
    tree = ast.parse((ROOT / path).read_text())
    found = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == class_name)
    return list(_said(found))


def said_in_document(class_name: str) -> list[Said]:
    """The attributes of a shape of `stepsJson`, wherever it is written down."""
    where = next(path for path in DOCUMENTS if f"\nclass {class_name}(" in (ROOT / path).read_text())
    return said_in(where, class_name)


def _said(found: ast.ClassDef) -> Iterator[Said]:
    for node, after in zip(found.body, [*found.body[1:], ast.Pass()], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            text = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
            default = ast.unparse(node.value) if node.value is not None else ""
            yield Said(node.target.id, default, " ".join(str(text).split()))


# ---------------------------------------------------------------- topics


def topics_table() -> str:
    """Every topic: key, who writes into it, what for."""
    rows: Rows = []
    for topic, row in TOPICS.items():
        writers = sorted({f"`{found.topics[topic]}`" for found in TYPES.values() if topic in found.topics})
        rows.append((f"`{topic}`", row.key, ", ".join(writers), row.about, "yes" if row.public else "no"))
    return table(("Topic", "Key", "Written by", "Holds", "Public"), rows)


def types_table() -> str:
    """Every event type and where it stands; its writer is named per topic."""
    rows = [(f"`{row.wire}`", _places(row)) for row in TYPES.values()]
    return table(("Type", "Stands in (writer)"), sorted(rows))


def _places(row: TypeRow) -> str:
    by_writer: dict[str, list[Topic]] = {}
    for topic, writer in row.topics.items():
        by_writer.setdefault(writer, []).append(topic)
    return "; ".join(f"{', '.join(f'`{t}`' for t in topics)} ({writer})" for writer, topics in by_writer.items())


# ---------------------------------------------------------------- the event log for outsiders


def event_topics_table() -> str:
    """Every topic as brokers name it, and how long what."""
    return table(("Topic", "Read by", "Records are kept", "Cleaned up"), access.topic_rows())


def event_access_table() -> str:
    """What each kind of process reads and writes."""
    return table(("Process", "Reads", "Writes", "Deletes from", "Groups"), access.access_rows())


def event_types_table() -> str:
    """Every public event type, its message and what it means."""
    contracts = public_contracts()
    rows: Rows = [
        (f"`{event.type}`", f"`{event.topic}`", f"`{event.message}`", about_of(contracts, event.message))
        for event in public_events()
    ]
    return table(("Type", "Topic", "Message", "Meaning"), rows)


# ---------------------------------------------------------------- steps


def document_table() -> str:
    """The members of `stepsJson`."""
    return members_table("StepsDocument")


def common_table() -> str:
    """The members that all steps share."""
    return members_table("NavigateStep", said="_Common", without=("type", "params"))


def kinds_text() -> str:
    """Each kind of step with its parameters."""
    parts: list[str] = []
    for kind, step in KINDS.items():
        name = step.__name__.removesuffix("Step")
        about = " ".join(filter(None, (step.__doc__ or "", _definitions()[name].get("description", ""))))
        parts.append(f"### `{kind}`\n\n{_in_camel(about)}\n\n{members_table(name)}")
    return "\n\n".join(parts)


def shapes_text() -> str:
    """Each shape that parameters are made of."""
    parts: list[str] = []
    for name in SHAPES:
        about = _definitions()[name].get("description", "")
        inherited = ("Expect",) if name == "Check" else ()
        parts.append(f"### {name}\n\n{_in_camel(about)}\n\n{members_table(name, inherited=inherited)}")
    return "\n\n".join(parts)


def members_table(name: str, *, said: str = "", inherited: tuple[str, ...] = (), without: tuple[str, ...] = ()) -> str:
    """The members of one definition of the JSON Schema, with the texts that stand below them in the code."""
    texts = {_camel(a.name): a.text for source in (*inherited, said or name) for a in said_in_document(source)}
    schema = _definitions()[name]
    rows: Rows = [
        (f"`{member}`", type_of(found), _default(member, found, schema["required"]), _in_camel(texts.get(member, "")))
        for member, found in schema["properties"].items()
        if member not in without
    ]
    head = ("Member", "Type", "Default", "Meaning")
    shown = len(head) if any(row[-1] for row in rows) else len(head) - 1
    return table(head[:shown], [row[:shown] for row in rows])


def _definitions() -> dict[str, Schema]:
    definitions: dict[str, Schema] = steps_json_schema()["$defs"]
    return definitions


def _camel(name: str) -> str:
    first, *rest = name.rstrip("_").split("_")
    return first + "".join(part.capitalize() for part in rest)


def _in_camel(text: str) -> str:
    """A text of the code with member names as JSON has them; kinds of steps are written with `_` there, too."""
    text = FOR_CODERS.sub("", text)
    return SNAKE.sub(lambda match: match[0] if match[1] in KINDS else f"`{_camel(match[1])}`", text)


def _default(member: str, schema: Schema, required: list[str]) -> str:
    if member in required:
        return "required"
    value = schema.get("default")
    if value is None or (not value and not isinstance(value, bool | int)):
        return ""
    return f"`{_word(value)}`"


def _word(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def type_of(schema: Schema) -> str:
    """A JSON Schema in a few words."""
    match schema:
        case {"anyOf": choices}:
            return " or ".join(dict.fromkeys(type_of(one) for one in choices if one != {"type": "null"}))
        case {"$ref": ref}:
            name = ref.rsplit("/", 1)[-1]
            if name == STEP_LIST:
                return "step"
            found = _definitions()[name]
            return type_of(found) if "enum" in found else f"[{name}](#{name.lower()})" if name in SHAPES else name
        case {"enum": values}:
            return ", ".join(f"`{_word(value)}`" for value in values)
        case {"type": "array", "items": items}:
            many = "steps" if STEP_LIST in str(items) else f"list of {type_of(items)}"
            return many + _bounds(schema, "minItems", "maxItems")
        case {"type": "object"}:
            values = schema.get("additionalProperties")
            return f"object of {type_of(values)}" if isinstance(values, dict) and values else "object"
        case {"type": "integer"}:
            return "number" + _bounds(schema, "minimum", "maximum")
        case {"type": "string"}:
            is_expression = schema.get("description") == "A CEL expression."
            return "CEL expression" if is_expression else "text" + _bounds(schema, "minLength", "maxLength")
        case _:
            kind = schema.get("type", "any")
            return "true or false" if kind == "boolean" else str(kind)


def _bounds(schema: Schema, low: str, high: str) -> str:
    least, most = schema.get(low), schema.get(high)
    if most is None:
        return "" if least is None else f", from {least}"
    return f", {least} to {most:,}" if least else f", up to {most:,}"


# ---------------------------------------------------------------- settings


def settings_table() -> str:
    """The environment variables of the embedded form: a variable begins the text below its attribute."""
    rows: Rows = []
    for attribute in said_in(SETTINGS, "Settings"):
        named = VARIABLE.match(attribute.text)
        if named:
            meaning = attribute.text[named.end() :]
            default = DEFAULTS_SAID.get(attribute.name) or _plain(ast.literal_eval(attribute.default))
            rows.append((f"`{named[1]}`", default, meaning[0].upper() + meaning[1:]))
    return table(("Variable", "Default", "Meaning"), rows)


def service_settings_table(name: str) -> str:
    """The environment variables of one service of a cluster."""
    rows: Rows = []
    for place in TABLES[name]:
        texts = {said.name: said.text for said in said_in(place[0], place[1].__name__)}
        rows += rows_of(place, texts)
    return table(("Variable", "Default", "Meaning"), rows)


def _plain(value: bool | float | str) -> str:  # noqa: FBT001 (any default of a setting)
    if isinstance(value, str):
        return f"`{value}`" if value else "none"
    return f"`{int(value)}`"


# ---------------------------------------------------------------- series


def series_table() -> str:
    """Every series that a process shows."""
    rows: Rows = [
        (
            f"`{series.name}`",
            series.kind.value,
            ", ".join(f"`{label}`" for label in series.labels),
            "every process" if len(series.shown) == len(Shown) else ", ".join(series.shown),
            series.about,
        )
        for series in SERIES
    ]
    return table(("Name", "Type", "Labels", "Shown by", "What"), rows)


def figures_table(results: str) -> str:
    """What was measured last, and where."""
    where, rows = figures_of(results)
    head = ("Name", "Measured", "Unit", "Baseline of the same run", "Must", "Goal", "Load")
    return f"Measured on {where}\n\n{table(head, rows)}"


# ---------------------------------------------------------------- pages

MAKERS: dict[str, Callable[[], str]] = {
    "topics": topics_table,
    "types": types_table,
    "document": document_table,
    "common": common_table,
    "kinds": kinds_text,
    "shapes": shapes_text,
    "settings": settings_table,
    **{name: partial(service_settings_table, name) for name in TABLES},
    "series": series_table,
    "figures": partial(figures_table, "latest.jsonl"),
    "figures-on-kafka": partial(figures_table, "latest-kafka.jsonl"),
    "event-topics": lambda: f"{event_topics_table()}\n\n{access.common_configuration()}",
    "event-access": event_access_table,
    "event-acls": lambda: "```\n" + "\n".join(access.commands()) + "\n```",
    "event-types": event_types_table,
    "api": lambda: api_reference(msgspec.json.decode(openapi_bytes())),
}


def renewed(page: str) -> str:
    """A page with its generated parts as the code has them now. `KeyError` for a part that nothing makes."""

    def part(match: re.Match[str]) -> str:
        name = match["name"]
        return f"<!-- generated: {name} -->\n{MAKERS[name]()}\n<!-- end of {name} -->"

    return PART.sub(part, page)


def main() -> int:
    """Write or compare; 1 when `--check` finds a difference."""
    parser = argparse.ArgumentParser(description="Write the generated parts of the manual.")
    parser.add_argument("--check", action="store_true", help="compare, change nothing")
    check = parser.parse_args().check
    stale = []
    for name in PAGES:
        path = ROOT / name
        old = path.read_text()
        new = renewed(old)
        if new != old:
            stale.append(name)
            if not check:
                path.write_text(new)
    for name in stale:
        print(f"{'differs from the code' if check else 'written'}: {name}", file=sys.stderr)
    if stale and check:
        print("`make manual` writes them.", file=sys.stderr)
    return 1 if stale and check else 0


if __name__ == "__main__":
    sys.exit(main())
