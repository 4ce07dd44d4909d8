"""Wherever a run is cut, the next attempt ends as the first one would have, and does nothing a second time.

The first attempt runs to its end. Then, for every one of its reports, a second attempt begins with the journal that
`advance` would have made of the reports up to there.
"""

from __future__ import annotations

from typing import Any

from kernel.domain.task import Journal, JournalEntry, StepFinished, StepStarted, TaskEnded
from kernel.domain.values import SealedBody, Token
from kernel.domain.workflow_run import StepStatus, WorkflowRunStatus
from tests.support.doubles.runner_world import World, a_world
from tests.support.runner_documents import OPEN, SAVE, a_shop, document, fill, step

BROKEN = step("assert", "broken", {"that": ["false"]}, onError="continue", retry={"maxAttempts": 1})
FORK = step(
    "if",
    "fork",
    {
        "condition": "steps.broken.failed && inputs.names.size() > 1",
        "then": [{**fill("yes", "Name", "yes"), "evidence": "always"}],
        "else": [fill("no", "Name", "no")],
    },
)
LOOP = step(
    "for_each",
    "loop",
    {
        "items": "inputs.names",
        "variable": "who",
        "body": [fill("type", "Name", "{{who}}"), step("assert", "odd", {"that": ["index == 0"]}, onError="continue")],
    },
)
PASSED = step("assert", "passed", {"that": ["true"]}, when="steps.loop.items > 5")
DONE = step(
    "finish",
    "done",
    {
        "outcome": "done",
        "output": {
            "url": "{{steps.open.url}}",
            "branch": "{{steps.fork.branch}}",
            "items": "{{steps.loop.items}}",
            "code": "{{steps.broken.code}}",
            "last": "{{steps.odd.code}}",
            "saved": "{{steps.save.url}}",
        },
    },
)
WALK = document(OPEN, BROKEN, FORK, LOOP, SAVE, PASSED, DONE, inputSchema={"properties": {"names": {}}})
INPUTS = {"names": ["Ada", "Grace"]}


def journal_of(reports: list[Any]) -> Journal:
    entries: list[JournalEntry] = []
    unknown: list[str] = []
    for report in reports:
        if isinstance(report, StepStarted):
            unknown.append(report.path)
        elif isinstance(report, StepFinished):
            unknown = [path for path in unknown if path != report.path]
            entries.append(
                JournalEntry(
                    report.path, report.status, report.effect, report.output, report.safe_point, report.url,
                    report.consumed, report.failure.code,
                )
            )  # fmt: skip
    return Journal(SealedBody(), tuple(entries), tuple(unknown))


async def ended(world: World, token: Token, journal: Journal | None = None) -> TaskEnded:
    more = {} if journal is None else {"journal": journal}
    await world.assign(WALK, token, inputs=INPUTS, **more)
    return await world.until_report(TaskEnded, token, seconds=5)


async def test_a_run_that_is_cut_after_any_report_ends_as_if_it_had_not_been() -> None:
    async with a_world(a_shop()) as world:
        first = Token(1, "1" * 32)
        whole = await ended(world, first)
        assert whole.status is WorkflowRunStatus.COMPLETED, whole
        reports = await world.reports(first)
        wanted = await world.opened(whole.output)
        assert wanted["branch"] == "then"
        for cut in range(1, len(reports)):
            prefix = reports[:cut]
            world.site.deeds.clear()
            token = Token(cut + 1, f"{cut + 1:032x}")
            end = await ended(world, token, journal_of(prefix))
            last = prefix[-1]
            if isinstance(last, StepStarted):
                assert end.failure.code == "step_outcome_unknown"
                assert world.site.deeds["click Save"] == 0
                continue
            assert end.status is WorkflowRunStatus.COMPLETED, (cut, last, end)
            assert await world.opened(end.output) == wanted, (cut, last)
            was_saved = any(isinstance(r, StepFinished) and r.path == "save" for r in prefix)
            assert world.site.deeds["click Save"] == (0 if was_saved else 1)
            again = [r for r in await world.reports(token) if isinstance(r, StepFinished)]
            made = {staged.artifact_id for r in prefix if isinstance(r, StepFinished) for staged in r.artifacts}
            assert not made & {staged.artifact_id for r in again for staged in r.artifacts}, (cut, "made again")
            skipped = {r.path for r in prefix if isinstance(r, StepFinished) and r.status is StepStatus.SKIPPED}
            assert not skipped & {r.path for r in again}
