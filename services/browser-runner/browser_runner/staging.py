"""Bytes of an attempt on their way to becoming artifacts: staged now, facts when the report that names them counts."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from browser_runner.assignment import Assignment
from browser_runner.ends import Fenced
from browser_runner.files import FileRef, clean_name
from browser_runner.pages import TRACES_MAX, PageDesk
from browser_runner.ports import StepFailed
from browser_runner.secret_desk import SecretDesk
from browser_runner.steps.trying import Kept
from browser_runner.timing import within
from browser_runner.trace_scrub import Filter, scrub_trace
from kernel.domain.artifact import StagedArtifact
from kernel.domain.ids import ArtifactId
from kernel.domain.values import FailureKind
from kernel.errors import Permanent, Rejected, SecretUnavailable, Temporary
from kernel.ids import derived_id
from kernel.redaction import LiveSecrets
from kernel.steps.document import Step
from kernel.store.port import PutHeader

_NAME_CHARS_MAX = 200
LEAVE_SECONDS = 10.0
"""Longer than that nobody waits for evidence."""
_SEEN = -1
"""Place of the picture that nobody asked for, beside those that the step itself may make."""


class Staging:
    """Of one attempt."""

    def __init__(self, assignment: Assignment, secrets: SecretDesk, pages: PageDesk) -> None:
        self._assignment = assignment
        self._secrets = secrets
        self._pages = pages
        self._fetched = 0

    async def stage(self, path: str, index: int, what: Kept) -> StagedArtifact:
        """Stage `what`, the `index`th of its kind at `path`. `StepFailed("artifact_failed")`, `Fenced`."""
        assignment = self._assignment
        header = PutHeader(assignment.subject_id, assignment.opener, name=what.name, mime_hint=what.mime_hint)
        store, content = assignment.services.store, what.content
        if what.kind == "extracted_data" and isinstance(content, bytes):
            content = self._secrets.echoes.scrub_bytes(content)
        try:
            put = store.put_bytes(content, header) if isinstance(content, bytes) else store.put(content, header)
            staged = await put
        except Temporary as error:
            raise StepFailed("artifact_failed", error.message, FailureKind.TEMPORARY) from None
        except (Rejected, Permanent) as error:
            raise StepFailed("artifact_failed", error.message) from None
        except SecretUnavailable:
            raise Fenced from None
        run_id = assignment.assigned.workflow_run_id
        artifact_id = ArtifactId(derived_id("artifact", run_id, path, what.kind, str(index)))
        name = self._secrets.echoes.scrub_text(what.name)[:_NAME_CHARS_MAX]
        title = await assignment.seal_text(name)
        return StagedArtifact(artifact_id, what.kind, title, staged.mime_type, staged.size, staged.sha256)

    async def fetch(self, file: FileRef) -> Path:
        """Write an artifact's bytes into the private folder of the page. `StepFailed("artifact_failed")`."""
        self._fetched += 1
        path = self._pages.folder() / str(self._fetched) / clean_name(file.name)
        path.parent.mkdir()
        try:
            with path.open("wb") as target:
                async for chunk in self._assignment.services.store.get(file.sha256):
                    await asyncio.to_thread(target.write, chunk)
        except Temporary as error:
            raise StepFailed("artifact_failed", error.message, FailureKind.TEMPORARY) from None
        except (Permanent, Rejected) as error:
            raise StepFailed("artifact_failed", f"{file.name}: {error.message}") from None
        return path

    async def leave(self) -> tuple[StagedArtifact, ...]:
        """Stage what the attempt leaves behind: its log, if pages said anything, and its traces, if they were wanted.

        For its end, while the page may still be open. Raises nothing but `Fenced`: evidence never fails a run.
        """
        if self._pages.log.is_empty and not self._pages.is_open:
            return ()
        left: list[StagedArtifact] = []
        with suppress(TimeoutError):
            await within(self._assignment.clock, LEAVE_SECONDS, self._leave(left))
        return tuple(left)

    async def _leave(self, left: list[StagedArtifact]) -> None:
        tokens, traces = await self._pages.evidence()
        attempt, log = self._assignment.assigned.token.attempt, self._pages.log
        cookies = LiveSecrets()
        for token in tokens:
            cookies.add(token)
        secrets = (self._assignment.services.live, cookies)
        with suppress(StepFailed):
            if not log.is_empty:
                lines = Kept("log_file", log.lines(secrets), f"attempt-{attempt}.ndjson", "application/x-ndjson")
                left.append(await self.stage("", attempt, lines))
            wanted = Filter(secrets, self._secrets.short(), login=self._secrets.were_opened)
            for number, trace in enumerate(traces):
                safe = await asyncio.to_thread(scrub_trace, trace, wanted)
                name = f"attempt-{attempt}-trace{f'-{number + 1}' if number else ''}.zip"
                if safe:
                    place = attempt * TRACES_MAX + number
                    left.append(await self.stage("", place, Kept("trace", safe, name, "application/zip")))

    async def picture(self, path: str, step: Step) -> StagedArtifact | None:
        """A picture of an open page. Evidence never fails a run."""
        content = await self._pages.picture()
        if content is None:
            return None
        with suppress(StepFailed):
            return await self.stage(path, _SEEN, Kept("screenshot", content, f"{step.id}-seen.jpg", "image/jpeg"))
        return None
