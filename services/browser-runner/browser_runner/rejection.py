"""A source that refuses what was typed: seen beside the post-condition, whichever comes first, and told apart from it.

What shows the refusal may still stand there from the last time. So it counts only once the page has been without it, or
is another document than the one that the step acted on, or its host has refused what was sent by the status of its
answer, or when the step's time is over and it is all there is.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from browser_runner.conditions import until_holds, why_not
from browser_runner.ports import Aim, Element, Heard, Page, StepFailed
from kernel.clock import Clock
from kernel.domain.values import FailureKind
from kernel.steps.document import Rejection
from kernel.steps.targets import Target

WORDS_CHARS_MAX = 300
"""What a site may say to a person through us; the rest is cut off."""


class AnswerRejected(StepFailed):
    """The source has refused what was typed, by showing what the author named. `words`: what it says, cleaned."""

    def __init__(self, words: str) -> None:
        super().__init__("login_rejected", f"the site refuses what was typed: {words}" if words else _REFUSED)
        self.words = words


_REFUSED = "the site refuses what was typed"


@dataclass(slots=True)
class RejectionWatch:
    """Of one try. Made right before the step acts, by `watch`."""

    rejection: Rejection
    page: Page
    clock: Clock
    is_old: bool
    """It showed before the step acted, and has not gone since."""
    documents: int
    """How many documents the page had loaded by then."""
    heard: Heard | None
    """What the page is answered meanwhile; None where nothing old stands in the way."""

    def stop(self) -> None:
        """Listen no more. Idempotent."""
        if self.heard is not None:
            self.heard.stop()

    async def expect(self, ask: Callable[[], Awaitable[str | None]], until_ms: float, own: Element | None) -> None:
        """Wait until `ask` misses nothing more. `AnswerRejected` when the refusal comes first, else `expect_failed`."""
        refused = False

        async def missing() -> str | None:
            nonlocal refused
            problem = await ask()
            if problem is None:
                return None
            refused = await self._shows(own)
            return None if refused else problem

        problem = await until_holds(self.page, self.clock, until_ms, missing)
        if refused or (problem is not None and self.is_old):
            raise AnswerRejected(await self._words())
        if problem is not None:
            raise StepFailed("expect_failed", problem, FailureKind.TEMPORARY)

    async def _shows(self, own: Element | None) -> bool:
        """Whether the source refuses, as the page stands."""
        if await why_not(self.page, self.rejection.when, self.clock, own) is not None:
            self.is_old = False
            return False
        return not self.is_old or self.page.documents != self.documents or self._was_sent_back()

    def _was_sent_back(self) -> bool:
        host = urlsplit(self.page.url).netloc
        answers = self.heard.answers if self.heard is not None else ()
        return any(a.status >= 400 and a.method != "GET" and urlsplit(a.url).netloc == host for a in answers)

    async def _words(self) -> str:
        target = self.rejection.message or self.rejection.when.appears
        return clean(self.rejection.when.text if target is None else await _text_of(self.page, target))


async def watch(page: Page, rejection: Rejection, clock: Clock) -> RejectionWatch:
    """Look at the page as it is before the act."""
    documents = page.documents
    is_old = await why_not(page, rejection.when, clock) is None
    heard = page.listen(answers=True, files=False) if is_old else None
    return RejectionWatch(rejection, page, clock, is_old, documents, heard)


async def _text_of(page: Page, target: Target) -> str:
    try:
        sight = await page.look(Aim(target, enabled=False), texts=True)
    except StepFailed:
        return ""  # Words are a courtesy; that it refuses is known without them.
    return next(filter(None, sight.texts), "")


def clean(text: str) -> str:
    """`text` of a page as one short line without control and formatting characters. Pure."""
    shown = "".join(" " if unicodedata.category(char)[0] in "CZ" else char for char in text)
    words = " ".join(shown.split())
    return words if len(words) <= WORDS_CHARS_MAX else words[: WORDS_CHARS_MAX - 1] + "…"
