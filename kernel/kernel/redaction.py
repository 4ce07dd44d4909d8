"""Redaction: live secret values never leave through logs, error texts or evidence.

Two nets. *Values*: `LiveSecrets` knows what is secret right now and finds it in plain text and in the disguises that
programs put on text: base64 at any alignment, URL encoding, JSON and HTML escapes (in any mixture), UTF-16. *Names*:
whatever is logged under a name such as `password` or `authorization` is hidden whatever it holds.

The structlog processor comes after everything that adds to the event (context, formatted exceptions), right before the
renderer, and accepts the renderer's text as well.
"""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from functools import cached_property, lru_cache
from html import escape
from typing import Any

from kernel.store.secret import HIDDEN, Secret

SECRET_CHARS_MIN = 4
"""Shorter values are not searched for: they would blank out ordinary text."""

_BASE64_CHARS_MIN = 4
_HIDDEN_BYTES = HIDDEN.encode()
_CUT = "…"
_ALPHANUMERICS = re.compile(rb"[0-9A-Za-z]+")
_ALPHANUMERIC_HEX = rb"(?:3[0-9]|[46][1-9a-f]|[57][0-9a])"
_ESCAPED_ALPHANUMERIC = re.compile(
    rb"(?i:(?:%%|\\u00|&#x0*)%b)|&#0*(?:4[89]|5[0-7]|6[5-9]|[78]\d|9[0789]|1[01]\d|12[0-2]);" % _ALPHANUMERIC_HEX
)
_JSON_SHORT = {'"': '\\"', "\\": "\\\\", "/": "\\/", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_NAMES_ANYWHERE = frozenset(
    {"password", "passwd", "passphrase", "pwd", "authorization", "cookie", "cookies", "credential", "credentials"}
    | {"otp", "totp"}
)
_NAMES_LAST = frozenset({"secret", "token", "apikey"})
_NAMES_LAST_TWO = frozenset({("api", "key"), ("private", "key"), ("secret", "key")})
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


class LiveSecrets:
    """The secret values that are alive in this process. A value stays known until as many `forget`s as `add`s."""

    def __init__(self) -> None:
        self._known: Counter[bytes] = Counter()
        self._forms: list[_Form] = []

    def add(self, value: str | bytes | Secret) -> None:
        """Know a value; an empty one or one shorter than four characters is passed over."""
        raw = _raw(value)
        if len(raw.decode(errors="replace")) < SECRET_CHARS_MIN:
            return
        self._known[raw] += 1
        if self._known[raw] == 1:
            self._forms = sorted([*self._forms, *_forms(raw)], key=lambda form: len(form.value), reverse=True)

    def forget(self, value: str | bytes | Secret) -> None:
        """Take back one `add`; a value that is not known is passed over."""
        raw = _raw(value)
        self._known[raw] -= 1
        if self._known[raw] <= 0:
            del self._known[raw]
            self._forms = [form for form in self._forms if form.value != raw]

    @contextmanager
    def known(self, values: Iterable[str | bytes | Secret]) -> Iterator[None]:
        """Know `values` for the length of a block."""
        held = list(values)
        for value in held:
            self.add(value)
        try:
            yield
        finally:
            for value in held:
                self.forget(value)

    def scrub_bytes(self, data: bytes) -> bytes:
        """`data` with every disguise of every known value replaced by `[redacted]`."""
        if not self._forms:
            return data
        escaped = _ESCAPED_ALPHANUMERIC.search(data) is not None
        for form in self._forms:
            if form.needle in data or (escaped and form.escapable):
                data = form.pattern.sub(_HIDDEN_BYTES, data)
        return data

    def scrub_text(self, text: str) -> str:
        """`scrub_bytes` for text; where something was cut off (`…`) the beginning of a value goes, too."""
        if not self._forms:
            return text
        clean = self.scrub_bytes(text.encode(errors="surrogatepass")).decode(errors="replace")
        *cut, rest = clean.split(_CUT)
        return _CUT.join([*map(self._without_beginning, cut), rest])

    def _without_beginning(self, text: str) -> str:
        for raw in self._known:
            value = raw.decode(errors="replace")
            for length in range(min(len(value) - 1, len(text)), SECRET_CHARS_MIN - 1, -1):
                if text.endswith(value[:length]):
                    return text[:-length] + HIDDEN
        return text

    def scrub_json(self, value: Any) -> Any:
        """A JSON-able value without known values and without what stands under a secret name. Returns a copy.

        What is no JSON becomes its scrubbed `repr`.
        """
        return self._scrub(value, by_name=True)

    def scrub_values(self, value: Any) -> Any:
        """As `scrub_json`, whatever the names are: for data, where a member called `token` may be anything."""
        return self._scrub(value, by_name=False) if self._forms else value

    def _scrub(self, value: Any, *, by_name: bool) -> Any:
        match value:
            case Mapping():
                return {
                    self.scrub_text(str(name)): HIDDEN
                    if by_name and _is_hidden_member(str(name), held)
                    else self._scrub(held, by_name=by_name)
                    for name, held in value.items()
                }
            case list() | tuple() | set() | frozenset():
                return [self._scrub(item, by_name=by_name) for item in value]
            case _:
                return self._scrub_scalar(value)

    def _scrub_scalar(self, value: Any) -> Any:
        match value:
            case None | bool():
                return value
            case str():
                return self.scrub_text(value)
            case int() | float():
                return value if self.scrub_text(str(value)) == str(value) else HIDDEN
            case bytes() | bytearray():
                return self.scrub_bytes(bytes(value))
            case _:
                return self.scrub_text(repr(value))


class Redactor:
    """The structlog processor; stands last before the renderer, or behind it."""

    def __init__(self, live: LiveSecrets) -> None:
        self._live = live

    def __call__(
        self, _logger: Any, _method: str, event: MutableMapping[str, Any] | str | bytes
    ) -> MutableMapping[str, Any] | str | bytes:
        """Scrub one event, as names and values or as rendered text."""
        if isinstance(event, str):
            return self._live.scrub_text(event)
        if isinstance(event, bytes):
            return self._live.scrub_bytes(event)
        scrubbed: dict[str, Any] = self._live.scrub_json(event)
        return scrubbed


@lru_cache(maxsize=1024)
def is_secret_name(name: str) -> bool:
    """Whether what stands under `name` is hidden by its name alone: `accessToken` is, `tokens_used` is not."""
    words = tuple(word.lower() for word in _WORDS.findall(name))
    if not words:
        return False
    return bool(_NAMES_ANYWHERE.intersection(words)) or words[-1] in _NAMES_LAST or words[-2:] in _NAMES_LAST_TWO


def _is_hidden_member(name: str, value: Any) -> bool:
    return value is not None and not isinstance(value, bool) and is_secret_name(name)


def _raw(value: str | bytes | Secret) -> bytes:
    if isinstance(value, Secret):
        return value.reveal()
    return value.encode() if isinstance(value, str) else value


class _Form:
    """One disguise of one value.

    `needle` is what a match surely contains, so that a plain search says where the slow pattern is worth its time:
    its longest run of letters and digits, which every disguise leaves alone, unless the text escapes even these.
    """

    def __init__(self, value: bytes, source: bytes, needle: bytes, *, escapable: bool) -> None:
        self.value = value
        self.needle = needle
        self.escapable = escapable
        self._source = source

    @cached_property
    def pattern(self) -> re.Pattern[bytes]:
        """Compiled when it is first needed: most values never show up."""
        return re.compile(self._source)


def _longest_run(value: bytes) -> bytes:
    return max(_ALPHANUMERICS.findall(value), key=len, default=b"")


def _forms(value: bytes) -> Iterator[_Form]:
    """All disguises of one value."""
    text = value.decode(errors="surrogateescape")
    source = b"".join(_character(char) for char in text)
    yield _Form(value, source, _longest_run(value), escapable=True)
    if not any(0xDC80 <= ord(char) <= 0xDCFF for char in text):
        for encoding in ("utf-16-le", "utf-16-be"):
            wide = text.encode(encoding)
            yield _Form(value, re.escape(wide), wide, escapable=False)
    narrow = _latin(text)
    if narrow:
        yield _Form(value, re.escape(narrow), _longest_run(narrow), escapable=False)
    raws = [value, narrow] if narrow else [value]
    for stable in {stable for raw in raws for alignment in range(3) for stable in _base64_forms(raw, alignment)}:
        # A slash may be JSON-escaped, plus and slash may be URL-encoded again.
        source = re.escape(stable).replace(b"/", rb"(?:\\?/|(?i:%2f))").replace(rb"\+", rb"(?:\+|(?i:%2b))")
        yield _Form(value, source, _longest_run(stable), escapable=False)


def _nested(spelling: str) -> bytes:
    """A named escape. JSON inside of JSON puts further backslashes in front of one."""
    if spelling == "\\\\":
        return rb"\\{8}|\\{4}|\\{2}"
    return rb"\\+" + re.escape(spelling[1:].encode()) if spelling[0] == "\\" else re.escape(spelling.encode())


def _latin(text: str) -> bytes:
    """The text in Latin-1, where that differs: what a script's `btoa` encodes, and what old pages are written in."""
    if text.isascii():
        return b""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return b""


def _character(char: str) -> bytes:
    """One character, plain or in any of its escaped spellings; escapes come first, for they are longer."""
    raw = char.encode(errors="surrogateescape")
    units = char.encode("utf-16-be", errors="surrogatepass")
    spellings = [
        b"".join(b"(?i:%%%02x)" % byte for byte in raw),
        b"".join(b"(?i:\\\\+u%02x%02x)" % (units[i], units[i + 1]) for i in range(0, len(units), 2)),
        b"(?i:&#x0*%x;)|&#0*%d;" % (ord(char), ord(char)),
    ]
    named = {_JSON_SHORT.get(char, char), escape(char, quote=True)} - {char}
    spellings += [_nested(spelling) for spelling in sorted(named)]
    if char == " ":
        spellings.append(rb"\+")
    spellings.append(re.escape(raw))
    return b"(?:" + b"|".join(spellings) + b")"


def _base64_forms(value: bytes, alignment: int) -> Iterator[bytes]:
    """The characters of base64 that depend on `value` alone when it begins `alignment` bytes into a group of three."""
    first = (alignment * 8 + 5) // 6
    last = (alignment + len(value)) * 8 // 6
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        stable = encode(bytes(alignment) + value)[first:last]
        if len(stable) >= _BASE64_CHARS_MIN:
            yield stable
