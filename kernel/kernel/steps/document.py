"""The `stepsJson` document, version 1: data only, one struct per step kind.

Field names are snake case here and camel case in JSON. Unknown keys are refused everywhere but in `metadata` and
`analysis`. What a struct cannot say (references, effects, bounds) is said by `kernel.steps.check`.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from kernel.domain.values import Effect
from kernel.steps.targets import Check, CountIs, Expect, Locator, ResponseIs, Shape, Short, Target, Text

DOCUMENT_BYTES_MAX = 512 * 1024
STEPS_MAX = 1000
DEPTH_MAX = 8
"""Levels of `if` and `for_each` inside each other."""

DEFAULT_TIMEOUT_MS = 30_000
DEFAULT_TEST_ID_ATTRIBUTE = "data-testid"
SLUG = r"^[A-Za-z][A-Za-z0-9_-]{0,62}$"
VARIABLE = r"^[a-z][a-z0-9_]{0,62}$"

Slug = Annotated[str, Meta(pattern=SLUG, description="Letters, digits, `-` and `_`, beginning with a letter.")]
Expression = Annotated[str, Meta(min_length=1, max_length=1024, description="A CEL expression.")]


class Rejection(Shape, frozen=True):
    """How the page shows that the source refuses what was typed. Looked for beside `expect`: whichever comes first."""

    when: Expect
    ask: Annotated[str, Meta(pattern=rf"{SLUG}|^$")] = ""
    """Id of an earlier `ask_user`, in this list of steps or in one around it, that is asked again, twice at most; the
    steps from there on are repeated. Empty: the run ends with `login_rejected` at once."""
    message: Target | None = None
    """Element that tells why, in the source's words; empty: the one that `when.appears` finds."""


# ---------------------------------------------------------------- fields common to all steps


class Backoff(StrEnum):
    """How the delay grows from try to try."""

    CONSTANT = "constant"
    LINEAR = "linear"
    EXPONENTIAL = "exponential"


class Retry(Shape, frozen=True):
    """How often a step is tried; the delay stands between two tries."""

    max_attempts: Annotated[int, Meta(ge=1, le=10)] = 3
    delay_ms: Annotated[int, Meta(ge=0, le=3_600_000)] = 500
    backoff: Backoff = Backoff.EXPONENTIAL


class OnError(StrEnum):
    """What a failed step does to the run."""

    FAIL = "fail"
    CONTINUE = "continue"


class Evidence(StrEnum):
    """When a picture is kept."""

    NONE = "none"
    FAILURE = "failure"
    ALWAYS = "always"


class _Common(Shape, frozen=True, tag_field="type"):
    id: Slug
    name: Short = ""
    """Shown as the current state; the id when empty."""
    when: Expression | None = None
    timeout_ms: Annotated[int, Meta(ge=1, le=3_600_000)] = DEFAULT_TIMEOUT_MS
    retry: Retry | None = None
    on_error: OnError = OnError.FAIL
    effect: Effect | None = None
    """None: the default of the kind, see `kernel.steps.effects`."""
    safe_point: bool | None = None
    evidence: Evidence = Evidence.FAILURE


# ---------------------------------------------------------------- navigation


class Navigate(Shape, frozen=True):
    url: Annotated[str, Meta(min_length=1, max_length=8192)]
    wait: Literal["commit", "domcontentloaded", "load"] | Target = "domcontentloaded"
    expect: Expect | None = None
    check: Check | None = None


class NavigateStep(_Common, frozen=True, tag="navigate", kw_only=True):
    """Open a URL."""

    params: Navigate


class WaitFor(Shape, frozen=True):
    """All that are given must come true."""

    target: Target | None = None
    state: Literal["visible", "hidden", "attached", "detached"] = "visible"
    url: Text = ""
    text: Text = ""
    count: CountIs | None = None
    response: ResponseIs | None = None
    """Answer that comes while this step waits; one that an earlier step brings about belongs into its `expect`."""
    check: Check | None = None


class WaitForStep(_Common, frozen=True, tag="wait_for", kw_only=True):
    """Wait for the page to be as described."""

    params: WaitFor


# ---------------------------------------------------------------- interaction


class Click(Shape, frozen=True):
    target: Target
    button: Literal["left", "right", "middle"] = "left"
    count: Annotated[int, Meta(ge=1, le=3)] = 1
    modifiers: tuple[Literal["Alt", "Control", "Meta", "Shift"], ...] = ()
    expect: Expect | None = None
    rejected: Rejection | None = None
    check: Check | None = None


