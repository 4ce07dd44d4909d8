"""`download`: keep files as artifacts. The bytes say what they are, not their sender; names are cleaned."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from browser_runner.files import as_result, clean_name
from browser_runner.ports import Downloaded, StepFailed
from browser_runner.steps.trying import Trying
from kernel.domain.values import Effect
from kernel.steps.document import Download, DownloadStep
from kernel.store.port import CHUNK_BYTES


async def run_download(trying: Trying, step: DownloadStep) -> dict[str, Any]:
    """Result: `files`, each with `artifactId`, `name`, `originalName`, `sha256`, `type`, `declaredType`, `size`."""
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
        if not params.url:
            return await page.downloads(params.count, params.max_bytes, trying.left_ms())
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
    artifact = await trying.keep("download", _chunks(file.path), name, file.declared_type)
    if params.types and not any(fnmatchcase(artifact.mime_type, allowed) for allowed in params.types):
        raise StepFailed("download_type_refused", f"the file is {artifact.mime_type}, not one of {params.types}")
    return {**as_result(artifact, name), "originalName": file.suggested_name, "declaredType": file.declared_type}


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk
