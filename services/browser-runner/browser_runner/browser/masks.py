"""Fields that hold a secret, wherever a page has put it: drawn anew, copied to another field, in a frame."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress

from playwright.async_api import Error as PlaywrightError
from playwright.async_api import Locator, Page

from kernel.redaction import SECRET_CHARS_MIN
from kernel.store.secret import Secret

_FIELDS = "css=input, textarea, [contenteditable]"
_VALUES = "fields => fields.map(e => e.isContentEditable ? e.innerText : String(e.value))"


async def holding(page: Page, secrets: Collection[Secret]) -> list[Locator]:
    """The fields of all frames of `page` that hold one of `secrets` now. A frame that goes meanwhile holds none.

    Values are compared here: no secret is told to a page that it was not typed into.
    """
    if not secrets:
        return []
    texts = [secret.reveal_text() for secret in secrets]
    found: list[Locator] = []
    for frame in page.frames:
        fields = frame.locator(_FIELDS)
        with suppress(PlaywrightError):
            values = await fields.evaluate_all(_VALUES)
            found += [fields.nth(place) for place, value in enumerate(values) if _holds(str(value), texts)]
    return found


def _holds(value: str, texts: list[str]) -> bool:
    return any(value == text or (len(text) >= SECRET_CHARS_MIN and text in value) for text in texts)
