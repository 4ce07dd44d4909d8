"""`download`: keep files as artifacts. The bytes say what they are, not their sender; names are cleaned."""

from __future__ import annotations

import asyncio
import re
import unicodedata
from collections.abc import AsyncIterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from browser_runner.ports import Downloaded, StepFailed
from browser_runner.steps.trying import Trying
from kernel.domain.values import Effect
from kernel.steps.document import Download, DownloadStep
from kernel.store.port import CHUNK_BYTES

_NAME_CHARS_MAX = 120
_UNSAFE = re.compile(r"[^\w.\- ]+")
_DEVICES = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\.|$)")


async def run_download(trying: Trying, step: DownloadStep) -> dict[str, Any]:
    """Result: `files`, each with `artifactId`, `name`, `originalName`, `sha256`, `type`, `size`."""
    params = trying.rendered(step.params)
    files = await _fetch(trying, params)
    trying.acted()
    kept = []
    try:
        for index, file in enumerate(files):
            kept.append(await _keep(trying, params, file, index))
    finally:
        for file in files:
            await asyncio.to_thread(file.path.unlink, missing_ok=True)
    return {"files": kept}


async def _fetch(trying: Trying, params: Download) -> list[Downloaded]:
    page = await trying.page()
    if params.target is None:
        await trying.about_to_act()
        return [await page.download_url(params.url, params.max_bytes, trying.left_ms())]
    element = await trying.resolve(params.target)
    if trying.effect is not Effect.READ:
        await element.ready(trying.left_ms())
    await trying.about_to_act()
    return await page.download_by(element, params.count, params.max_bytes, trying.left_ms())


async def _keep(trying: Trying, params: Download, file: Downloaded, index: int) -> dict[str, Any]:
    name = clean_name(params.name or file.suggested_name)
    if params.name and index:
        stem, dot, ending = name.rpartition(".")
        name = f"{stem or ending}-{index + 1}{dot}{ending if stem else ''}"
    artifact = await trying.keep("download", _chunks(file.path), name, "")
    if params.types and not any(fnmatchcase(artifact.mime_type, allowed) for allowed in params.types):
        raise StepFailed("download_type_refused", f"the file is {artifact.mime_type}, not one of {params.types}")
    return {
        "artifactId": artifact.artifact_id,
        "name": name,
        "originalName": file.suggested_name,
        "sha256": artifact.sha256,
        "type": artifact.mime_type,
        "size": artifact.size,
    }


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk


def clean_name(name: str) -> str:
    """A file name that is safe on every system: no path, no control characters, no device, not hidden. Pure."""
    last = re.split(r"[/\\]", unicodedata.normalize("NFKC", name))[-1]
    clean = _UNSAFE.sub("_", last).strip(" .")[-_NAME_CHARS_MAX:].lstrip(" .")
    if not clean:
        return "download"
    return f"_{clean}" if _DEVICES.match(clean) else clean
