"""Whatever a page or an author makes long: a report stays within what the log takes, and the run ends or goes on."""

from __future__ import annotations

from dataclasses import replace

from kernel.domain.task import Journal, JournalEntry, StepFinished, TaskEnded, TaskSuspended
from kernel.domain.values import SealedBody
from kernel.domain.workflow_run import WorkflowRunStatus
from tests.support.doubles.runner_world import a_world
from tests.support.model_site import HOST
from tests.support.runner_documents import OPEN, PROVE, SAVE, a_shop, document, step
from tests.support.runner_world import SECOND

LONG = "x" * 100_000


async def test_an_address_too_long_for_a_report_is_no_place_to_come_back_to() -> None:
    site = a_shop()

    def save(page: object) -> None:
        page.url = f"https://{HOST}/done?{LONG}"  # type: ignore[attr-defined]

    site.pages["/form"][1] = replace(site.pages["/form"][1], click=save)
    async with a_world(site) as world:
        await world.assign(document(OPEN, SAVE, PROVE))
        ended = await world.until_report(TaskEnded, seconds=3)
        assert ended.status is WorkflowRunStatus.COMPLETED, ended
        finished = [report for report in await world.reports() if isinstance(report, StepFinished)]
        assert [report.safe_point for report in finished] == [True, False, False]
        assert site.deeds["click Save"] == 1


async def test_a_prompt_too_long_for_a_report_is_cut() -> None:
    async with a_world() as world:
        ask = step("ask_user", "ask", {"fields": [{"name": "x"}], "prompt": "{{inputs.text}}"})
        await world.assign(document(ask, inputSchema={"properties": {"text": {}}}), inputs={"text": LONG[:60_000]})
        suspended = await world.until_report(TaskSuspended, seconds=3)
        assert len(await world.sealer.open_text(suspended.prompt)) == 4000


async def test_a_question_that_no_report_can_hold_fails_the_run_and_says_so() -> None:
    async with a_world() as world:
        options = [f"{number:0250}" for number in range(230)]
        ask = step("ask_user", "ask", {"fields": [{"name": "x", "kind": "choice", "options": options}]})
        await world.assign(document(ask))
        ended = await world.until_report(TaskEnded, seconds=3)
        assert ended.failure.code == "report_too_long"


async def test_a_journal_that_outgrows_its_bound_over_several_attempts_is_staged() -> None:
    """What earlier attempts left inline counts with all that it weighs, addresses included."""
    site = a_shop()
    paths = [f"/form?{number}{'y' * 3000}" for number in range(6)]
    site.pages.update({path: [] for path in paths})
    doc = document(*(step("navigate", f"s{n}", {"url": f"https://{HOST}{path}"}) for n, path in enumerate(paths)))
    async with a_world(site) as world:
        await world.assign(doc)
        await world.until_report(TaskEnded, seconds=3)
        finished = [report for report in await world.reports() if isinstance(report, StepFinished)]
        bound = next(number for number, report in enumerate(finished) if report.journal_staged.size)
        entries = tuple(entry_of(report) for report in finished[:bound])
        await world.assign(doc, SECOND, journal=Journal(SealedBody(), entries, ()))
        await world.until_report(TaskEnded, SECOND, seconds=3)
        again = [report for report in await world.reports(SECOND) if isinstance(report, StepFinished)]
        assert again[0].path == f"s{bound}"
        assert again[0].journal_staged.size, "this entry is the one too many, as it was in the first attempt"


def entry_of(report: StepFinished) -> JournalEntry:
    return JournalEntry(
        report.path, report.status, report.effect, report.output, report.safe_point, report.url, report.consumed
    )
