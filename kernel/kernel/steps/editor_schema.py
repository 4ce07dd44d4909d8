"""The JSON Schema of `stepsJson` with a text at every member, for editors that check, complete and explain.

Structure and bounds come from the structs of the document. What a member means stands below it in their source, or is
what the definition says that it refers to; members that explain themselves in code are explained here. What no schema
can say (that names exist, that templates and expressions compile, which hosts a URL may name, how deep steps may stand)
is said by `kernel.steps.check` when a workflow is saved.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Any

import msgspec

from kernel.steps.document import KINDS, steps_json_schema

TEXTS: dict[str, str] = {
    "StepsDocument.version": "Version of this form; 1.",
    "StepsDocument.steps": "What is done, in this order.",
    "StepsDocument.inputSchema": "JSON Schema of the inputs; `secret`, `askUser` and `label` mark one of them.",
    "StepsDocument.sessionCheck": "Steps of a LOGIN that pass when the stored session is still good.",
    "StepsDocument.finally": "Steps that run at the end, whatever the outcome was.",
    "StepsDocument.startOrigins": "Origins where the run may begin and go.",
    "StepsDocument.outputSchema": "JSON Schema that extracted data must fit.",
    "StepsDocument.metadata": "Kept and given back, never read.",
    "StepsDocument.analysis": "Kept and given back, never read.",
    "locators": "Ways to find it, the best first.",
    "Extract.fields": "Our names, each with what is read of a row.",
    "columns": "Our names, each with the header of its column.",
    "masks": "What is painted over.",
    "AskUser.fields": "What is asked for, one field each.",
    "Retry.maxAttempts": "How many tries there are in all.",
    "Retry.delayMs": "Milliseconds between the first two tries.",
    "Navigate.url": "Where to go; may hold templates behind the host.",
    "PageNumber.url": "URL of a page of the list.",
    "Download.url": "URL of the file.",
    "url": "URL that must be reached; `*` stands for anything.",
    "Target.description": "Words for people.",
    "frame": "css of the `iframe` that holds it.",
    "testId": "Value of the attribute that is there for tests.",
    "testIdAttribute": "Name of that attribute.",
    "role": "ARIA role.",
    "DownloadIs.name": "Name of the file.",
    "AskField.name": "Name of the answer.",
    "name": "Accessible name.",
    "AskField.label": "What people see beside the field.",
    "label": "Text of the label of a field.",
    "placeholder": "Text that an empty field shows.",
    "alt": "Alternative text of a picture.",
    "title": "Text of the `title` attribute.",
    "text": "Text that the page shows.",
    "css": "CSS selector.",
    "hasText": "Text that the element holds.",
    "exact": "Equal, or only contained whatever the case.",
    "tag": "Name of the HTML element.",
    "Identity.type": "Type of an `input`.",
    "FieldOf.type": "What the text is read as.",
    "ColumnOf.type": "What the text is read as.",
    "type": "Kind of the step.",
    "container": "What it stands in.",
    "Select.value": "The option, or several.",
    "Assert.value": "Expression whose value must fit `schema`.",
    "value": "Value that the step's target must have.",
    "atLeast": "So many at least.",
    "atMost": "So many at most.",
    "status": "HTTP status.",
    "method": "HTTP method.",
    "open": "URL that is opened before looking.",
    "timeoutMs": "Milliseconds that it may take.",
    "state": "State that is waited for.",
    "button": "Button of the pointer.",
    "Click.count": "How many clicks follow each other.",
    "count": "How many there must be.",
    "modifiers": "Keys that are held down meanwhile.",
    "when": "The step is skipped when this is false.",
    "safePoint": "Whether a later attempt may begin behind this step.",
    "verify": "Look whether the field holds what was typed.",
    "by": "What names an option.",
    "checked": "On or off.",
    "drop": "Drop the files onto the target.",
    "engine": "How rows are found.",
    "maxItems": "So many at most.",
    "paging": "How the next rows are reached.",
    "required": "A row without it is an error.",
    "header": "Header of the column.",
    "AskUser.kind": "What is asked for.",
    "AskField.kind": "What is asked for.",
    "kind": "How the next rows are reached.",
    "maxPages": "So many pages at most.",
    "that": "Expressions that must be true.",
    "schema": "JSON Schema.",
    "message": "Words for people; may hold templates.",
    "maxBytes": "A longer file is refused.",
    "fullPage": "The whole page, not only what is in sight.",
    "prompt": "The question.",
    "answerSeconds": "How long an answer is waited for.",
    "holdSeconds": "How long the page is kept open meanwhile.",
    "secret": "The answer goes to the vault only and is never shown.",
    "options": "Answers to choose from.",
    "pattern": "Regular expression that the answer must fit.",
    "then": "Steps when the condition is true.",
    "else": "Steps when it is not.",
    "body": "Steps for each item.",
    "outcome": "How the run ends.",
    "code": "Word for programs.",
}
"""By `Shape.member`, or by the member's name for all shapes."""
_UPPER = re.compile("(?<!^)([A-Z])")
_SNAKE = re.compile(r"`([a-z]+(?:_[a-z]+)+)`")
_FOR_CODERS = re.compile(r", see `kernel[^`]*`")


