"""What an attempt asks people: the answer that came with the task or comes while the page is held, each used once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from browser_runner.assignment import Assignment
from browser_runner.deadline import Deadline
from browser_runner.ends import HandBack, Why
from browser_runner.orders import Orders
from browser_runner.outcome import Question
from browser_runner.pages import PageDesk
from kernel.domain.ids import InputRequestId
from kernel.domain.task import Answer, TaskSuspended
from kernel.steps.document import Step

PROMPT_CHARS_MAX = 4000
"""What a person is told beyond that is cut off."""


class Questions:
    """Of one attempt. `waiting` is set while the page is held for a person."""

    def __init__(
        self,
        assignment: Assignment,
        orders: Orders,
        pages: PageDesk,
        deadline: Deadline,
        on_change: Callable[[], None],
    ) -> None:
        """`on_change` is called when it begins or ends to wait for a person."""
        self.waiting = False
        self._assignment = assignment
        self._orders = orders
        self._pages = pages
        self._deadline = deadline
        self._on_change = on_change
        self._used_up: set[InputRequestId] = set()

    async def ask(self, path: str, step: Step, question: Question) -> dict[str, Any]:
        """The answer that came with the task or comes while the page is held; one with a secret is taken once."""
        given = self._given(path) or await self._suspend(path, step, question)
        if any(asked.secret for asked in question.fields):
            self._used_up.add(given.input_request_id)
        values = await self._assignment.opened(given.values)
        return values if isinstance(values, dict) else {}

    def use_up(self, path: str) -> None:
        """The answer to the question at `path` counts no more."""
        given = self._orders.answers.get(path)
        if given is not None:
            self._used_up.add(given.input_request_id)

    def _given(self, path: str) -> Answer | None:
        given = self._orders.answers.get(path)
        return None if given is None or given.input_request_id in self._used_up else given

    async def _suspend(self, path: str, step: Step, question: Question) -> Answer:
        assignment, reporter, orders = self._assignment, self._assignment.reporter, self._orders
        hold = question.hold_seconds if self._pages.has_place else 0
        if hold:
            await self._pages.page()  # The answer may belong to what this very page asks for.
        prompt = await assignment.seal_text(question.prompt[:PROMPT_CHARS_MAX])
        reporter.say(
            TaskSuspended,
            path=path,
            step_id=step.id,
            kind=question.kind,
            prompt=prompt,
            fields=question.fields,
            ask_attempt=question.attempt,
            hold_seconds=hold,
            answer_seconds=question.answer_seconds,
        )
        await reporter.acknowledged()
        if not hold:
            raise HandBack(Why.PARK)
        self._wait(begins=True)
        try:
            await orders.wait(lambda: bool(self._given(path)) or orders.park or orders.stop or orders.release)
        finally:
            self._wait(begins=False)
        given = self._given(path)
        if given is not None:
            return given
        raise HandBack(Why.STOP if orders.stop else Why.PARK if orders.park else Why.DRAIN)

    def _wait(self, *, begins: bool) -> None:
        self.waiting = begins
        if begins:
            self._deadline.pause()
        else:
            self._deadline.go_on()
        self._on_change()
