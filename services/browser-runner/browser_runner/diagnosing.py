"""Looking once more at the page after a step has failed, so that a person need not guess. Touches nothing."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from browser_runner.diagnosis import URL_CHARS_MAX, Candidate, Diagnosis, Tried, bounded, nearest
from browser_runner.locators import describe, title_of, tried_in_words, why_not_usable
from browser_runner.ports import Aim, BrowserLost, Page, Place, Sight, StepFailed
from kernel.domain.values import FailureKind

DIAGNOSING_SECONDS = 3.0
"""A page that does not answer within this time is told by what is known already."""

_NEAREST_SAID = 3


async def diagnosed(page: Page | None, failure: StepFailed) -> StepFailed:
    """`failure` with its diagnosis and, where a target is to blame, a message that says what was tried.

    Raises nothing: whatever cannot be found out is left out.
    """
    may_retry = failure.kind is FailureKind.TEMPORARY
    if page is None:
        return _with(failure, failure.message, Diagnosis(may_retry=may_retry))
    sight: Sight | None = None
    place = Place()
    candidates: tuple[Candidate, ...] = ()
    with suppress(TimeoutError, StepFailed, BrowserLost):
        async with asyncio.timeout(DIAGNOSING_SECONDS):
            place = await page.place()
            sight = await _sight_of(page, failure)
            candidates = await _nearest(page, failure)
    aim = failure.aim
    diagnosis = Diagnosis(
        url=bounded(page.url, URL_CHARS_MAX),
        status=place.status,
        frame=aim.target.frame if aim is not None else "",
        tried=_tried(aim, sight) if aim is not None and sight is not None else (),
        differs=bounded(failure.message) if failure.code == "target_changed" else "",
        covered_by=bounded(failure.message) if failure.code == "target_covered" else "",
        dialog=bounded(place.dialog),
        nearest=candidates,
        console=tuple(bounded(line) for line in page.console_errors()),
        may_retry=may_retry,
    )
    message = failure.message if aim is None else _message(failure, aim, diagnosis, sight)
    return _with(failure, message, diagnosis)


def _with(failure: StepFailed, message: str, diagnosis: Diagnosis) -> StepFailed:
    return StepFailed(failure.code, message, failure.kind, aim=failure.aim, diagnosis=diagnosis)


async def _sight_of(page: Page, failure: StepFailed) -> Sight | None:
    return await page.look(failure.aim) if failure.aim is not None else None


async def _nearest(page: Page, failure: StepFailed) -> tuple[Candidate, ...]:
    if failure.aim is None or failure.code not in {"target_missing", "target_changed"}:
        return ()
    return nearest(failure.aim.target, await page.aria(None))


def _tried(aim: Aim, sight: Sight) -> tuple[Tried, ...]:
    return tuple(
        Tried(bounded(describe(locator)), hit.matches, hit.visible, hit.enabled, why_not_usable(aim, hit))
        for locator, hit in zip(aim.target.locators, sight.hits, strict=False)
    )


def _message(failure: StepFailed, aim: Aim, diagnosis: Diagnosis, sight: Sight | None) -> str:
    title, at = title_of(aim.target), f"At {diagnosis.url}"
    tried = tried_in_words(aim, sight.hits) if sight is not None else ""
    match failure.code:
        case "target_missing":
            there = _where_missing(aim, sight) or tried or "nothing of it is there"
            return f"{title} was not found: {there}. {at}{_nearest_said(diagnosis)}{_dialog_said(diagnosis)}"
        case "target_conflict":
            return f"locators disagree about {title}: {tried}, but not the same element. {at}"
        case "target_changed":
            return f"{title} is not what it was: {failure.message}. {at}"
        case "target_covered":
            return f"{title} is covered by {failure.message}. {at}{_dialog_said(diagnosis)}"
        case _:
            return f"{failure.message} ({title})"


def _where_missing(aim: Aim, sight: Sight | None) -> str:
    target = aim.target
    if sight is None:
        return ""
    if not sight.hits and target.frame:
        return f"its frame {target.frame!r} is not there, or there are several"
    if target.within is not None and sight.containers != 1:
        return f"its container ({describe(target.within)}) matches {sight.containers} times, not once"
    return ""


def _nearest_said(diagnosis: Diagnosis) -> str:
    said = [f"{found.role} {found.name!r}" for found in diagnosis.nearest[:_NEAREST_SAID]]
    return f"; what is most like it: {', '.join(said)}" if said else ""


def _dialog_said(diagnosis: Diagnosis) -> str:
    return f"; a dialog is open: {diagnosis.dialog!r}" if diagnosis.dialog else ""
