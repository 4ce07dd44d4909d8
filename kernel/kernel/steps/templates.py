"""Templates: `{{inputs.x}}`, `{{steps.<id>.y}}` and loop variables inside strings. Strict, and output only.

The engine is Liquid without tags and with a few filters. An unknown name is an error, never an empty text, unless a
`default` stands behind it. Values that come from pages are inserted as text and are never read as templates. A secret
has no text: only a template that is nothing but its name may stand for it, and it gives the reference, which the runner
opens where it is typed. With the filter `totp` it stands for the code of the moment that its seed makes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from liquid import BoundTemplate, Environment, StrictDefaultUndefined
from liquid.exceptions import LiquidError

LENGTH_MAX = 8192
OUTPUT_BYTES_MAX = 64 * 1024
FILTERS = ("default", "downcase", "upcase", "strip", "url_encode")
TOTP = "totp"

_TAGS = ("content", "output", "illegal")
_SINGLE = re.compile(r"\{\{\s*[A-Za-z_][\w.\-\[\]'\"]*\s*(\|\s*totp\s*)?\}\}")


class TemplateError(ValueError):
    """The template is refused, or names something that is not there; the message is for its author."""


@dataclass(frozen=True, slots=True)
class SecretValue:
    """A secret by reference; it resolves only where it is typed."""

    ref: str
    totp: bool = False
    """It is a seed, and what is typed is its code of the moment."""


class _Environment(Environment):
    context_depth_limit = 5
    loop_iteration_limit = 1
    local_namespace_limit = 1
    # Without loops a text is at most its values; a limit here would have the engine exchange line ends.
    output_stream_limit = None

    def setup_tags_and_filters(self, *, extra: bool = False) -> None:
        super().setup_tags_and_filters(extra=extra)
        self.tags = {name: self.tags[name] for name in _TAGS}
        self.filters = {name: self.filters[name] for name in FILTERS} | {TOTP: _no_text}


def _no_text(_value: object) -> str:
    raise TemplateError(f"`{TOTP}` makes no text")


_ENVIRONMENT = _Environment(undefined=StrictDefaultUndefined)


@dataclass(frozen=True, slots=True)
class Compiled:
    """A template that may be rendered."""

    source: str
    single: tuple[str, ...]
    """The path when the template is nothing but one name, else empty."""
    paths: tuple[tuple[str, ...], ...]
    """Every name it reads; a part that is itself looked up is `*`."""
    totp: bool
    """It stands for the code that the secret `single` makes."""
    _template: BoundTemplate | None

    def render(self, scope: Mapping[str, Any]) -> str:
        """The text; `TemplateError` when a name is missing, no plain value or secret."""
        if self._template is None:
            return self.source
        for path in self.paths:
            for value in _candidates(path, scope):
                _must_be_text(path, value)
        try:
            text = self._template.render(**scope)
        except LiquidError as error:
            raise TemplateError(_first_line(error)) from None
        if len(text.encode(errors="surrogatepass")) > OUTPUT_BYTES_MAX:
            raise TemplateError(f"the text is longer than {OUTPUT_BYTES_MAX} bytes")
        return text


@lru_cache(maxsize=4096)
def compile_template(source: str) -> Compiled:
    """Parse `source`; `TemplateError` says what is wrong. Cached."""
    if "{{" not in source and "{%" not in source:
        return Compiled(source, (), (), totp=False, _template=None)
    if len(source) > LENGTH_MAX:
        raise TemplateError(f"longer than {LENGTH_MAX} characters")
    try:
        template = _ENVIRONMENT.from_string(source)
    except LiquidError as error:
        raise TemplateError(_first_line(error)) from None
    filters = template.analyze().filters
    for name in filters:
        if name not in {*FILTERS, TOTP}:
            raise TemplateError(f"unknown filter `{name}`; there are {', '.join((*FILTERS, TOTP))}")
    paths = _paths_of(template)
    single = paths[0] if len(paths) == 1 and _SINGLE.fullmatch(source) else ()
    if TOTP in filters and not single:
        raise TemplateError(f"`{TOTP}` stands alone behind the name of a secret input, and nothing beside it")
    return Compiled(source, single, paths, totp=TOTP in filters, _template=template)


def _paths_of(template: BoundTemplate) -> tuple[tuple[str, ...], ...]:
    variables = template.analyze().variables
    paths = [variable.segments for found in variables.values() for variable in found]
    return tuple(tuple(str(part) if isinstance(part, str | int) else "*" for part in path) for path in paths)


def _first_line(error: LiquidError) -> str:
    return str(error).splitlines()[0][:300]


def is_secret(value: Any) -> bool:
    """Whether a value is a reference into the vault: `{"$secret": "<ref>"}`."""
    return isinstance(value, Mapping) and isinstance(value.get("$secret"), str)


def render_text(source: str, scope: Mapping[str, Any]) -> str:
    """`source` with its names replaced, as text. `TemplateError`."""
    return compile_template(source).render(scope)


def render_value(source: str, scope: Mapping[str, Any]) -> Any:
    """As `render_text`, but a lone name keeps its value's type, and a secret stays a reference."""
    compiled = compile_template(source)
    if not compiled.single:
        return compiled.render(scope)
    value = _look_up(compiled.single, scope)
    if value is _MISSING:
        raise TemplateError(f"`{'.'.join(compiled.single)}` is undefined")
    if is_secret(value):
        return SecretValue(value["$secret"], compiled.totp)
    if compiled.totp:
        raise TemplateError(f"`{'.'.join(compiled.single)}` is no secret, and `{TOTP}` takes nothing else")
    return value


def _must_be_text(path: tuple[str, ...], value: Any) -> None:
    if is_secret(value):
        raise TemplateError(f"the secret `{'.'.join(path)}` may not be part of a text")
    if isinstance(value, Mapping | list):
        raise TemplateError(f"`{'.'.join(path)}` is no plain value")


_MISSING = object()


def _candidates(path: tuple[str, ...], scope: Mapping[str, Any]) -> list[Any]:
    """All values that a path may mean: where a part is looked up itself, any member of what it is looked up in."""
    found: list[Any] = [scope]
    for part in path:
        if part != "*":
            found = [value for one in found if (value := _look_up((part,), one)) is not _MISSING]
            continue
        found = [value for one in found for value in (one.values() if isinstance(one, Mapping) else _items(one))]
    return found


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _look_up(path: tuple[str, ...], scope: Any) -> Any:
    value = scope
    for part in path:
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return _MISSING
    return value
