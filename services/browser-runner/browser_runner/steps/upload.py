"""`upload`: hand files to the page, through a file input or onto a zone. They are artifacts, never paths."""

from __future__ import annotations

from typing import Any

from browser_runner.files import FileRef, as_list, id_of, known_files
from browser_runner.ports import StepFailed
from browser_runner.steps.trying import Trying
from kernel.steps.document import Upload, UploadStep

FILES_MAX = 50

_FILES = frozenset({"files"})


async def run_upload(trying: Trying, step: UploadStep) -> dict[str, Any]:
    """Result: `files`, each with `name`, `size`, `sha256`."""
    params = trying.rendered(step.params, skip=_FILES)
    files = _wanted(trying, params)
    element = await trying.resolve(params.target, hidden=not params.drop)
    if not params.drop and (element.facts.tag, element.facts.type) != ("input", "file"):
        raise StepFailed("target_changed", f"the target is no file input but {element.facts.tag!r}")
    paths = [await trying.desk.fetch(file) for file in files]
    if params.drop:
        await element.ready(trying.left_ms())
    await trying.about_to_act()
    if params.drop:
        await element.drop_files(paths, trying.left_ms())
    else:
        await element.put_files(paths, trying.left_ms())
    trying.acted()
    await trying.expect(params.expect, element)
    return {"files": [{"name": file.name, "size": file.size, "sha256": file.sha256} for file in files]}


def _wanted(trying: Trying, params: Upload) -> list[FileRef]:
    known = known_files(trying.desk.prepared.document, trying.scope)
    references = [reference for text in params.files for reference in as_list(trying.value(text))]
    files = [known.get(id_of(reference)) for reference in references]
    if not files or len(files) > FILES_MAX:
        raise StepFailed("upload_refused", f"{len(files)} files are to be uploaded; there may be 1 to {FILES_MAX}")
    found = [file for file in files if file is not None]
    if len(found) < len(files):
        raise StepFailed("upload_refused", "only artifacts of this run and of its inputs can be uploaded")
    size = sum(file.size for file in found)
    if size > params.max_bytes:
        raise StepFailed("upload_too_large", f"{size} bytes are more than {params.max_bytes}")
    return found
