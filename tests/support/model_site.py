"""A web site and a browser made of plain objects: what a page holds, what a click does, and when the browser dies."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from browser_runner.egress_proxy import EgressGrant
from browser_runner.ports import BrowserLost, Downloaded, Element, Facts, Landed, LoadState, Page, StepFailed
from kernel.domain.values import FailureKind
from kernel.steps.targets import Locator
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
    """A control as it was found."""

    def __init__(self, page: ModelPage, control: Control) -> None:
        self._page = page
        self._control = control

    @property
    def facts(self) -> Facts:
        control = self._control
        return Facts(
            id(control), control.tag, control.type, visible=control.visible, enabled=control.enabled, href=control.href
        )

    async def role_and_name(self) -> tuple[str, str]:
        return self._control.role, self._control.name

    async def host(self) -> str:
        return self._page.url.split("/")[2] if "//" in self._page.url else ""

    async def ready(self, timeout_ms: float) -> None:
        return

    async def click(self, *, button: str, count: int, modifiers: Sequence[str], timeout_ms: float) -> None:
        control = self._control

        def act() -> None:
            if control.href:
                self._page.url = control.href
            if control.click is not None:
                control.click(self._page)

        await self._page.site.do(f"click {control.name}", act)

    async def fill(self, value: str | Secret, timeout_ms: float) -> None:
        text = value.reveal_text() if isinstance(value, Secret) else value

        def act() -> None:
            self._control.value = text
            self._page.site.typed.append(text)

        await self._page.site.do(f"fill {self._control.name}", act)

    async def value(self) -> str:
        return self._control.value

    async def select(self, by: str, values: Sequence[str], timeout_ms: float) -> list[str]:
        await self._page.site.do(f"select {self._control.name}")
        return list(values)

    async def tick(self, *, checked: bool, timeout_ms: float) -> None:
        await self._page.site.do(f"{'tick' if checked else 'untick'} {self._control.name}")

    async def press(self, keys: str, timeout_ms: float) -> None:
        await self._page.site.do(f"press {keys}")

    async def put_files(self, files: Sequence[Path], timeout_ms: float) -> None:
        await self._page.site.do(f"put files {self._control.name}")

    async def drop_files(self, files: Sequence[Path], timeout_ms: float) -> None:
        await self._page.site.do(f"drop files {self._control.name}")


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
        return Landed(url, self.site.statuses.get(self._path, 200), "title")

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

    async def find(self, locator: Locator, *, within: Locator | None = None, frame: str = "") -> list[Element]:
        return [ModelElement(self, control) for control in self._controls(locator)]

    async def count(self, locator: Locator, *, within: Locator | None = None, frame: str = "") -> int:
        return len(self._controls(locator))

    async def changed(self, timeout_ms: float) -> None:
        await asyncio.sleep(0.001)

    async def shows_text(self, text: str) -> bool:
        return text in self.site.texts.get(self._path, "")

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

    async def download_url(self, url: str, bytes_max: int, timeout_ms: float) -> Downloaded:
        raise StepFailed("download_failed", "a model has no files")

    async def outline_hash(self) -> str:
        return self.url

    async def outline(self) -> list[str]:
        return [f"{control.role} {control.name}" for control in self.site.pages.get(self._path, [])]

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
