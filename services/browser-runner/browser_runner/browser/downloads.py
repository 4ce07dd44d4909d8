"""Files that a page hands out, on the runner's disk."""

from __future__ import annotations

import asyncio
import re
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from playwright.async_api import Download as PlaywrightDownload
from playwright.async_api import ElementHandle
from playwright.async_api import Page as PlaywrightPage

from browser_runner.browser.failures import must_be_let_through, must_be_web, told
from browser_runner.ports import Downloaded, StepFailed
from kernel.domain.values import FailureKind


async def by_click(
    page: PlaywrightPage, handle: ElementHandle, count: int, bytes_max: int, timeout_ms: float
) -> list[Downloaded]:
    """Click and wait for `count` files. `StepFailed`: `download_failed`, `download_too_large`."""
    arrived = asyncio.Queue[PlaywrightDownload]()
    page.on("download", arrived.put_nowait)
    try:
        async with asyncio.timeout(timeout_ms / 1000):
            async with told():
                await handle.click(timeout=timeout_ms)
            return [await _finished(await arrived.get(), bytes_max) for _ in range(count)]
    except TimeoutError:
        raise StepFailed("download_failed", "no file came in time", FailureKind.TEMPORARY) from None
    finally:
        page.remove_listener("download", arrived.put_nowait)


async def by_url(page: PlaywrightPage, url: str, bytes_max: int, timeout_ms: float) -> Downloaded:
    """Fetch a URL with the cookies of the page's run."""
    must_be_web(url)
    async with told():
        answer = await page.request.get(url, timeout=timeout_ms)
        must_be_let_through(answer.url, answer.headers)
        if answer.status >= 400:
            kind = FailureKind.TEMPORARY if answer.status >= 500 else FailureKind.PERMANENT
            raise StepFailed("download_failed", f"{url} answered {answer.status}", kind)
        content = await answer.body()
    if len(content) > bytes_max:
        raise StepFailed("download_too_large", f"{len(content)} bytes are more than {bytes_max}")
    path = await asyncio.to_thread(_write_temporary, content)
    name = _file_name(answer.headers.get("content-disposition", "")) or urlsplit(answer.url).path.rsplit("/", 1)[-1]
    return Downloaded(path, name, answer.url, len(content))


async def _finished(download: PlaywrightDownload, bytes_max: int) -> Downloaded:
    async with told():
        failure = await download.failure()
        if failure is not None:
            raise StepFailed("download_failed", failure, FailureKind.TEMPORARY)
        path = Path(await download.path())
    size = (await asyncio.to_thread(path.stat)).st_size
    if size > bytes_max:
        await asyncio.to_thread(path.unlink, missing_ok=True)
        raise StepFailed("download_too_large", f"{size} bytes are more than {bytes_max}")
    return Downloaded(path, download.suggested_filename, download.url, size)


def _write_temporary(content: bytes) -> Path:
    with tempfile.NamedTemporaryFile(prefix="towpath-", delete=False) as file:
        file.write(content)
    return Path(file.name)


def _file_name(disposition: str) -> str:
    found = re.search(r'filename="?([^";]+)"?', disposition)
    return found.group(1) if found else ""
