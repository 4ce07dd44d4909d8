"""One try of one step: what a step kind may ask for, and the two moments that it must announce.

A kind calls `about_to_act` right before its first effect outside and `acted` right after it. Between the two, a `once`
step is unknown; outside of them a failure is just a failure.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

from browser_runner.conditions import expect_page, why_not
from browser_runner.files import FileRef
from browser_runner.locators import resolve
from browser_runner.ports import Aim, Element, Heard, Page, StepFailed
from browser_runner.prepared import Prepared
from browser_runner.rejection import RejectionWatch, watch
from kernel.clock import Clock
from kernel.domain.artifact import StagedArtifact
from kernel.domain.values import Effect
from kernel.errors import Temporary
from kernel.steps import visit
from kernel.steps.document import Rejection, Step
from kernel.steps.expressions import ExpressionError, compile_expression, evaluate
from kernel.steps.targets import Expect, Target
from kernel.steps.templates import SecretValue, TemplateError, render_text, render_value
from kernel.store.secret import Secret

P = TypeVar("P", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Kept:
    """Bytes that become an artifact of type `kind`."""

    kind: str
    content: bytes | AsyncIterator[bytes]
    name: str
    mime_hint: str


class Desk(Protocol):
    """What a try needs of its attempt."""

    clock: Clock
    prepared: Prepared

    async def page(self) -> Page:
        """The run's page, opened and entered on first use."""
        ...

    async def second_page(self) -> Page:
        """Another page of the run, for looking; whoever asked closes it."""
        ...

    async def before_act(self, path: str, step: Step, effect: Effect) -> None:
        """Wait until it is safe to act (design 6.6, 7)."""
        ...

    async def secret(self, ref: str) -> Secret:
        """Open a secret, once per attempt."""
        ...

    async def totp_code(self, ref: str) -> Secret:
        """The code that a seed makes now; `Temporary("totp_window_used")` says how long to wait for the next one."""
        ...

    async def stage(self, path: str, index: int, what: Kept) -> StagedArtifact:
        """Put bytes into the artifact store; the id follows from run, path and index."""
        ...

    async def fetch(self, file: FileRef) -> Path:
        """The bytes of an artifact as a private file of its name; it goes when the run's page is closed."""
        ...

    def may_type_secret(self, host: str) -> bool:
        """Whether a secret may be typed into a document of `host`."""
        ...


