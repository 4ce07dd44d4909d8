"""How this surface reads a request: bodies, ids, parameters, pages, idempotency keys. Every fault names its spot."""

from __future__ import annotations

import re
import zlib
from collections.abc import Awaitable, Callable, Mapping
from itertools import takewhile
from typing import Any, TypeVar

import msgspec
from litestar import Response

from api_gateway.idempotency import Claim, StoredAnswer, claim_of
from api_gateway.listing import Listing, Window
from api_gateway.surfaces.access import AnyRequest, gateway_of, principal_of
from api_gateway.surfaces.api_v2 import errors
from api_gateway.surfaces.api_v2.views import SLUG_PATTERN, UUID_PATTERN, Page
from api_gateway.surfaces.plain import JSON, PlainAnswer
from kernel.domain.ids import RequestId
from kernel.errors import Detail, Rejected

T = TypeVar("T")
V = TypeVar("V")

DEPTH_MAX = 64
STEPS_BYTES_MAX = 512 * 1024
PAGE_SIZE_DEFAULT = 10
PAGE_SIZE_MAX = 100
OFFSET_MAX = 10_000_000
_UUID = re.compile(UUID_PATTERN)
_SLUG = re.compile(SLUG_PATTERN)
_NUMBER = re.compile(r"[0-9]{1,10}")
_NOBODY = "-"
"""No row names this subject."""
_JSON_TYPES = re.compile(r"application/(?:[\w.-]+\+)?json(?:\s*;.*)?", re.IGNORECASE)
_SPOT = re.compile(r"\s*-\s*at `(?:key in )?\$(?P<path>[^`]*)`$")
_MISSING = re.compile(r"Object missing required field `(?P<name>[^`]+)`")
_PART = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")
_MOVING = re.compile(r'-[0-9a-f]{8}"')
"""What a tag says beyond the definition."""
_ENCODER = msgspec.json.Encoder()

Answer = tuple[int, bytes]
"""Status and body of a successful answer."""


# ---------------------------------------------------------------- bodies


async def body_of(request: AnyRequest, shape: type[T], *, may_be_empty: bool = False) -> T:
    """The decoded body; where it may be empty, an empty one stands for `{}`.

    `Rejected`: `unsupported_media_type`, `malformed_json` (also too deeply nested), `validation_failed` with a pointer.
    """
    if may_be_empty and not await request.body():
        return decode(b"{}", shape)
    content_type = request.headers.get("content-type", "")
    if not _JSON_TYPES.fullmatch(content_type):
        raise Rejected("unsupported_media_type", "send the body as application/json")
    raw = await request.body()
    refuse_deep_nesting(raw)
    return decode(raw, shape)


