"""Files that the pages of a context hand out. They go to the runner's disk as they come, and never into its memory.

A browser gives word of a file when it begins and when it is whole. In between its size is seen only on the disk, so the
folder is looked at while a file comes: one that grows too large is cancelled there and then.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from playwright.async_api import BrowserContext as PlaywrightContext
from playwright.async_api import CDPSession, ElementHandle
from playwright.async_api import Download as PlaywrightDownload
from playwright.async_api import Error as PlaywrightError

from browser_runner.browser.failures import must_be_let_through, must_be_web, told, translated
from browser_runner.ports import Downloaded, StepFailed
from kernel.domain.values import FailureKind

UNCLAIMED_MAX = 20
"""Files that a page has started by itself and no step has asked for; more are cancelled."""

_LOOK_SECONDS = 0.1
_ENDED = ("Download is starting", "net::ERR_ABORTED")
"""How a navigation ends that became a file."""


class Downloads:
    """Of one context."""

    def __init__(self, context: PlaywrightContext, folder: Path) -> None:
        """`folder`: where the browser writes files that come."""
        self._context = context
        self._folder = folder
        self._arrived: deque[PlaywrightDownload] = deque()
        self._changed = asyncio.Event()
        self._cancelling: set[asyncio.Task[None]] = set()
        context.on("download", self._came)

    def _came(self, download: PlaywrightDownload) -> None:
        if len(self._arrived) >= UNCLAIMED_MAX:
            task = asyncio.ensure_future(_cancelled(download))
            self._cancelling.add(task)
            task.add_done_callback(self._cancelling.discard)
            return
        self._arrived.append(download)
        self._changed.set()

    async def by_click(self, handle: ElementHandle, count: int, bytes_max: int, timeout_ms: float) -> list[Downloaded]:
        """Click and wait for `count` files. `StepFailed`: `download_failed`, `download_too_large`."""
        self._arrived.clear()
        known = self._sizes()
        async with _in_time(timeout_ms):
            async with told():
                await handle.click(timeout=timeout_ms)
            return await self._take(count, bytes_max, known)

    async def started_by_page(self, count: int, bytes_max: int, timeout_ms: float) -> list[Downloaded]:
        """Wait for `count` files that no step has asked for; those count that have come already."""
        async with _in_time(timeout_ms):
            return await self._take(count, bytes_max, {})

    async def by_url(self, url: str, bytes_max: int, timeout_ms: float) -> Downloaded:
        """Fetch a URL as the browser does, with the cookies of the run, whatever the answer says it is."""
        must_be_web(url)
        known = self._sizes()
        async with _in_time(timeout_ms):
            async with told():
                page = await self._context.new_page()
            try:
                async with told():
                    fetch = _Fetch(await self._context.new_cdp_session(page), bytes_max)
                    await fetch.begin()
                self._arrived.clear()
                try:
                    await page.goto(url, timeout=timeout_ms, wait_until="commit")
                except PlaywrightError as error:
                    if fetch.failure is None and not any(sign in error.message for sign in _ENDED):
                        raise translated(error) from None
                if fetch.failure is not None:
                    raise fetch.failure
                (file,) = await self._take(1, bytes_max, known)
                return Downloaded(file.path, file.suggested_name, file.url, file.size, fetch.declared_type)
            finally:
                await page.close()

    async def _take(self, count: int, bytes_max: int, known: dict[str, int]) -> list[Downloaded]:
        taken: list[Downloaded] = []
        while len(taken) < count:
            while not self._arrived:
                self._changed.clear()
                await self._changed.wait()
            taken.append(await self._whole(self._arrived.popleft(), bytes_max, known))
        return taken

    async def _whole(self, download: PlaywrightDownload, bytes_max: int, known: dict[str, int]) -> Downloaded:
        waiting = asyncio.ensure_future(_path_of(download))
        try:
            while not (await asyncio.wait((waiting,), timeout=_LOOK_SECONDS))[0]:
                sizes = await asyncio.to_thread(self._sizes)
                if any(size > bytes_max for name, size in sizes.items() if name not in known):
                    await _cancelled(download)
                    raise StepFailed("download_too_large", f"the file is larger than {bytes_max} bytes")
            path = waiting.result()
        finally:
            waiting.cancel()
        size = (await asyncio.to_thread(path.stat)).st_size
        if size > bytes_max:
            await asyncio.to_thread(path.unlink, missing_ok=True)
            raise StepFailed("download_too_large", f"{size} bytes are more than {bytes_max}")
        return Downloaded(path, download.suggested_filename, download.url, size)

    def _sizes(self) -> dict[str, int]:
        sizes: dict[str, int] = {}
        for file in self._folder.iterdir():
            try:
                sizes[file.name] = file.stat().st_size
            except FileNotFoundError:
                continue  # It is whole now and has got another name, or it is gone.
        return sizes


@asynccontextmanager
async def _in_time(timeout_ms: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(timeout_ms / 1000):
            yield
    except TimeoutError:
        raise StepFailed("download_failed", "no file came in time", FailureKind.TEMPORARY) from None


async def _path_of(download: PlaywrightDownload) -> Path:
    async with told():
        failure = await download.failure()
        if failure is not None:
            raise StepFailed("download_failed", failure, FailureKind.TEMPORARY)
        return Path(await download.path())


async def _cancelled(download: PlaywrightDownload) -> None:
    try:
        await download.cancel()
    except PlaywrightError:
        return  # Its context is gone, and it went with it.


class _Fetch:
    """Makes a file of what a page gets, before the page gets it; `failure` says why it was none."""

    def __init__(self, session: CDPSession, bytes_max: int) -> None:
        self._session = session
        self._bytes_max = bytes_max
        self._tasks: set[asyncio.Task[None]] = set()
        self.failure: StepFailed | None = None
        self.declared_type = ""

    async def begin(self) -> None:
        """From now on answers wait for a decision."""
        self._session.on("Fetch.requestPaused", self._paused)
        pattern = {"urlPattern": "*", "requestStage": "Response", "resourceType": "Document"}
        await self._session.send("Fetch.enable", {"patterns": [pattern]})

    def _paused(self, event: dict[str, Any]) -> None:
        task = asyncio.ensure_future(self._decide(event))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _decide(self, event: dict[str, Any]) -> None:
        status = int(event.get("responseStatusCode", 0))
        request_id, headers = event["requestId"], list(event.get("responseHeaders", []))
        by_name = {str(header["name"]).lower(): str(header["value"]) for header in headers}
        try:
            if not status or 300 <= status < 400:
                await self._session.send("Fetch.continueRequest", {"requestId": request_id})
                return
            self.failure = self._why_not(event["request"]["url"], status, by_name)
            if self.failure is not None:
                await self._session.send("Fetch.failRequest", {"requestId": request_id, "errorReason": "Aborted"})
                return
            self.declared_type = by_name.get("content-type", "").partition(";")[0].strip().lower()
            changed = {"requestId": request_id, "responseCode": status, "responseHeaders": _as_file(headers, by_name)}
            await self._session.send("Fetch.continueResponse", changed)
        except PlaywrightError:
            return  # The page is gone; whoever waits for the file hears of it.

    def _why_not(self, url: str, status: int, headers: dict[str, str]) -> StepFailed | None:
        try:
            must_be_let_through(url, headers)
        except StepFailed as failure:
            return failure
        if status >= 400 or status in {204, 205}:
            kind = FailureKind.TEMPORARY if status >= 500 else FailureKind.PERMANENT
            return StepFailed("download_failed", f"{url} answered {status}", kind)
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > self._bytes_max:
            return StepFailed("download_too_large", f"{length} bytes are more than {self._bytes_max}")
        return None


def _as_file(headers: list[dict[str, str]], by_name: dict[str, str]) -> list[dict[str, str]]:
    """The headers of an answer that a browser keeps instead of showing it; a name that it gives is kept."""
    _, _, given = by_name.get("content-disposition", "").partition(";")
    kept = [header for header in headers if header["name"].lower() != "content-disposition"]
    disposition = f"attachment;{given}" if given else "attachment"
    return [*kept, {"name": "Content-Disposition", "value": disposition}]