class ClickStep(_Common, frozen=True, tag="click", kw_only=True):
    """Press a pointer button on an element."""

    params: Click


class Fill(Shape, frozen=True):
    target: Target
    value: Text
    """A secret is given as a template that is nothing but its name: `{{inputs.password}}`."""
    verify: bool = True
    expect: Expect | None = None
    rejected: Rejection | None = None
    check: Check | None = None


class FillStep(_Common, frozen=True, tag="fill", kw_only=True):
    """Replace the content of a field."""

    params: Fill


class Select(Shape, frozen=True):
    target: Target
    value: Text | tuple[Text, ...]
    by: Literal["label", "value", "index"] = "label"
    expect: Expect | None = None
    check: Check | None = None


class SelectStep(_Common, frozen=True, tag="select", kw_only=True):
    """Choose options of a `select` element."""

    params: Select


class Tick(Shape, frozen=True):
    target: Target
    checked: bool = True
    expect: Expect | None = None
    check: Check | None = None


class TickStep(_Common, frozen=True, tag="tick", kw_only=True):
    """Bring a checkbox, radio button or switch into a state; nothing is done when it is there already."""

    params: Tick


class Press(Shape, frozen=True):
    keys: Annotated[str, Meta(min_length=1, max_length=64)]
    """A key or a chord, such as `Enter` or `Control+A`."""
    target: Target | None = None
    expect: Expect | None = None
    rejected: Rejection | None = None
    check: Check | None = None


class PressStep(_Common, frozen=True, tag="press", kw_only=True):
    """Press keys."""

    params: Press


class Upload(Shape, frozen=True):
    """`target` is a file input, visible or not; with `drop` it is a zone that files are dropped on."""

    target: Target
    files: Annotated[tuple[Text, ...], Meta(min_length=1, max_length=20)]
    """Each one template that names artifacts of this run, or an input of kind `artifact`."""
    drop: bool = False
    max_bytes: Annotated[int, Meta(ge=1, le=1024**3)] = 50 * 1024**2
    """Of all files together."""
    expect: Expect | None = None
    check: Check | None = None


class UploadStep(_Common, frozen=True, tag="upload", kw_only=True):
    """Hand files to the page: artifacts of this run or of its inputs, never paths."""

    params: Upload


# ---------------------------------------------------------------- data and files

ValueType = Literal["string", "number", "integer", "boolean"]
MaxPages = Annotated[int, Meta(ge=1, le=1000)]


class FieldOf(Shape, frozen=True):
    """One value inside a row."""

    locator: Locator | None = None
    """None: the row itself."""
    attribute: Short = ""
    """Empty: the visible text, or the value of an input."""
    nth: Annotated[int, Meta(ge=0, le=1000)] = 0
    """Engine `aria`: which of several that match, from 0."""
    type: ValueType = "string"
    required: bool = False


class ColumnOf(Shape, frozen=True):
    """One column of a table, by its header."""

    header: Short
    type: ValueType = "string"
    required: bool = False


class NextButton(Shape, frozen=True, tag_field="kind", tag="next-button"):
    """Press `target` until it is missing or disabled, or brings no new row."""

    target: Target
    max_pages: MaxPages = 100


class PageNumber(Shape, frozen=True, tag_field="kind", tag="page-number"):
    """Go from page to page by number: open `url`, or press `link`; `{page}` stands for the number in either."""

    url: Text = ""
    link: Locator | None = None
    """Such as `{"role": "link", "name": "{page}"}`; the last page is the one without such a link."""
    first: Annotated[int, Meta(ge=0, le=1_000_000)] = 1
    """Number of the page that is open when the step begins."""
    max_pages: MaxPages = 100


class InfiniteScroll(Shape, frozen=True, tag_field="kind", tag="infinite-scroll"):
    """Scroll to the end until that brings no new row; rows that were shown stay in the page."""

    container: Target | None = None
    """What scrolls; None: the page."""
    settle_ms: Annotated[int, Meta(ge=50, le=30_000)] = 2_000
    """How long new rows may take to come."""
    max_pages: MaxPages = 100


class VirtualList(Shape, frozen=True, tag_field="kind", tag="virtual-list"):
    """Read while scrolling down a list that holds only the rows in view."""

    container: Target | None = None
    """What scrolls; None: the page."""
    key: Annotated[tuple[Slug, ...], Meta(max_length=20)] = ()
    """Fields that tell rows apart; empty: all of them."""
    settle_ms: Annotated[int, Meta(ge=50, le=30_000)] = 500
    """How long rows may take to be drawn."""
    max_pages: MaxPages = 1000
    """How often it is scrolled."""


