"""The pages of one attempt: a context that is opened when a step first needs it, entered where the walk resumes."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from browser_runner.arriving import arrive
from browser_runner.egress_proxy import EgressGrant
from browser_runner.kept_pages import KeptPages, close_context
from browser_runner.page_log import PageLog
from browser_runner.ports import Aim, BrowserLost, Context, Page, StepFailed
from browser_runner.services import Services
from kernel.domain.task import TaskAssigned
from kernel.domain.values import FailureKind
from kernel.errors import Temporary
from kernel.steps.targets import Locator, Target

URL_CHARS_MAX = 4096
"""A longer one is no address to come back to: it would make reports and journals too long for the log."""
_ENTER_MS = 30_000
TRACES_MAX = 3
"""Of one attempt: each context that was lost or left behind has its own."""
_PASSWORD = Aim(Target((Locator(css="input[type=password]"),)), enabled=False)
_LOGIN = Aim(
    Target(
        (
            Locator(css="input[type=password]:not([autocomplete=new-password])"),
            Locator(css="input:not([type=checkbox],[type=radio],[type=submit],[type=button]), textarea"),
        )
    ),
    enabled=False,
)
_LOGIN_FIELDS_MAX = 3


class PageDesk:
    """Used by one attempt only; `close` may be called at any time and again."""

    def __init__(self, services: Services, assigned: TaskAssigned) -> None:
        self._services = services
        self._assigned = assigned
        self._context: Context | None = None
        self._grant: EgressGrant | None = None
        self._enter_url = ""
        self._state: bytes | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._tokens: set[str] = set()
        self._traces: list[bytes] = []
        self._evidence_taken = False
        self.log = PageLog()
        """What the pages of all contexts said and asked for."""
        self.url_at_last_step = ""
        self._looked_at = ("", 0)

    @property
    def is_open(self) -> bool:
        """Whether there is a page."""
        return self._context is not None

    @property
    def current(self) -> Page | None:
        """The open page; None before a step has needed one."""
        return self._context.page if self._context is not None else None

    @property
    def has_place(self) -> bool:
        """Whether a page is open or would be entered where an earlier walk has come to."""
        return self.is_open or bool(self._enter_url)

    def enter_at(self, url: str, state: bytes | None) -> None:
        """Where, and with which login, the next context begins."""
        self._enter_url, self._state = url, state

    async def page(self) -> Page:
        """The run's page. `StepFailed("browser_unavailable")` when no browser starts, `BrowserLost`."""
        context = await self._open()
        return context.page

    async def second_page(self) -> Page:
        return await (await self._open()).new_page()

    async def _open(self) -> Context:
        if self._context is not None:
            return self._context
        browsers, egress = self._services.browsers, self._services.egress
        if browsers is None:
            raise StepFailed("browser_unavailable", "this runner has no browser")
        assigned = self._assigned
        if egress is not None and self._grant is None:
            hosts, since_ms = assigned.request.workflow.allowed_hosts, assigned.request.requested_ms
            self._grant = egress.grant(
                assigned.root_run_id, assigned.workflow_run_id, assigned.token, hosts, since_ms=since_ms
            )
        try:
            context = await browsers.open(assigned.request.organization_id, self._grant, self._state)
        except Temporary as error:
            raise StepFailed("browser_unavailable", error.message, FailureKind.TEMPORARY) from None
        try:
            await self._begin_evidence(context)
            await self._enter(context.page)
        except BaseException:
            # Whoever tries again must not find a page that stands elsewhere.
            await context.close()
            raise
        self._context = context
        self.url_at_last_step = context.page.url
        return context

    async def _begin_evidence(self, context: Context) -> None:
        clock, log = self._services.clock, self.log
        context.watch(lambda seen: log.add(clock.now_ms(), seen))
        if self._assigned.request.workflow.options.trace:
            with suppress(StepFailed):
                await context.begin_trace()

    async def _end_evidence(self, context: Context) -> None:
        """Take what is only to be had from an open context."""
        with suppress(StepFailed, BrowserLost, TimeoutError):
            if not self.log.is_empty or self._assigned.request.workflow.options.trace:
                self._tokens.update(await context.tokens())
            if len(self._traces) < TRACES_MAX and (trace := await context.end_trace()):
                self._traces.append(trace)

    async def evidence(self) -> tuple[set[str], list[bytes]]:
        """What stands for a login in the contexts of this attempt, and their traces; no more is recorded after this."""
        if self._context is not None and not self._evidence_taken:
            self._evidence_taken = True
            await self._end_evidence(self._context)
        return self._tokens, self._traces

    async def _enter(self, page: Page) -> None:
        if not self._enter_url:
            return
        landed = await arrive(page, self._services.clock, self._enter_url, _ENTER_MS)
        if landed.status >= 500:
            raise StepFailed("navigation_failed", f"{landed.url} answered {landed.status}", FailureKind.TEMPORARY)

    def safe_url(self) -> str:
        """The URL that a resume may enter again; empty without a page, outside of the web, too long, with a secret."""
        url = self._context.page.url if self._context is not None else ""
        if len(url) > URL_CHARS_MAX or not url.startswith(("http:", "https:")):
            return ""
        return url if self._services.live.scrub_text(url) == url else ""

    async def save_state(self, hosts: Sequence[str]) -> bytes:
        """Cookies and storage of the open context."""
        return await (await self._open()).save_state(hosts)

    async def picture(self) -> bytes | None:
        """The page as it is, or None when there is none or it cannot be had."""
        if self._context is None:
            return None
        try:
            return await self._context.page.picture(full_page=False, element=None, masks=())
        except (StepFailed, BrowserLost):
            return None

    async def asks_for_password(self) -> bool:
        """Whether the open page shows a password field."""
        if self._context is None:
            return False
        try:
            sight = await self._context.page.look(_PASSWORD)
        except (StepFailed, BrowserLost):
            return False
        return any(hit.visible for hit in sight.hits)

    async def has_become_login(self) -> bool:
        """Whether the open page is one that asks for a login, and little else. Looks once per document and address."""
        if self._context is None:
            return False
        page = self._context.page
        seen = (page.url, page.documents)
        if seen == self._looked_at:
            return False
        passwords, fields = (await page.look(_LOGIN)).hits
        if passwords.visible == 1 and fields.visible <= _LOGIN_FIELDS_MAX:
            return True
        self._looked_at = seen
        return False

    def hand_over(self, kept: KeptPages, seconds: float) -> None:
        """Leave the open page to `kept`; its way out ends with `close` all the same."""
        context, self._context = self._context, None
        if context is not None:
            kept.keep(context, seconds)

    def folder(self) -> Path:
        """A private folder for files that the page is given; it goes when the page is closed."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="towpath-", ignore_cleanup_errors=True)
        return Path(self._folder.name)

    async def close(self) -> None:
        """Close the context, end its way out, delete the files that it was given."""
        context, self._context = self._context, None
        if context is not None:
            try:
                if not self._evidence_taken:
                    await self._end_evidence(context)
            finally:
                await close_context(self._services.clock, context)
        folder, self._folder = self._folder, None
        if folder is not None:
            await asyncio.to_thread(folder.cleanup)
        grant, self._grant = self._grant, None
        if grant is not None and self._services.egress is not None:
            await self._services.egress.revoke(grant)
