"""A document made ready to walk, once per text: parsed, its page need known, and whose results are read later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec

from kernel.steps import visit
from kernel.steps.document import (
    DEFAULT_TEST_ID_ATTRIBUTE,
    AskUserStep,
    ExtractStep,
    FillStep,
    FinishStep,
    IfStep,
    Step,
    StepsDocument,
    all_steps,
    needs_page,
    parse_document,
    secret_inputs,
)
from kernel.steps.expressions import compile_expression
from kernel.steps.templates import compile_template


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a walk needs to know of its document."""

    document: StepsDocument
    with_page: bool
    read_later: frozenset[str]
    """Ids of steps whose results the walk itself, an expression, a template or the output of the run reads."""
    types_secrets: bool
    """Whether some step types a secret: pages with a password field are then meant to be there."""


@lru_cache(maxsize=256)
def prepare(text: str) -> Prepared:
    """Parse and look through `text`. `msgspec.ValidationError` when it was never checked."""
    document = _with_attribute(parse_document(text))
    steps = list(all_steps(document))
    read = {step.id for step in steps if isinstance(step, IfStep | FinishStep | ExtractStep)}
    for step in steps:
        read |= _reads(step)
    return Prepared(document, needs_page(document), frozenset(read), _types_secrets(document, steps))


def _types_secrets(document: StepsDocument, steps: Sequence[Step]) -> bool:
    asked = {step.id for step in steps if isinstance(step, AskUserStep) and any(f.secret for f in step.params.fields)}
    secrets = {("inputs", name) for name in secret_inputs(document)} | {("steps", step_id) for step_id in asked}
    return any(
        compile_template(step.params.value).single[:2] in secrets for step in steps if isinstance(step, FillStep)
    )


def _with_attribute(document: StepsDocument) -> StepsDocument:
    """The document with its own test id attribute written into each locator that has none."""
    attribute = document.test_id_attribute
    if attribute == DEFAULT_TEST_ID_ATTRIBUTE:
        return document
    return msgspec.convert(_attributed(msgspec.to_builtins(document), attribute), StepsDocument)


def _attributed(value: Any, attribute: str) -> Any:
    match value:
        case {"testId": _}:
            return {"testIdAttribute": attribute, **value}
        case dict():
            return {name: _attributed(item, attribute) for name, item in value.items()}
        case list() | tuple():
            return [_attributed(item, attribute) for item in value]
        case _:
            return value


def _reads(step: Step) -> set[str]:
    sources = [source for _, source in visit.expressions(step.params, "")]
    if step.when is not None:
        sources.append(step.when)
    read = {name for source in sources for name in compile_expression(source).steps}
    for _, text in visit.texts(step.params, ""):
        read |= {path[1] for path in compile_template(text).paths if path[0] == "steps" and len(path) > 1}
    return read