Paging = NextButton | PageNumber | InfiniteScroll | VirtualList


class Extract(Shape, frozen=True):
    """`fields`: `rows` and `fields` are given. `table`: `scope` is a table; `columns` maps our names to its headers;
    rows out of sight, and those of head and foot, are no data.

    `aria`: as `fields`, by role and name only, read from what a screen reader is told of `scope`, or of the page.
    """

    engine: Literal["fields", "table", "aria"] = "fields"
    scope: Target | None = None
    rows: Locator | None = None
    fields: Annotated[dict[Slug, FieldOf], Meta(max_length=200)] = {}
    columns: Annotated[dict[Slug, Short | ColumnOf], Meta(max_length=200)] = {}
    schema: dict[str, Any] | None = None
    """JSON Schema of the list of rows."""
    on_invalid: Literal["fail", "branch"] = "fail"
    """What rows that break the schema, their type or `required` do. `branch`: the result says `ok: false`."""
    max_items: Annotated[int, Meta(ge=1, le=100_000)] = 10_000
    until: Expression | None = None
    """About `row`: the first row for which it holds ends the reading, and is not taken."""
    paging: Paging | None = None
    format: Literal["json", "csv"] = "json"
    """Of the artifact."""
    check: Check | None = None


class ExtractStep(_Common, frozen=True, tag="extract", kw_only=True):
    """Read rows from the page into an artifact."""

    params: Extract


class Assert(Shape, frozen=True):
    """At least one of `that`, `schema` (about `value`) and `page` is given."""

    that: Annotated[tuple[Expression, ...], Meta(max_length=50)] = ()
    value: Expression | None = None
    schema: dict[str, Any] | None = None
    page: Expect | None = None
    on_fail: Literal["fail", "terminate", "branch"] = "fail"
    """`branch`: the step completes and its result says `ok: false`."""
    message: Text = ""
    check: Check | None = None


class AssertStep(_Common, frozen=True, tag="assert", kw_only=True):
    """Prove something."""

    params: Assert


class Download(Shape, frozen=True):
    """`target` starts it, or `url` is it; without both the page starts it by itself, or has done so already."""

    target: Target | None = None
    url: Text = ""
    count: Annotated[int, Meta(ge=1, le=50)] = 1
    name: Text = ""
    """Empty: the name that the site gives, cleaned."""
    types: tuple[Short, ...] = ()
    """Media types allowed, such as `text/csv` or `image/*`; empty: any."""
    max_bytes: Annotated[int, Meta(ge=1, le=1024**3)] = 50 * 1024**2
    check: Check | None = None


class DownloadStep(_Common, frozen=True, tag="download", kw_only=True):
    """Keep a file as an artifact."""

    params: Download


class Screenshot(Shape, frozen=True):
    target: Target | None = None
    full_page: bool = False
    masks: Annotated[tuple[Locator, ...], Meta(max_length=50)] = ()
    check: Check | None = None


class ScreenshotStep(_Common, frozen=True, tag="screenshot", kw_only=True):
    """Keep a picture as an artifact."""

    params: Screenshot


# ---------------------------------------------------------------- people

FieldKind = Literal["credentials", "mfa_code", "security_answer", "phone", "choice", "confirm", "text"]


class AskField(Shape, frozen=True):
    """One thing that is asked for."""

    name: Annotated[str, Meta(pattern=VARIABLE)]
    label: Short = ""
    kind: FieldKind = "text"
    secret: bool = False
    options: tuple[Short, ...] = ()
    pattern: Short = ""


class AskUser(Shape, frozen=True):
    fields: Annotated[tuple[AskField, ...], Meta(min_length=1, max_length=20)]
    kind: FieldKind = "text"
    prompt: Text = ""
    answer_seconds: Annotated[int, Meta(ge=1, le=604_800)] = 900
    hold_seconds: Annotated[int, Meta(ge=0, le=3600)] = 600
    check: Check | None = None


class AskUserStep(_Common, frozen=True, tag="ask_user", kw_only=True):
    """Ask a person and wait."""

    params: AskUser


# ---------------------------------------------------------------- control


class If(Shape, frozen=True):
    condition: Expression
    then: Annotated[tuple[Step, ...], Meta(max_length=STEPS_MAX)] = ()
    else_: Annotated[tuple[Step, ...], Meta(max_length=STEPS_MAX)] = msgspec.field(default=(), name="else")


class IfStep(_Common, frozen=True, tag="if", kw_only=True):
    """Run one of two lists of steps."""

    params: If


