"""What is checked when a document is saved, so that a run never starts on one that cannot work. Pure.

Three passes: the shape of every step on its own (so that all faults are told at once), then, when shapes hold, what
steps say about each other in the order they run, then bounds and schemas. Each fault carries a JSON Pointer into what
the author sent and a stable code.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from kernel.domain.plan import WorkflowType
from kernel.errors import Detail
from kernel.steps import visit
from kernel.steps.document import (
    DEPTH_MAX,
    DOCUMENT_BYTES_MAX,
    KINDS,
    STEPS_MAX,
    AskUserStep,
    Assert,
    Click,
    Download,
    Extract,
    ExtractStep,
    FieldOf,
    Fill,
    FillStep,
    ForEachStep,
    IfStep,
    Navigate,
    NextButton,
    PageNumber,
    Press,
    Select,
    Step,
    StepsDocument,
    Upload,
    VirtualList,
    WaitFor,
    input_properties,
    parse_document,
    secret_inputs,
)
from kernel.steps.effects import check_of, default_effect, is_weaker
from kernel.steps.expressions import ExpressionError, compile_expression
from kernel.steps.hosts import is_origin, url_problem
from kernel.steps.locating import generated_part, too_wide
from kernel.steps.rejections import rejection_faults
from kernel.steps.schemas import SchemaError, compile_schema
from kernel.steps.targets import Check, Expect, Locator, Target
from kernel.steps.templates import TemplateError, compile_template

DETAILS_MAX = 50
_ACTS = (Click, Fill, Select, Press, Upload, Download, NextButton)
"""What is done to an element must not be done to another one."""
_LISTS = ("steps", "sessionCheck", "finally")
_INNER = {"if": ("then", "else"), "for_each": ("body",)}
_SPOT = re.compile(r" - at `\$(.*)`$", re.DOTALL)
_PART = re.compile(r"\.([^.\[]+)|\[(\d+)\]|\[\.\.\.\]")


def check_document(
    raw: object, *, workflow_type: WorkflowType | None = None, open_hosts: Collection[str] = ()
) -> list[Detail]:
    """What is wrong with a `stepsJson` as decoded from JSON; empty when it may be saved. At most 50 faults.

    Codes: `validation_failed`, `unknown_step_type`, `duplicate_id`, `unknown_reference`, `invalid_expression`,
    `invalid_template`, `invalid_schema`, `locator_too_wide`, `locator_unstable`, `url_not_allowed`,
    `secret_misplaced`, `effect_lowered`, `once_repeated`, `not_allowed_here`, `document_too_large`. `open_hosts` are
    private hosts that this installation lets runs reach.
    """
    if not isinstance(raw, Mapping):
        return [Detail("", "validation_failed", "must be an object")]
    text = msgspec.json.encode(raw)
    if len(text) > DOCUMENT_BYTES_MAX:
        return [Detail("", "document_too_large", f"must be at most {DOCUMENT_BYTES_MAX} bytes")]
    shapes = list(_shape_faults(raw))
    if shapes:
        return shapes[:DETAILS_MAX]
    try:
        document = parse_document(text)
    except msgspec.ValidationError as error:
        return [_shape_fault("", error)]
    checker = _Checker(document, frozenset(open_hosts))
    checker.check(workflow_type)
    return checker.faults[:DETAILS_MAX]


# ---------------------------------------------------------------- shapes


def _shape_faults(raw: Mapping[str, Any]) -> Iterator[Detail]:
    count = 0
    for name in _LISTS:
        for pointer, step, depth in _raw_steps(raw.get(name), f"/{name}", 0):
            count += 1
            if depth > DEPTH_MAX:
                yield Detail(pointer, "validation_failed", f"nested deeper than {DEPTH_MAX}")
                return
            yield from _step_shape(pointer, step)
    if count > STEPS_MAX:
        yield Detail("/steps", "validation_failed", f"must hold at most {STEPS_MAX} steps in all")


def _raw_steps(steps: object, base: str, depth: int) -> Iterator[tuple[str, Any, int]]:
    if not isinstance(steps, list):
        return
    for index, step in enumerate(steps):
        pointer = f"{base}/{index}"
        yield pointer, step, depth
        params = step.get("params") if isinstance(step, Mapping) else None
        if not isinstance(params, Mapping) or depth > DEPTH_MAX or not isinstance(step.get("type"), str):
            continue
        for inner in _INNER.get(step["type"], ()):
            yield from _raw_steps(params.get(inner), f"{pointer}/params/{inner}", depth + 1)


def _step_shape(pointer: str, step: Any) -> Iterator[Detail]:
    if not isinstance(step, Mapping):
        yield Detail(pointer, "validation_failed", "must be an object")
        return
    kind = step.get("type")
    if not isinstance(kind, str) or kind not in KINDS:
        known = ", ".join(sorted(KINDS))
        yield Detail(f"{pointer}/type", "unknown_step_type", f"must be one of {known}")
        return
    try:
        msgspec.convert(_without_inner_steps(kind, step), KINDS[kind])
    except msgspec.ValidationError as error:
        yield _shape_fault(pointer, error)


_PLACEHOLDER = {"id": "x", "type": "finish", "params": {}}


def _without_inner_steps(kind: str, step: Mapping[str, Any]) -> dict[str, Any]:
    # Inner steps are judged on their own; here only the length of their list matters.
    params = step.get("params")
    if not isinstance(params, Mapping):
        return dict(step)
    inner = {
        name: [_PLACEHOLDER] * len(params[name]) for name in _INNER.get(kind, ()) if isinstance(params.get(name), list)
    }
    return {**step, "params": {**params, **inner}}


def _shape_fault(base: str, error: msgspec.ValidationError) -> Detail:
    message = str(error)
    spot = _SPOT.search(message)
    parts = [name or index for name, index in _PART.findall(spot.group(1))] if spot else []
    return Detail(visit.pointer(base, *filter(None, parts)), "validation_failed", _SPOT.sub("", message))


# ---------------------------------------------------------------- meaning


@dataclass(slots=True)
class _Names:
    """What a step may name where it stands."""

    inputs: frozenset[str]
    steps: set[str]
    variables: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Checker:
    document: StepsDocument
    open_hosts: frozenset[str]
    faults: list[Detail] = field(default_factory=list)
    secrets: set[tuple[str, ...]] = field(default_factory=set)
    ids: set[str] = field(default_factory=set)

    def say(self, pointer: str, code: str, message: str) -> None:
        self.faults.append(Detail(pointer, code, message))

    def check(self, workflow_type: WorkflowType | None) -> None:
        document = self.document
        self.secrets = {("inputs", name) for name in secret_inputs(document)}
        if document.session_check and workflow_type is WorkflowType.USER_DEFINED:
            self.say("/sessionCheck", "not_allowed_here", "only a LOGIN workflow has a session check")
        self._check_schema("/inputSchema", document.input_schema)
        if document.input_schema and document.input_schema.get("type", "object") != "object":
            self.say("/inputSchema/type", "invalid_schema", "inputs are an object")
        if document.output_schema is not None:
            self._check_schema("/outputSchema", document.output_schema)
        for index, origin in enumerate(document.start_origins):
            self._check_url(f"/startOrigins/{index}", origin)
            if not is_origin(origin):
                self.say(f"/startOrigins/{index}", "validation_failed", "an origin is scheme, host and port, no path")
        inputs = frozenset(input_properties(document))
        self._check_list(document.session_check, "/sessionCheck", _Names(inputs, set()))
        names = _Names(inputs, set())
        self._check_list(document.steps, "/steps", names)
        self._check_list(document.finally_, "/finally", names)
        self.faults += rejection_faults(document)

    def _check_list(self, steps: tuple[Step, ...], base: str, names: _Names) -> None:
        for index, step in enumerate(steps):
            self._check_step(step, f"{base}/{index}", names)

    def _check_step(self, step: Step, at: str, names: _Names) -> None:
        if step.id in self.ids:
            self.say(f"{at}/id", "duplicate_id", f"another step is called `{step.id}`")
        self.ids.add(step.id)
        if step.when is not None:
            self._check_expression(f"{at}/when", step.when, names)
        self._check_effect(step, at)
        params = f"{at}/params"
        for spot, struct in visit.structs(step.params, params):
            self._check_struct(spot, struct)
            if isinstance(struct, _ACTS) and struct.target is not None:
                self._check_acted_on(f"{spot}/target", struct.target)
        told = _Names(names.inputs, names.steps, names.variables | {"row"}) if isinstance(step, ExtractStep) else names
        for spot, expression in visit.expressions(step.params, params):
            self._check_expression(spot, expression, told)
        for spot, schema in visit.schemas(step.params, params):
            self._check_schema(spot, schema)
        # The page conditions of a step may name its own result's forerunners only; the step itself is not known yet.
        for spot, text in visit.texts(step.params, params):
            secret_at = f"{params}/value" if isinstance(step, FillStep) else ""
            self._check_template(spot, text, names, secret_allowed=spot == secret_at)
        self._check_inner(step, params, names)
        names.steps.add(step.id)
        if isinstance(step, AskUserStep):
            self._check_questions(step, params)

    def _check_inner(self, step: Step, params: str, names: _Names) -> None:
        match step:
            case IfStep():
                self._check_list(step.params.then, f"{params}/then", names)
                self._check_list(step.params.else_, f"{params}/else", names)
            case ForEachStep():
                if step.params.variable in {"inputs", "steps", "index"}:
                    self.say(f"{params}/variable", "validation_failed", "this name is taken")
                inner = _Names(names.inputs, names.steps, names.variables | {step.params.variable, "index"})
                self._check_list(step.params.body, f"{params}/body", inner)
            case _:
                pass

    def _check_questions(self, step: AskUserStep, params: str) -> None:
        seen: set[str] = set()
        for index, asked in enumerate(step.params.fields):
            if asked.name in seen:
                self.say(f"{params}/fields/{index}/name", "validation_failed", "asked twice")
            seen.add(asked.name)
            if asked.secret:
                self.secrets.add(("steps", step.id, asked.name))
            if asked.pattern:
                self._check_schema(f"{params}/fields/{index}/pattern", {"type": "string", "pattern": asked.pattern})

    def _check_effect(self, step: Step, at: str) -> None:
        lowered = step.effect is not None and is_weaker(step.effect, default_effect(step))
        if lowered and check_of(step) is None:
            self.say(
                f"{at}/effect", "effect_lowered", f"below `{default_effect(step)}` only together with `params.check`"
            )

    def _check_struct(self, at: str, struct: msgspec.Struct) -> None:
        match struct:
            case Locator():
                self._check_locator(at, struct)
            case Check():
                if struct.open:
                    self._check_url(f"{at}/open", struct.open)
                self._need(at, _says_something(struct), "says nothing to look for")
                self._need_no_act(at, struct)
            case Expect():
                self._need(at, _says_something(struct), "says nothing to look for")
            case Navigate():
                self._check_url(f"{at}/url", struct.url)
            case WaitFor():
                given = struct.target or struct.url or struct.text or struct.count or struct.response
                self._need(at, bool(given), "needs `target`, `url`, `text`, `count` or `response`")
            case Extract():
                self._check_extract(at, struct)
            case Assert():
                proves = bool(struct.that) or struct.page is not None or struct.schema is not None
                self._need(at, proves, "needs `that`, `schema` or `page`")
                self._need(at, (struct.schema is None) == (struct.value is None), "`schema` and `value` go together")
                if struct.page is not None:
                    self._need_no_act(f"{at}/page", struct.page)
            case Download():
                self._need(at, struct.target is None or not struct.url, "takes `target` or `url`, not both")
                self._need(at, not struct.url or struct.count == 1, "a `url` is one file")
                if struct.url:
                    self._check_url(f"{at}/url", struct.url)
            case Upload():
                self._check_files(f"{at}/files", struct)
            case PageNumber():
                self._check_page_number(at, struct)
            case _:
                pass

    def _need_no_act(self, at: str, expect: Expect) -> None:
        acts = expect.response is not None or expect.download is not None
        self._need(at, not acts, "only looks: `response` and `download` belong into the `expect` of a step that acts")

    def _need(self, at: str, holds: bool, message: str) -> None:  # noqa: FBT001 (the one question of an assertion)
        if not holds:
            self.say(at, "validation_failed", message)

    def _check_locator(self, at: str, locator: Locator) -> None:
        ways = (
            *(locator.test_id, locator.role, locator.label, locator.placeholder),
            *(locator.alt, locator.title, locator.text, locator.css),
        )
        one = "needs exactly one of testId, role, label, placeholder, alt, title, text, css"
        self._need(at, sum(map(bool, ways)) == 1, one)
        self._need(at, not locator.name or bool(locator.role), "`name` goes with `role`")
        self._need(at, not locator.test_id_attribute or bool(locator.test_id), "`testIdAttribute` goes with `testId`")

    def _check_acted_on(self, at: str, target: Target) -> None:
        spots = [(visit.pointer(at, "locators", index), locator) for index, locator in enumerate(target.locators)]
        for spot, locator in spots:
            if problem := too_wide(target, locator):
                self.say(spot, "locator_too_wide", problem)
        for spot, locator in [*spots, *([(f"{at}/within", target.within)] if target.within is not None else [])]:
            if made_up := generated_part(locator):
                hint = "looks generated and will not last: use testId, role and name, label, or another attribute"
                self.say(spot, "locator_unstable", f"`{made_up}` {hint}")

    def _check_extract(self, at: str, extract: Extract) -> None:
        engine = extract.engine
        if engine == "table":
            self._need(at, extract.scope is not None, "engine `table` needs `scope`")
            self._need(at, not extract.fields and extract.rows is None, "engine `table` takes `columns`")
        else:
            given = extract.rows is not None and bool(extract.fields)
            self._need(at, given, f"engine `{engine}` needs `rows` and `fields`")
            self._need(at, not extract.columns, f"engine `{engine}` takes no `columns`")
        if engine == "aria" and extract.rows is not None:
            self._need(f"{at}/rows", bool(extract.rows.role), "engine `aria` finds by `role`")
        for name, wanted in extract.fields.items():
            self._check_field(visit.pointer(at, "fields", name), engine, wanted)
        known = extract.fields or extract.columns
        if isinstance(extract.paging, VirtualList) and known:
            for index, name in enumerate(extract.paging.key):
                self._need(f"{at}/paging/key/{index}", name in known, "names no field of the row")

    def _check_field(self, at: str, engine: str, wanted: FieldOf) -> None:
        by_role = wanted.locator is None or bool(wanted.locator.role)
        self._need(at, engine != "aria" or by_role, "engine `aria` finds by `role`")
        self._need(at, engine == "aria" or not wanted.nth, "`nth` goes with engine `aria`")

    def _check_page_number(self, at: str, paging: PageNumber) -> None:
        self._need(at, bool(paging.url) != (paging.link is not None), "needs either `url` or `link`")
        link = paging.link
        parts = [paging.url] if link is None else msgspec.structs.astuple(link)
        numbered = any("{page}" in part for part in parts if isinstance(part, str))
        self._need(at, numbered, "needs `{page}` where the number stands")
        if paging.url:
            self._check_url(f"{at}/url", paging.url)
            host, _, _ = paging.url.removeprefix("https://").removeprefix("http://").partition("/")
            written_out = "{page}" not in host or host.startswith("{{")
            self._need(f"{at}/url", written_out, "the host must be written out")

    def _check_files(self, at: str, upload: Upload) -> None:
        inputs = input_properties(self.document)
        for index, text in enumerate(upload.files):
            try:
                path = compile_template(text).single
            except TemplateError:
                continue  # Told with the other texts.
            spot = f"{at}/{index}"
            self._need(
                spot, bool(path), "must be one template that names artifacts, such as `{{steps.export.files[0]}}`"
            )
            if path[:1] == ("inputs",) and path[1:2] and path[1] in inputs:
                is_artifact = inputs[path[1]].get("kind") == "artifact"
                self._need(spot, is_artifact, f"the input `{path[1]}` must be marked `kind: artifact`")

    def _check_url(self, at: str, url: str) -> None:
        problem = url_problem(url, self.open_hosts)
        if problem is not None:
            self.say(at, "url_not_allowed", problem)

    def _check_schema(self, at: str, schema: dict[str, Any]) -> None:
        try:
            compile_schema(schema)
        except SchemaError as error:
            self.say(at, "invalid_schema", str(error))

    def _check_expression(self, at: str, source: str, names: _Names) -> None:
        try:
            compiled = compile_expression(source)
        except ExpressionError as error:
            self.say(at, "invalid_expression", str(error))
            return
        for unknown in sorted(compiled.variables - {"inputs", "steps"} - names.variables):
            self.say(at, "unknown_reference", f"`{unknown}` is not known here")
        for name in sorted(compiled.inputs):
            self._check_path(at, ("inputs", name), names)
            if ("inputs", name) in self.secrets:
                self.say(at, "secret_misplaced", f"the secret `inputs.{name}` may not be read by an expression")
        for name in sorted(compiled.steps):
            self._check_path(at, ("steps", name), names)

    def _check_template(self, at: str, text: str, names: _Names, *, secret_allowed: bool) -> None:
        try:
            compiled = compile_template(text)
        except TemplateError as error:
            self.say(at, "invalid_template", str(error))
            return
        for path in compiled.paths:
            self._check_path(at, path, names)
            if self._is_secret(path) and not (secret_allowed and compiled.single == path):
                self.say(
                    at, "secret_misplaced", f"the secret `{'.'.join(path)}` may only be the whole value of a `fill`"
                )
            if compiled.totp and not (path[0] == "inputs" and self._is_secret(path)):
                self.say(at, "secret_misplaced", f"`totp` takes a secret input, and `{'.'.join(path)}` is none")

    def _is_secret(self, path: tuple[str, ...]) -> bool:
        return any(path[: len(secret)] == secret for secret in self.secrets)

    def _check_path(self, at: str, path: tuple[str, ...], names: _Names) -> None:
        match path:
            case ("inputs", name, *_) if name in names.inputs:
                return
            case ("steps", name, *_) if name in names.steps:
                return
            case (name, *_) if name in names.variables:
                return
            case _:
                known = "an earlier step" if path[0] == "steps" else "an input" if path[0] == "inputs" else "known here"
                self.say(at, "unknown_reference", f"`{'.'.join(path)}` does not name {known}")


def _says_something(expect: Expect) -> bool:
    given = (expect.url, expect.appears, expect.gone, expect.text, expect.value is not None, expect.count)
    return any((*given, expect.response, expect.download))