@dataclass(slots=True)
class Trying:
    """One try. Not shared, not kept."""

    desk: Desk
    path: str
    step: Step
    effect: Effect
    scope: Mapping[str, Any]
    until_ms: float
    """`boot_ms` at which the try is over."""
    started: bool = False
    has_acted: bool = False
    watched: RejectionWatch | None = None
    heard: Heard | None = None
    artifacts: list[StagedArtifact] = field(default_factory=list)

    @property
    def clock(self) -> Clock:
        return self.desk.clock

    def left_ms(self) -> float:
        """How long the step may still take; at least 1."""
        return max(self.until_ms - self.clock.boot_ms(), 1.0)

    async def about_to_act(self) -> None:
        """The next thing is the effect; returns when it may happen."""
        if not self.started and self.effect is not Effect.READ:
            await self.desk.before_act(self.path, self.step, self.effect)
            self.started = True

    def acted(self) -> None:
        """The effect was carried out; what follows only looks."""
        self.has_acted = True

    def rendered(self, params: P, *, skip: frozenset[str] = frozenset()) -> P:
        """`params` with their templates filled in."""
        return rendered(params, self.scope, skip=skip)

    def value(self, template: str) -> Any:
        """A template's value; a secret stays a reference."""
        try:
            return render_value(template, self.scope)
        except TemplateError as error:
            raise StepFailed("template_failed", str(error)) from None

    def evaluate(self, expression: str) -> Any:
        """An expression's value."""
        try:
            return evaluate(compile_expression(expression), self.scope)
        except ExpressionError as error:
            raise StepFailed("expression_failed", str(error)) from None

    async def typed(self, template: str) -> str | Secret:
        """What a field is filled with: text, or a secret that is opened only now."""
        value = self.value(template)
        if not isinstance(value, SecretValue):
            return render_text(template, self.scope)
        return await (self._code(value.ref) if value.totp else self.desk.secret(value.ref))

    async def _code(self, ref: str) -> Secret:
        """A code that was never used before. Up to a window of time is waited for it, which is not the page's time."""
        while True:
            try:
                return await self.desk.totp_code(ref)
            except Temporary as used:
                self.until_ms += used.delay_seconds * 1000
                await self.clock.sleep(used.delay_seconds)

    async def page(self) -> Page:
        return await self.desk.page()

    async def aimed(self, target: Target, *, by_click: bool = False, plain_link: bool = False) -> Element:
        """What `target` means, found and proven when it is used; for a `once` step its name must be equal.

        What acts once must be able to act before that is announced: it is proven now, too, and `by_click` says that
        a click must land on it.
        """
        page, once = await self.page(), self.effect is Effect.ONCE
        element = page.element(Aim(target, exact_name=once, plain_link=plain_link))
        if once:
            await (element.ready(self.left_ms()) if by_click else element.prove(self.left_ms()))
        return element

    @asynccontextmanager
    async def listening(self, expect: Expect | None) -> AsyncIterator[None]:
        """Within it the page is listened to, when `expect` says something of answers or files. Begun before the act.

        What `watch` hears ends with it, too.
        """
        if expect is not None and (expect.response is not None or expect.download is not None):
            page = await self.page()
            self.heard = page.listen(answers=expect.response is not None, files=expect.download is not None)
        try:
            yield
        finally:
            for listener in (self.heard, self.watched):
                if listener is not None:
                    listener.stop()

    async def resolve(self, target: Target, *, for_act: bool = True, hidden: bool = False) -> Element:
        """As `aimed`, and proven now whatever the effect. `hidden`: one out of sight will do."""
        page = await self.page()
        exact = self.effect is Effect.ONCE
        return await resolve(page, target, self.clock, self.until_ms, for_act=for_act, exact_name=exact, hidden=hidden)

    async def expect(self, expect: Expect | None, own: Element | None = None) -> None:
        """Wait for the step's post-condition, if it has one."""
        if expect is None:
            return
        page, clock = await self.page(), self.clock
        try:
            if self.watched is None:
                await expect_page(page, expect, clock, self.until_ms, own=own, heard=self.heard)
            else:
                await self.watched.expect(partial(why_not, page, expect, clock, own, self.heard), self.until_ms, own)
        except StepFailed as failure:
            complaints = await page.complaints() if failure.code == "expect_failed" else []
            if not complaints:
                raise
            message = f"{failure.message}. The page says: {'; '.join(complaints)}"
            raise StepFailed(failure.code, message, failure.kind, aim=failure.aim) from None

    async def watch(self, rejected: Rejection | None) -> None:
        """Look for a refusal beside the post-condition. Called right before the act: what shows already is old."""
        if rejected is not None:
            self.watched = await watch(await self.page(), rejected, self.clock)

    async def keep(self, kind: str, content: bytes | AsyncIterator[bytes], name: str, mime_hint: str) -> StagedArtifact:
        """Stage an artifact of this step."""
        artifact = await self.desk.stage(self.path, len(self.artifacts), Kept(kind, content, name, mime_hint))
        self.artifacts.append(artifact)
        return artifact


def rendered(params: P, scope: Mapping[str, Any], *, skip: frozenset[str] = frozenset()) -> P:
    """`params` with their templates filled in from `scope`. `StepFailed("template_failed")`."""
    if b"{{" not in msgspec.json.encode(params):
        return params
    try:
        return visit.map_texts(params, lambda text: render_text(text, scope), skip=skip)
    except TemplateError as error:
        raise StepFailed("template_failed", str(error)) from None