class ForEach(Shape, frozen=True):
    items: Expression
    body: Annotated[tuple[Step, ...], Meta(min_length=1, max_length=STEPS_MAX)]
    variable: Annotated[str, Meta(pattern=VARIABLE)] = "item"
    """Name of the current item in expressions and templates; `index` counts from 0."""
    max_items: Annotated[int, Meta(ge=1, le=10_000)] = 1000
    on_item_error: OnError = OnError.FAIL


class ForEachStep(_Common, frozen=True, tag="for_each", kw_only=True):
    """Run steps for each item of a list."""

    params: ForEach


class Finish(Shape, frozen=True):
    outcome: Literal["done", "nothing_to_do", "terminated"] = "done"
    code: Short = ""
    message: Text = ""
    output: dict[str, Any] = {}
    """Output of the run; strings may hold templates."""


class FinishStep(_Common, frozen=True, tag="finish", kw_only=True):
    """End the run early, with an outcome."""

    params: Finish


Step = (
    NavigateStep
    | WaitForStep
    | ClickStep
    | FillStep
    | SelectStep
    | TickStep
    | PressStep
    | UploadStep
    | ExtractStep
    | AssertStep
    | DownloadStep
    | ScreenshotStep
    | AskUserStep
    | IfStep
    | ForEachStep
    | FinishStep
)
"""Every step kind there is; a `match` over it is exhaustive."""

STEP_TYPES: tuple[type[Step], ...] = get_args(Step)
KINDS: dict[str, type[Step]] = {str(step_type.__struct_config__.tag): step_type for step_type in STEP_TYPES}


class StepsDocument(Shape, frozen=True):
    """One workflow as it is written down."""

    version: Literal[1]
    steps: Annotated[tuple[Step, ...], Meta(min_length=1, max_length=STEPS_MAX)]
    input_schema: dict[str, Any] = {}
    session_check: tuple[Step, ...] = ()
    finally_: tuple[Step, ...] = msgspec.field(default=(), name="finally")
    start_origins: Annotated[tuple[str, ...], Meta(max_length=50)] = ()
    test_id_attribute: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{0,62}$")] = DEFAULT_TEST_ID_ATTRIBUTE
    """Attribute that `test_id` locators look at."""
    output_schema: dict[str, Any] | None = None
    metadata: dict[str, Any] = {}
    analysis: dict[str, Any] = {}


# ---------------------------------------------------------------- reading


def parse_document(text: str | bytes) -> StepsDocument:
    """The document in `text`; `msgspec.ValidationError` or `DecodeError` when it was never checked."""
    return msgspec.json.decode(text, type=StepsDocument)


def steps_json_schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of `stepsJson`, for editors and the API description."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(StepsDocument)}


def kind_of(step: Step) -> str:
    """The `type` of a step as written."""
    return str(step.__struct_config__.tag)


def name_of(step: Step) -> str:
    """What people see while it runs."""
    return step.name or step.id


def children_of(step: Step) -> tuple[Step, ...]:
    """The steps inside a control step."""
    match step:
        case IfStep():
            return step.params.then + step.params.else_
        case ForEachStep():
            return step.params.body
        case _:
            return ()


def walk(steps: tuple[Step, ...]) -> Iterator[Step]:
    """Every step of a list, the inner ones included, in document order."""
    for step in steps:
        yield step
        yield from walk(children_of(step))


def all_steps(document: StepsDocument) -> Iterator[Step]:
    """Every step of the document: session check, steps, finally."""
    yield from walk(document.session_check)
    yield from walk(document.steps)
    yield from walk(document.finally_)


def secret_inputs(document: StepsDocument) -> frozenset[str]:
    """Names of the inputs that are marked `secret`."""
    return frozenset(name for name, schema in input_properties(document).items() if schema.get("secret") is True)


def input_properties(document: StepsDocument) -> dict[str, dict[str, Any]]:
    """The inputs by name, each with its schema."""
    properties = document.input_schema.get("properties", {})
    if not isinstance(properties, dict):
        return {}
    return {name: schema if isinstance(schema, dict) else {} for name, schema in properties.items()}


_PAGELESS = (AskUserStep, IfStep, ForEachStep, FinishStep)


def _step_needs_page(step: Step) -> bool:
    if isinstance(step, AssertStep):
        return step.params.page is not None or step.params.check is not None
    return not isinstance(step, _PAGELESS) or (isinstance(step, AskUserStep) and step.params.check is not None)


def needs_page(document: StepsDocument) -> bool:
    """Whether any step looks at a page: pool `browser`; otherwise `light`."""
    return any(_step_needs_page(step) for step in all_steps(document))