def decode(raw: bytes, shape: type[T], base: str = "") -> T:
    """`raw` as `shape`; pointers stand below `base`."""
    try:
        return msgspec.json.decode(raw, type=shape)
    except msgspec.ValidationError as error:
        detail = _fault(base, str(error))
        raise Rejected("validation_failed", "the body does not have the right shape", (detail,)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        spot = Detail(base, "malformed_json", str(error)[:200])
        raise Rejected("malformed_json", "the body is no JSON", (spot,)) from None


def refuse_deep_nesting(raw: bytes) -> None:
    """Refuse a text nested deeper than `DEPTH_MAX` before anything recurses into it."""
    if raw.count(b"{") + raw.count(b"[") <= DEPTH_MAX:
        return
    depth = 0
    for bracket in re.finditer(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', raw, re.DOTALL):
        match raw[bracket.start()]:
            case 0x5B | 0x7B:
                depth += 1
                if depth > DEPTH_MAX:
                    spot = Detail("", "malformed_json", f"nested deeper than {DEPTH_MAX}")
                    raise Rejected("malformed_json", f"the body is nested deeper than {DEPTH_MAX}", (spot,))
            case 0x5D | 0x7D:
                depth -= 1


def steps_of(raw: msgspec.Raw) -> Any:
    """`stepsJson` as plain JSON, at most 512 KiB."""
    text = bytes(raw)
    if len(text) > STEPS_BYTES_MAX:
        spot = Detail("/stepsJson", "body_too_large", f"at most {STEPS_BYTES_MAX} bytes")
        raise Rejected("body_too_large", "stepsJson is too long", (spot,))
    return decode(text, dict[str, Any], "/stepsJson")


def _fault(base: str, message: str) -> Detail:
    """A msgspec message as a detail: its path becomes a JSON Pointer."""
    spot = _SPOT.search(message)
    text = _SPOT.sub("", message)
    found = [name or index for name, index in _PART.findall(spot["path"])] if spot else []
    parts = list(takewhile(lambda part: part != "...", found))  # below a free-form object no names are told
    missing = _MISSING.match(text)
    if missing:
        parts.append(missing["name"])
    pointer = base + "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in parts)
    return Detail(pointer, "required" if missing else "validation_failed", text)


# ---------------------------------------------------------------- parameters


def uuid_of(value: str, name: str) -> str:
    """A UUID in its canonical lower case. `invalid_parameter` for anything else."""
    if not _UUID.fullmatch(value):
        raise parameter_fault(name, "must be a UUID")
    return value.lower()


def slug_of(value: str) -> str:
    """The slug of a provider in a path. `invalid_parameter` for what can be none."""
    if not _SLUG.fullmatch(value):
        raise parameter_fault("slug", "must be lower case letters, digits, - and _")
    return value


def parameter_fault(name: str, message: str) -> Rejected:
    """A parameter of path or query that is wrong."""
    return Rejected("invalid_parameter", f"{name} {message}", (Detail(f"/{name}", "invalid_parameter", message),))


def text_of(request: AnyRequest, name: str) -> str | None:
    """A query parameter; None when it is absent or empty."""
    value: str | None = request.query_params.get(name)
    if value is not None and (len(value) > 512 or "\0" in value):
        raise parameter_fault(name, "has at most 512 characters, none of them NUL")
    return value or None


def uuid_param(request: AnyRequest, name: str) -> str | None:
    """A query parameter that is a UUID."""
    value = text_of(request, name)
    return None if value is None else uuid_of(value, name)


def word_param(request: AnyRequest, name: str, words: Mapping[str, V]) -> V | None:
    """A query parameter that is one of `words`."""
    value = text_of(request, name)
    if value is None:
        return None
    if value not in words:
        raise parameter_fault(name, f"must be one of {', '.join(words)}")
    return words[value]


def flag_param(request: AnyRequest, name: str) -> int | None:
    """A query parameter `true` or `false`, as a row has it."""
    return word_param(request, name, {"true": 1, "false": 0})


async def subject_filter(request: AnyRequest) -> str | None:
    """`externalId` as the subject that rows name; the external id itself stands in no row. Asking makes no subject."""
    external_id = text_of(request, "externalId")
    if external_id is None:
        return None
    organization = principal_of(request).organization_id
    return await gateway_of(request).services.vault.find_subject(organization, external_id) or _NOBODY


def number_param(request: AnyRequest, name: str, default: int, least: int, most: int) -> int:
    """A whole number within bounds."""
    value = text_of(request, name)
    return default if value is None else whole_number(value, name, least, most)


def whole_number(value: str, name: str, least: int, most: int) -> int:
    """A whole number within bounds, as a parameter writes it."""
    if not _NUMBER.fullmatch(value) or not least <= int(value) <= most:
        raise parameter_fault(name, f"must be a whole number from {least} to {most}")
    return int(value)


def window_of(request: AnyRequest) -> Window:
    """`page` and `page_size`, or `limit` and `offset`; both styles together are refused."""
    given = request.query_params
    counted = "limit" in given or "offset" in given
    if counted and ("page" in given or "page_size" in given):
        raise parameter_fault("limit", "and offset do not go with page and page_size")
    if counted:
        limit = number_param(request, "limit", PAGE_SIZE_DEFAULT, 1, PAGE_SIZE_MAX)
        return Window(limit, number_param(request, "offset", 0, 0, OFFSET_MAX))
    size = number_param(request, "page_size", PAGE_SIZE_DEFAULT, 1, PAGE_SIZE_MAX)
    page = number_param(request, "page", 1, 1, OFFSET_MAX // PAGE_SIZE_MAX)
    return Window(size, (page - 1) * size)


# ---------------------------------------------------------------- answers


def encode(value: Any) -> bytes:
    """An answer's body."""
    return _ENCODER.encode(value)


def json_answer(value: Any, status: int = 200) -> Response[bytes]:
    """A JSON answer."""
    return PlainAnswer(_ENCODER.encode(value), status=status)


def tagged_answer(request: AnyRequest, value: Any, definition: Any = None) -> Response[bytes]:
    """A single read with its `ETag`; 304 when the caller has it already.

    `definition` is that part of `value` which people edit, when there is another one that moves by itself: the tag
    names both, and `named_version` minds the definition only.
    """
    body = _ENCODER.encode(value)
    etag = etag_of(body) if definition is None else etag_of(_ENCODER.encode(definition), body)
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if _is_named(etag, request.headers.get("if-none-match", "")):
        return Response(b"", status_code=304, headers=headers, media_type=JSON)
    return PlainAnswer(body, headers=headers)


def etag_of(definition: bytes, whole: bytes = b"") -> str:
    """A weak tag of a representation, and of the `whole` that it is a part of."""
    moving = f"-{zlib.crc32(whole):08x}" if whole else ""
    return f'W/"{zlib.crc32(definition):08x}{len(definition):x}{moving}"'


def no_answer() -> Response[None]:
    """204."""
    return Response(None, status_code=204)


def named_version(request: AnyRequest, current: Any, version: int) -> int:
    """`version`, that of `current`, when `If-Match` names it; 0 when the caller does not care.

    `precondition_failed` when it names another. The registry compares once more, so that of two writers one wins.
    """
    wanted = request.headers.get("if-match")
    if wanted is None or wanted.strip() == "*":
        return 0
    if not _is_named(etag_of(_ENCODER.encode(current)), _MOVING.sub('"', wanted)):
        raise Rejected("precondition_failed", "the resource has changed since it was read")
    return version


def _is_named(etag: str, header: str) -> bool:
    """Whether a header with tags, or `*` for any, names this one; some proxies make a weak tag strong."""
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return etag.removeprefix("W/") in tags or tags == ["*"]


def page_answer(listing: Listing[T], window: Window, view: Callable[[T], V]) -> Response[bytes]:
    """A list in its envelope."""
    shown = [view(item) for item in listing.items]
    page = Page(
        data=shown,
        page=window.offset // window.limit + 1,
        page_size=window.limit,
        total=listing.total,
        has_more=window.offset + len(shown) < listing.total,
    )
    return json_answer(page)


async def answer_once(request: AnyRequest, act: Callable[[RequestId | None], Awaitable[Answer]]) -> Response[bytes]:
    """Do a POST once per `Idempotency-Key`; without a key, just do it.

    What was answered is kept unless it was the platform's fault, or came too early, so that a repetition may succeed.
    """
    key = request.headers.get("idempotency-key")
    if key is None:
        status, body = await act(None)
        return PlainAnswer(body, status=status)
    store = gateway_of(request).idempotency
    claim = await _claim(request, key)
    stored = await store.begin(claim)
    if stored is not None:
        headers = {"Idempotency-Replayed": "true"}
        return PlainAnswer(stored.body, status=stored.status, headers=headers)
    try:
        answer = await _outcome(request, act, claim)
    except BaseException:
        await store.abandon(claim)
        raise
    await store.finish(claim, answer)
    return PlainAnswer(answer.body, status=answer.status)


async def _claim(request: AnyRequest, key: str) -> Claim:
    template = request.scope.get("path_template", request.url.path)
    services = gateway_of(request).services
    return claim_of(
        principal_of(request).organization_id,
        key,
        services.settings.pepper,
        route=f"{request.method} {template}",
        path=request.url.path,
        body=await request.body(),
        taken_ms=services.clock.now_ms(),
    )


async def _outcome(
    request: AnyRequest, act: Callable[[RequestId | None], Awaitable[Answer]], claim: Claim
) -> StoredAnswer:
    try:
        status, body = await act(claim.request_id)
    except Rejected as rejected:
        code = errors.phrased(rejected.code, rejected.details)
        status = errors.STATUS[code]
        if status >= 500 or code == "rate_limited":
            raise
        request_id: str = request.scope["state"]["request_id"]
        body = errors.error_body(code, rejected.message, rejected.details, request_id)
    return StoredAnswer(status, body)