def editor_schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of `stepsJson`, every member and every definition with a description."""
    schema = steps_json_schema()
    definitions = schema["$defs"]
    for definition in definitions.values():
        properties = definition.get("properties", {})
        params = definitions.get(properties.get("params", {}).get("$ref", "").rpartition("/")[2])
        if params is not None:
            params.setdefault("description", definition["description"])
    shapes = {shape.__name__: shape for shape in _subclasses(msgspec.Struct) if _is_ours(shape)}
    for name, definition in definitions.items():
        said = _said_below(shapes[name]) if name in shapes else {}
        for member, found in definition.get("properties", {}).items():
            text = said.get(_snake(member)) or TEXTS.get(f"{name}.{member}") or _referred(found, definitions)
            if text := text or TEXTS.get(member, ""):
                found.setdefault("description", text)
    for definition in definitions.values():
        for told in (definition, *definition.get("properties", {}).values()):
            if "description" in told:
                told["description"] = _for_writers(told["description"])
    return schema


def _subclasses(base: type) -> Iterator[type]:
    shape: type
    for shape in base.__subclasses__():
        yield shape
        yield from _subclasses(shape)


def _is_ours(shape: type) -> bool:
    return shape.__module__.startswith(__package__ + ".")


def _said_below(shape: type) -> dict[str, str]:
    """The texts that stand below the members of a struct and of those that it extends."""
    said: dict[str, str] = {}
    for one in filter(_is_ours, reversed(shape.__mro__)):
        (found,) = ast.parse(textwrap.dedent(inspect.getsource(one))).body
        assert isinstance(found, ast.ClassDef)
        for node, after in zip(found.body, found.body[1:], strict=False):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                match after:
                    case ast.Expr(value=ast.Constant(value=str(text))):
                        said[node.target.id.rstrip("_")] = " ".join(text.split())
    return said


def _referred(found: dict[str, Any], definitions: dict[str, Any]) -> str:
    """What the one definition says that a member refers to."""
    refs = [choice["$ref"] for choice in (found, *found.get("anyOf", ())) if "$ref" in choice]
    return str(definitions[refs[0].rpartition("/")[2]].get("description", "")) if len(refs) == 1 else ""


def _for_writers(text: str) -> str:
    """A text of the code with the names of members as JSON has them; kinds of steps are written with `_` there, too."""
    text = _FOR_CODERS.sub("", " ".join(text.split()))
    return _SNAKE.sub(lambda match: match[0] if match[1] in KINDS else f"`{_camel(match[1])}`", text)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _snake(member: str) -> str:
    return _UPPER.sub(lambda match: "_" + match[1].lower(), member)
