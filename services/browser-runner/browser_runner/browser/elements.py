"""One element of a page: what an aim means, found, proven and used in one call of Playwright."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, cast

import msgspec
from playwright.async_api import ElementHandle
from playwright.async_api import Locator as PlaywrightLocator
from playwright.async_api import Page as PlaywrightPage

from browser_runner import aria
from browser_runner.browser import selectors
from browser_runner.browser.failures import host_of, told
from browser_runner.locators import name_problem
from browser_runner.ports import Aim, Facts, Sight, StepFailed
from kernel.domain.values import FailureKind
from kernel.steps.targets import Identity, Locator, Target
from kernel.store.secret import Secret

ARIA_MS = 10_000
LOOK_MS = 2_000.0
"""A look waits for nothing; a page that does not even answer that is stuck."""
PICTURE_MS = 10_000
_LOOK_AGAIN_MS = 500
_CONFLICT_LOOKS = 2
"""A page that is being redrawn may disagree with itself once."""

_references = itertools.count(1)

T = TypeVar("T")
Use = Callable[[PlaywrightLocator, float], Awaitable[T]]


class ElementPage(Protocol):
    """What an element needs of its page."""

    @property
    def raw(self) -> PlaywrightPage: ...

    def mask(self, locator: PlaywrightLocator, secret: Secret) -> None:
        """Cover a field in pictures from now on, and whatever holds the secret that it receives."""
        ...

    async def changed(self, timeout_ms: float) -> None: ...


class ChromiumElement:
    """Bound to nothing in the page but by its aim, so a page that draws it anew does no harm."""

    def __init__(self, page: ElementPage, aim: Aim) -> None:
        self._page = page
        self._aim = aim
        identity = aim.target.identity
        named = identity is not None and bool(identity.role or identity.name)
        self._proof: Identity | None = identity if named else None
        self._pinned = False
        self._url = ""
        self._ref = next(_references)
        self._facts: Facts | None = None

    @property
    def facts(self) -> Facts:
        assert self._facts is not None, "`prove` comes first"
        return self._facts

    # ------------------------------------------------------------ finding and proving

    async def prove(self, timeout_ms: float) -> None:
        await self._seen(timeout_ms, cover=False)

    async def ready(self, timeout_ms: float) -> None:
        # No trial click: a page can hear that one.
        until = _now_ms() + timeout_ms
        while True:
            sight = await self._seen(until - _now_ms(), cover=True)
            covered = sight.covered or await self._frame_cover()
            if not covered:
                return
            left_ms = until - _now_ms()
            if left_ms <= 0:
                raise StepFailed("target_covered", covered, FailureKind.TEMPORARY, aim=self._aim)
            await self._page.changed(min(left_ms, _LOOK_AGAIN_MS))

    async def _frame_cover(self) -> str:
        """What lies over the frame that holds it."""
        frame = self._aim.target.frame
        if not frame:
            return ""
        return (await ChromiumElement(self._page, Aim(Target((Locator(css=frame),)))).sight(cover=True)).covered

    async def _seen(self, timeout_ms: float, *, cover: bool) -> Sight:
        until, conflicts = _now_ms() + timeout_ms, 0
        while True:
            sight = await self._look(cover=cover)
            if sight.code == "target_unproven":
                await self._pin()
                continue
            if not sight.code:
                self._facts = sight.facts
                return sight
            conflicts += sight.code == "target_conflict"
            left_ms = until - _now_ms()
            if sight.code == "target_changed":
                raise StepFailed("target_changed", sight.told, aim=self._aim)
            if conflicts >= _CONFLICT_LOOKS or (sight.code == "target_conflict" and left_ms <= 0):
                raise StepFailed("target_conflict", "", aim=self._aim)
            if left_ms <= 0:
                raise StepFailed("target_missing", "", FailureKind.TEMPORARY, aim=self._aim)
            await self._page.changed(min(left_ms, _LOOK_AGAIN_MS))

    async def sight(self, *, texts: bool = False, cover: bool = False) -> Sight:
        """What the aim finds now; never waits."""
        sight = await self._look(texts=texts, cover=cover)
        if sight.code != "target_unproven":
            return sight
        try:
            await self._pin()
        except StepFailed as failure:
            return replace(sight, code=failure.code, told=failure.message)
        return await self._look(texts=texts, cover=cover)

    async def _look(self, *, texts: bool = False, cover: bool = False) -> Sight:
        wanted = {"texts": texts, "cover": cover, "at": self._url}
        note = selectors.noted(self._page.raw, self._aim, self._proof, **wanted)
        frame = self._aim.target.frame
        async with told():
            if frame and await self._page.raw.locator(frame).count() != 1:
                return Sight("target_missing")
            text = await note.text_content(timeout=LOOK_MS)
        return msgspec.json.decode(text or "{}", type=Sight)

    async def _pin(self) -> None:
        """Take the name that the element has for what it must have, when the identity allows it."""
        identity = self._aim.target.identity
        if identity is None or self._pinned:
            raise StepFailed("target_changed", "its role is another one", aim=self._aim)
        async with told():
            found = selectors.judged(self._page.raw, self._aim, None, ref=self._ref)
            told_of = aria.parse(await found.aria_snapshot(timeout=LOOK_MS)).children
        role, name = (told_of[0].role, told_of[0].name) if told_of else ("", "")
        problem = name_problem(identity, role, name, exact_name=self._aim.exact_name)
        if problem is not None:
            raise StepFailed("target_changed", problem, aim=self._aim)
        self._proof, self._pinned = Identity(role=role, name=name), True

    async def _use(self, use: Use[T], timeout_ms: float) -> T:
        """Carry out `use` on the element; it is looked for until then."""
        until, conflicts = _now_ms() + timeout_ms, 0
        while True:
            left_ms = max(until - _now_ms(), 1.0)
            found = selectors.judged(self._page.raw, self._aim, self._proof, ref=self._ref, at=self._url)
            try:
                async with told():
                    return await use(found, left_ms)
            except StepFailed as failure:
                conflicts += failure.code == "target_conflict"
                if failure.code == "target_unproven":
                    await self._pin()
                elif failure.code == "target_conflict" and conflicts < _CONFLICT_LOOKS:
                    await self._page.changed(min(left_ms, _LOOK_AGAIN_MS))
                else:
                    raise await self._explained(failure) from None

    async def _explained(self, failure: StepFailed) -> StepFailed:
        """Why Playwright waited in vain."""
        if failure.code == "step_timeout":
            sight = await self.sight(cover=not self._aim.hidden)
            if sight.code:
                failure = StepFailed(sight.code, sight.told, FailureKind.TEMPORARY)
            elif covered := sight.covered or await self._frame_cover():
                failure = StepFailed("target_covered", covered, FailureKind.TEMPORARY)
        failure.aim = self._aim
        return failure

    async def evaluate(self, script: str) -> Any:
        """What `script`, a function of the element, gives. It runs among the page's own scripts: it may lie."""
        return await self._use(lambda found, left_ms: found.evaluate(script, timeout=left_ms), LOOK_MS)

    async def handle(self) -> ElementHandle:
        """The element itself, bound to it from now on."""
        handle: ElementHandle = await self._use(lambda found, left_ms: found.element_handle(timeout=left_ms), LOOK_MS)
        return handle

    async def host(self) -> str:
        target = self._aim.target
        if not target.frame:
            self._url = self._page.raw.url
        else:
            async with told():
                frame = await (
                    await self._page.raw.locator(target.frame).element_handle(timeout=LOOK_MS)
                ).content_frame()
            self._url = frame.url if frame is not None else ""
        return host_of(self._url)

    # ------------------------------------------------------------ acting

    async def click(self, *, button: str, count: int, modifiers: Sequence[str], timeout_ms: float) -> None:
        await self._use(
            lambda found, left_ms: found.click(
                button=cast("Literal['left', 'middle', 'right']", button),
                click_count=count,
                modifiers=cast("Sequence[Literal['Alt', 'Control', 'Meta', 'Shift']]", list(modifiers)),
                timeout=left_ms,
            ),
            timeout_ms,
        )

    async def fill(self, value: str | Secret, timeout_ms: float) -> None:
        if not isinstance(value, Secret):
            await self._use(lambda found, left_ms: found.fill(value, timeout=left_ms), timeout_ms)
            return
        self._page.mask(selectors.covering(self._page.raw, self._aim, self._ref), value)
        try:
            await self._use(lambda found, left_ms: found.fill(value.reveal_text(), timeout=left_ms), timeout_ms)
        except StepFailed as failure:
            # The library's message may repeat what was to be typed.
            raise StepFailed(failure.code, "the field could not be filled", failure.kind, aim=failure.aim) from None

    async def value(self) -> str:
        return str((await self._held("value")).get("value", ""))

    async def select(self, by: str, values: Sequence[str], timeout_ms: float) -> list[str]:
        chosen: dict[str, Any] = {by: [int(value) for value in values] if by == "index" else list(values)}
        await self._use(lambda found, left_ms: found.select_option(**chosen, timeout=left_ms), timeout_ms)
        return [str(label) for label in (await self._held("labels")).get("labels", [])]

    async def tick(self, *, checked: bool, timeout_ms: float) -> None:
        await self._use(lambda found, left_ms: found.set_checked(checked, timeout=left_ms), timeout_ms)

    async def press(self, keys: str, timeout_ms: float) -> None:
        await self._use(lambda found, left_ms: found.press(keys, timeout=left_ms), timeout_ms)

    async def put_files(self, files: Sequence[Path], timeout_ms: float) -> None:
        await self._use(lambda found, left_ms: found.set_input_files(list(files), timeout=left_ms), timeout_ms)

    async def drop_files(self, files: Sequence[Path], timeout_ms: float) -> None:
        dropped = {"files": list(files)}
        try:
            await self._use(lambda found, left_ms: found.drop(cast("Any", dropped), timeout=left_ms), timeout_ms)
        except StepFailed as failure:
            if "drop" in failure.message and "reject" in failure.message:
                raise StepFailed("drop_refused", "the target takes no files") from None
            raise

    async def aria(self) -> str:
        """What a screen reader is told of it and of what is inside."""
        return await self._use(lambda found, left_ms: found.aria_snapshot(timeout=left_ms), ARIA_MS)

    async def picture(self, masks: Sequence[PlaywrightLocator]) -> bytes:
        """A JPEG of the element alone."""
        return await self._use(
            lambda found, left_ms: found.screenshot(type="jpeg", quality=60, mask=masks, timeout=left_ms), PICTURE_MS
        )

    async def _held(self, what: str) -> dict[str, Any]:
        """Something about the very element that was used last; `target_changed` when its document has gone."""
        note = selectors.note(self._page.raw, what, self._aim.target.frame, ref=self._ref)
        async with told():
            found = msgspec.json.decode(await note.text_content(timeout=LOOK_MS) or "{}", type=dict[str, Any])
        if not found:
            raise StepFailed("target_changed", "the page was redrawn meanwhile", FailureKind.TEMPORARY, aim=self._aim)
        return found


def _now_ms() -> float:
    return asyncio.get_running_loop().time() * 1000
