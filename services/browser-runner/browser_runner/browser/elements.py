"""One element of a page, held by handle once it is acted on."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, cast

from playwright.async_api import ElementHandle
from playwright.async_api import Locator as PlaywrightLocator

from browser_runner import in_page
from browser_runner.browser.failures import host_of, told
from browser_runner.ports import Facts, StepFailed
from kernel.domain.values import FailureKind
from kernel.store.secret import Secret

PICTURE_MS = 10_000
ARIA_MS = 10_000
_ROLE_LINE = re.compile(r'- (\w+)(?: "((?:[^"\\]|\\.)*)")?')


class ChromiumElement:
    """An element found by a locator; held by handle once it is acted on, proven to be the one that was looked at."""

    def __init__(self, locator: PlaywrightLocator, facts: Facts, mask: Callable[[PlaywrightLocator], None]) -> None:
        """`mask` covers a field in pictures from now on."""
        self._mask = mask
        self._locator = locator
        self._facts = facts
        self._held: ElementHandle | None = None

    @property
    def facts(self) -> Facts:
        return self._facts

    async def handle(self) -> ElementHandle:
        """The very element whose facts were read. `StepFailed("target_changed")` when another took its place."""
        if self._held is None:
            async with told():
                same = await self._locator.evaluate_handle(in_page.IF_KEY, self._facts.key, timeout=1000)
                held = same.as_element()
                if held is None:
                    raise StepFailed("target_changed", "the page was redrawn meanwhile", FailureKind.TEMPORARY)
            self._held = held
        return self._held

    async def role_and_name(self) -> tuple[str, str]:
        async with told():
            lines = (await self._locator.aria_snapshot(timeout=1000)).splitlines()
        found = _ROLE_LINE.match(lines[0]) if lines else None
        if found is None:
            return "", ""
        return found.group(1), (found.group(2) or "").replace('\\"', '"')

    async def host(self) -> str:
        async with told():
            frame = await (await self.handle()).owner_frame()
        return host_of(frame.url) if frame is not None else ""

    async def ready(self, timeout_ms: float) -> None:
        handle = await self.handle()
        async with told():
            await handle.click(trial=True, timeout=timeout_ms)

    async def click(self, *, button: str, count: int, modifiers: Sequence[str], timeout_ms: float) -> None:
        handle = await self.handle()
        async with told():
            await handle.click(
                button=cast("Literal['left', 'middle', 'right']", button),
                click_count=count,
                modifiers=cast("Sequence[Literal['Alt', 'Control', 'Meta', 'Shift']]", list(modifiers)),
                timeout=timeout_ms,
            )

    async def fill(self, value: str | Secret, timeout_ms: float) -> None:
        handle = await self.handle()
        if isinstance(value, Secret):
            self._mask(self._locator)
            await self._fill_secret(handle, value, timeout_ms)
            return
        async with told():
            await handle.fill(value, timeout=timeout_ms)

    async def _fill_secret(self, handle: ElementHandle, value: Secret, timeout_ms: float) -> None:
        try:
            async with told():
                await handle.fill(value.reveal_text(), timeout=timeout_ms)
        except StepFailed as failure:
            # The library's message may repeat what was to be typed.
            raise StepFailed(failure.code, "the field could not be filled", failure.kind) from None

    async def value(self) -> str:
        handle = await self.handle()
        async with told():
            value = await handle.evaluate("e => 'value' in e ? String(e.value) : e.innerText")
        return str(value)

    async def select(self, by: str, values: Sequence[str], timeout_ms: float) -> list[str]:
        handle = await self.handle()
        chosen: dict[str, Any] = {by: [int(value) for value in values] if by == "index" else list(values)}
        async with told():
            await handle.select_option(**chosen, timeout=timeout_ms)
            return list(await handle.evaluate("e => [...e.selectedOptions].map(o => o.label)"))

    async def tick(self, *, checked: bool, timeout_ms: float) -> None:
        handle = await self.handle()
        async with told():
            await handle.set_checked(checked, timeout=timeout_ms)

    async def press(self, keys: str, timeout_ms: float) -> None:
        handle = await self.handle()
        async with told():
            await handle.press(keys, timeout=timeout_ms)

    async def put_files(self, files: Sequence[Path], timeout_ms: float) -> None:
        handle = await self.handle()
        async with told():
            await handle.set_input_files(list(files), timeout=timeout_ms)

    async def drop_files(self, files: Sequence[Path], timeout_ms: float) -> None:
        await self.handle()  # It is still the one that was looked at; a drop goes by locator only.
        try:
            async with told():
                await self._locator.drop({"files": list(files)}, timeout=timeout_ms)
        except StepFailed as failure:
            if "drop" in failure.message and "reject" in failure.message:
                raise StepFailed("drop_refused", "the target takes no files") from None
            raise

    async def aria(self) -> str:
        """What a screen reader is told of it and of what is inside."""
        await self.handle()  # It is still the one that was looked at; a snapshot goes by locator only.
        async with told():
            return await self._locator.aria_snapshot(timeout=ARIA_MS)

    async def picture(self, masks: Sequence[PlaywrightLocator]) -> bytes:
        """A JPEG of the element alone."""
        handle = await self.handle()
        async with told():
            return await handle.screenshot(type="jpeg", quality=60, mask=masks, timeout=PICTURE_MS)
