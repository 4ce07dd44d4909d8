"""A web site and a browser made of plain objects: what a page holds, what a click does, and when the browser dies."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from browser_runner.egress_proxy import EgressGrant
from browser_runner.locators import name_problem
from browser_runner.page_log import Seen
from browser_runner.ports import (
    Aim,
    Answered,
    BrowserLost,
    Downloaded,
    Element,
    Facts,
    Heard,
    Hit,
    Landed,
    LoadState,
    Page,
    Place,
    Sight,
    StepFailed,
)
from kernel.domain.values import FailureKind
from kernel.steps.targets import Identity, Locator
from kernel.store.secret import Secret

HOST = "shop.example"


@dataclass
class Control:
    """One element of a page."""

    role: str = "button"
    name: str = ""
    tag: str = "button"
    type: str = ""
    href: str = ""
    visible: bool = True
    enabled: bool = True
    value: str = ""
    click: Callable[[ModelPage], None] | None = None


@dataclass
class Site:
    """Pages by path; `deeds` counts what was done to the site."""

    pages: dict[str, list[Control]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    deeds: Counter[str] = field(default_factory=Counter)
    typed: list[str] = field(default_factory=list)
    opened: int = 0
    closed: int = 0
    states: list[bytes | None] = field(default_factory=list)
    dies_at: list[str] = field(default_factory=list)
    """The browser dies when one of these deeds is asked for, each once, before it is done."""
    dies_after: list[str] = field(default_factory=list)
    """The same, right after it was done."""
    holds_at: dict[str, asyncio.Event] = field(default_factory=dict)

    async def do(self, deed: str, act: Callable[[], None] | None = None) -> None:
        if deed in self.dies_at:
            self.dies_at.remove(deed)
            raise BrowserLost("killed")
        if deed in self.holds_at:
            await self.holds_at[deed].wait()
        self.deeds[deed] += 1
        if act is not None:
            act()
        if deed in self.dies_after:
            self.dies_after.remove(deed)
            raise BrowserLost("killed")


class ModelElement:
    """What an aim means, found anew by each use as in a browser; what it was used on last is kept."""

    def __init__(self, page: ModelPage, aim: Aim) -> None:
        self._page = page
        self._aim = aim
        self._used: Control | None = None

    @property
    def facts(self) -> Facts:
        control = self._found()
        return Facts(control.tag, control.type, enabled=control.enabled)

    def _found(self) -> Control:
        code, told, control = self._page.meant(self._aim)
        if code or control is None:
            kind = FailureKind.TEMPORARY if code == "target_missing" else FailureKind.PERMANENT
            raise StepFailed(code, told, kind, aim=self._aim)
        return control

    def _use(self) -> Control:
        self._used = self._found()
        return self._used

    async def prove(self, timeout_ms: float) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_ms / 1000
        while self._page.meant(self._aim)[0] == "target_missing" and loop.time() < until:
            await self._page.changed(1)
        self._found()

    async def ready(self, timeout_ms: float) -> None:
        await self.prove(timeout_ms)

    async def host(self) -> str:
        return self._page.url.split("/")[2] if "//" in self._page.url else ""

    async def click(self, *, button: str, count: int, modifiers: Sequence[str], timeout_ms: float) -> None:
        control = self._use()

        def act() -> None:
            if control.href:
                self._page.url = control.href
            if control.click is not None:
                control.click(self._page)

        await self._page.site.do(f"click {control.name}", act)

    async def fill(self, value: str | Secret, timeout_ms: float) -> None:
        text = value.reveal_text() if isinstance(value, Secret) else value
        control = self._use()

        def act() -> None:
            control.value = text
            self._page.site.typed.append(text)

        await self._page.site.do(f"fill {control.name}", act)

    async def value(self) -> str:
        return self._used.value if self._used is not None else ""

    async def select(self, by: str, values: Sequence[str], timeout_ms: float) -> list[str]:
        await self._page.site.do(f"select {self._use().name}")
        return list(values)

    async def tick(self, *, checked: bool, timeout_ms: float) -> None:
        await self._page.site.do(f"{'tick' if checked else 'untick'} {self._use().name}")

    async def press(self, keys: str, timeout_ms: float) -> None:
        await self._page.site.do(f"press {keys}")

    async def put_files(self, files: Sequence[Path], timeout_ms: float) -> None:
        await self._page.site.do(f"put files {self._use().name}")

    async def drop_files(self, files: Sequence[Path], timeout_ms: float) -> None:
        await self._page.site.do(f"drop files {self._use().name}")


def _will_do(control: Control, aim: Aim) -> bool:
    return (control.visible or aim.hidden) and (control.enabled or not aim.enabled)


def _hit(controls: list[Control]) -> Hit:
    visible = [control for control in controls if control.visible]
    return Hit(len(controls), len(visible), sum(c.enabled for c in visible), len(visible))


class ModelHeard:
    """A model hears nothing."""

    answers: Sequence[Answered] = ()
    files: Sequence[str] = ()

    def stop(self) -> None:
        return


class ModelPage:
    """A page of the site."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.documents = 0
        self._url = "about:blank"

    @property
    def url(self) -> str:
        return self._url

    @url.setter
    def url(self, url: str) -> None:
        self._url = url
        self.documents += 1

    @property
    def _path(self) -> str:
        return "/" + self.url.split("/", 3)[3] if self.url.count("/") >= 3 else ""

    async def goto(self, url: str, wait: LoadState, timeout_ms: float) -> Landed:
        self.url = url
        await self.site.do(f"goto {self._path}")
        if self._path not in self.site.pages:
            raise StepFailed("navigation_failed", "no such page", FailureKind.TEMPORARY)
        return Landed(url, self.site.statuses.get(self._path, 200))

    def _controls(self, locator: Locator) -> list[Control]:
        wanted = locator.name or locator.label or locator.text
        return [
            control
            for control in self.site.pages.get(self._path, [])
            if (not locator.role or control.role == locator.role)
            and (not wanted or control.name == wanted)
            and (not locator.css or locator.css == f"#{control.name}" or control.type in locator.css.split("=")[-1:][0])
            and not (locator.css and not control.type and locator.css != f"#{control.name}")
        ]

    def meant(self, aim: Aim) -> tuple[str, str, Control | None]:
        """As the engine of a browser decides: code, what is different, the control."""
        found = [self._controls(locator) for locator in aim.target.locators]
        usable = [
            [c for c in controls if (c.visible or aim.hidden) and (c.enabled or not aim.enabled)] for controls in found
        ]
        meant = {id(controls[0]): controls[0] for controls in usable if len(controls) == 1}
        if len(meant) != 1:
            return "target_conflict" if meant else "target_missing", "", None
        control = next(iter(meant.values()))
        identity = aim.target.identity or Identity()
        told = name_problem(identity, control.role, control.name, exact_name=aim.exact_name)
        if aim.plain_link and (control.tag != "a" or not control.href.startswith("http")):
            told = "it is no plain link, so a click on it may do more than view a page"
        return ("target_changed", told, None) if told else ("", "", control)

    async def title(self) -> str:
        return "title"

    def element(self, aim: Aim) -> Element:
        return ModelElement(self, aim)

    async def look(self, aim: Aim, *, texts: bool = False, cover: bool = False) -> Sight:
        found = [self._controls(locator) for locator in aim.target.locators]
        code, told, _ = self.meant(aim)
        shown = tuple(c.name for controls in found for c in controls if c.visible)
        return Sight(code, told or "", tuple(_hit(controls) for controls in found), texts=shown if texts else ())

    def listen(self, *, answers: bool, files: bool) -> Heard:
        return ModelHeard()

    async def place(self) -> Place:
        return Place(self.site.statuses.get(self._path, 200))

    def console_errors(self) -> Sequence[str]:
        return ()

    async def count(self, locator: Locator, *, within: Locator | None = None, frame: str = "") -> int:
        return len(self._controls(locator))

    async def changed(self, timeout_ms: float) -> None:
        await asyncio.sleep(0.001)

    async def shows_text(self, text: str) -> bool:
        return text in self.site.texts.get(self._path, "")

    async def complaints(self) -> list[str]:
        return []

    async def press(self, keys: str) -> None:
        await self.site.do(f"press {keys}")

    async def rows(
        self, rows: Locator, fields: dict[str, tuple[Locator | None, str]], *, within: Locator | None, frame: str
    ) -> list[dict[str, str | None]]:
        await self.site.do(f"rows {self._path}")
        return [dict.fromkeys(fields, control.name) for control in self._controls(rows)]

    async def table(self, element: Element) -> tuple[list[str], list[list[str]]]:
        return ["Number"], [["1"], ["2"]]

    async def aria(self, element: Element | None) -> str:
        controls = self.site.pages.get(self._path, [])
        return "\n".join(f'- {control.role} "{control.name}"' for control in controls)

    async def scroll(self, element: Element | None, to: str, settle_ms: float) -> bool:
        await self.site.do(f"scroll {to}")
        return False

    async def picture(self, *, full_page: bool, element: Element | None, masks: Sequence[Locator]) -> bytes:
        return b"\xff\xd8\xff\xe0picture"

    async def download_by(self, element: Element, count: int, bytes_max: int, timeout_ms: float) -> list[Downloaded]:
        raise StepFailed("download_failed", "a model has no files")

    async def downloads(self, count: int, bytes_max: int, timeout_ms: float) -> list[Downloaded]:
        raise StepFailed("download_failed", "a model has no files")

    async def download_url(self, url: str, bytes_max: int, timeout_ms: float) -> Downloaded:
        raise StepFailed("download_failed", "a model has no files")

    async def outline_hash(self) -> str:
        return self.url

    async def close(self) -> None:
        return


class ModelContext:
    """One run's context."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._page = ModelPage(site)
        self._closed = False

    @property
    def page(self) -> Page:
        return self._page

    async def new_page(self) -> Page:
        return ModelPage(self._site)

    def watch(self, told: Callable[[Seen], None]) -> None:
        self.told = told

    async def begin_trace(self) -> None:
        return

    async def end_trace(self) -> bytes:
        return b""

    async def tokens(self) -> list[str]:
        return []

    async def save_state(self, hosts: Sequence[str]) -> bytes:
        return b"state of " + ",".join(hosts).encode()

    async def close(self) -> None:
        self._site.closed += not self._closed
        self._closed = True


class ModelBrowsers:
    """A pool that never runs dry."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def open(self, tenant: str, grant: EgressGrant | None, state: bytes | None) -> ModelContext:
        self._site.opened += 1
        self._site.states.append(state)
        return ModelContext(self._site)

    async def close(self) -> None:
        return
