"""Settings of a process: a frozen dataclass filled from the environment, one variable per field.

The field `drain_seconds` below the prefix `SCHEDULER_` is read from `SCHEDULER_DRAIN_SECONDS`; an empty variable counts
as none. Secrets stand in files, for an environment is too easily shown: what the file that `…_FILE` names holds is a
text (`SecretText`) or hex digits (`bytes`). An orchestrator sets variables of its own that look alike, such as
`SCHEDULER_PORT` for a service of that name: no field is called `port`, `host` or `service`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, NewType, TypeVar, get_args, get_origin, get_type_hints

from kernel.errors import Permanent

T = TypeVar("T")

SecretText = NewType("SecretText", str)
"""A secret as people write it; its field has `repr=False`."""

SECRET_SUFFIX = "_FILE"  # noqa: S105 (the end of a variable's name)


@dataclass(frozen=True, slots=True)
class Within:
    """The bounds of a number, both included: `Annotated[int, Within(1, 65535)]`."""

    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Form:
    """How the text of a type of one's own is read. `parse` raises `ValueError` with the reason.

    `is_secret`: the text stands in the file that `…_FILE` names.
    """

    parse: Callable[[str], Any]
    is_secret: bool = False


def _switch(text: str) -> bool:
    if text not in {"0", "1", "false", "true"}:
        raise ValueError("is true or false")
    return text in {"1", "true"}


_FORMS: dict[Any, Form] = {
    str: Form(str),
    str | None: Form(str),
    int: Form(int),
    float: Form(float),
    bool: Form(_switch),
    Path: Form(Path),
    Path | None: Form(Path),
    bytes: Form(bytes.fromhex, is_secret=True),
    SecretText: Form(str, is_secret=True),
}
_SAID = {int: "is no whole number", float: "is no number", bytes: "holds no hex digits"}
"""What is said in place of Python's own words, which may repeat the value."""


def read_settings(
    kind: type[T], prefix: str, environment: Mapping[str, str], forms: Mapping[Any, Form] | None = None
) -> T:
    """An object of the dataclass `kind` from `environment`. Reads files of secrets.

    Raises `Permanent("setting_missing")` or `Permanent("setting_malformed")`, whose message names the variable.
    """
    given: dict[str, Any] = {}
    for one in variables(kind, prefix, forms):
        text = environment.get(one.name)
        if text:
            content = _content(one.name, text) if one.form.is_secret else text
            given[one.field.name] = _within(one.name, _parsed(one, content), one.bounds)
        elif one.field.default is MISSING and one.field.default_factory is MISSING:
            raise Permanent("setting_missing", f"set {one.name}")
    return kind(**given)


@dataclass(frozen=True, slots=True)
class Variable:
    """How one field is read: the variable's name, and what its text must be."""

    name: str
    field: Field[Any]
    annotation: Any
    form: Form
    bounds: Within | None


def variables(kind: type[Any], prefix: str, forms: Mapping[Any, Form] | None = None) -> Iterator[Variable]:
    """The variables of the dataclass `kind`, in the order of its fields."""
    known, hints = {**_FORMS, **(forms or {})}, get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        annotation, bounds = _plain(hints[field.name])
        form = known[annotation]
        suffix = SECRET_SUFFIX if form.is_secret else ""
        yield Variable(prefix + field.name.upper() + suffix, field, annotation, form, bounds)


def file_of(path: Path) -> bytes:
    """What a file that a setting names holds; `Permanent("setting_malformed")` names the file that cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise Permanent("setting_malformed", f"{path} cannot be read: {error.strerror}") from None


def text_or_file(name: str, environment: Mapping[str, str]) -> str:
    """What `name` says, or the file that `name_FILE` names; empty when neither is set. Errors as `read_settings`."""
    path = environment.get(name + SECRET_SUFFIX)
    return _content(name + SECRET_SUFFIX, path) if path else environment.get(name, "")


def _plain(annotation: Any) -> tuple[Any, Within | None]:
    if get_origin(annotation) is Annotated:
        plain, *extras = get_args(annotation)
        return plain, next((extra for extra in extras if isinstance(extra, Within)), None)
    return annotation, None


def _content(variable: str, path: str) -> str:
    try:
        content = Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it holds no text"
        raise Permanent("setting_malformed", f"{variable}: {path} cannot be read: {reason}") from None
    if not content:
        raise Permanent("setting_malformed", f"{variable}: {path} is empty")
    return content


def _parsed(variable: Variable, text: str) -> Any:
    try:
        return variable.form.parse(text)
    except ValueError as error:
        reason = _SAID.get(variable.annotation) or error
        raise Permanent("setting_malformed", f"{variable.name} {reason}") from None


def _within(variable: str, value: Any, bounds: Within | None) -> Any:
    if bounds is not None and not bounds.least <= value <= bounds.most:
        raise Permanent("setting_malformed", f"{variable} is from {bounds.least:g} to {bounds.most:g}")
    return value
