"""What the runner needs from others: a browser, the fence, a way out. Only `browser/` knows Playwright.

Everything that a page can do wrong is raised as `StepFailed`, except the loss of the browser itself: `BrowserLost`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from browser_runner.egress_proxy import EgressGrant
from browser_runner.page_log import Seen
from kernel.domain.values import FailureKind, Token
from kernel.errors import TowpathError
from kernel.steps.targets import Locator, Target
from kernel.store.secret import Secret

if TYPE_CHECKING:
    from browser_runner.diagnosis import Diagnosis


class StepFailed(TowpathError):
    """A step did not do what it should; `code` is stable, `message` is for people and holds no secret.

    `aim` is what it was about to use when that is where it failed; `diagnosis` comes when it is final.
    """

    def __init__(
        self,
        code: str,
        message: str,
        kind: FailureKind = FailureKind.PERMANENT,
        *,
        aim: Aim | None = None,
        diagnosis: Diagnosis | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.kind = kind
        self.aim = aim
        self.diagnosis = diagnosis


class BrowserLost(TowpathError):
    """The browser, or the context of this run, is gone; what it was asked for may or may not have happened."""


# ---------------------------------------------------------------- browser


@dataclass(frozen=True, slots=True)
class Aim:
    """A target and what must be true of the element that it means before it is used."""

    target: Target
    enabled: bool = True
    """Enabled, as for an act; False: to look at."""
    hidden: bool = False
    """One that is out of sight counts, too."""
    exact_name: bool = False
    """Its name is what the identity says, whatever the case; False: one may contain the other."""
    plain_link: bool = False
    """It is an `a` to an address of the web, and no attribute says that a click does more than follow it."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What an element says about itself."""

    tag: str
    type: str = ""
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Hit:
    """How many elements one locator found: at all, visible ones, visible and enabled ones, ones that will do."""

    matches: int
    visible: int
    enabled: int
    usable: int


@dataclass(frozen=True, slots=True)
class Sight:
    """What a target finds at one moment."""

    code: str = ""
    """`target_missing`, `target_conflict`, `target_changed`; empty: exactly one element is meant, and it is right."""
    told: str = ""
    """What is different, for `target_changed`."""
    hits: tuple[Hit, ...] = ()
    """In the order of the target's locators; empty when its frame is not there."""
    containers: int = 0
    """How many elements the target's `within` has found."""
    covered: str = ""
    """What a click would hit instead; only when it was asked for."""
    texts: tuple[str, ...] = ()
    """What the visible ones say; only when it was asked for."""
    facts: Facts | None = None
    """Of the one that is meant."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page stands."""

    status: int = 0
    """HTTP status of its document; 0 when there was none."""
    dialog: str = ""
    """What an open dialog says; empty when none is open."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer that a page got."""

    url: str
    status: int
    method: str


class Heard(Protocol):
    """What a page got since listening began."""

    @property
    def answers(self) -> Sequence[Answered]: ...

    @property
    def files(self) -> Sequence[str]:
        """Names of the files that the page has handed out."""
        ...

    def stop(self) -> None:
        """Listen no more. Idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class Landed:
    """Where a navigation ended."""

    url: str
    status: int
    """0 when the page came without an HTTP answer."""


@dataclass(frozen=True, slots=True)
class Downloaded:
    """One file on the runner's disk; whoever asked for it deletes `path`."""

    path: Path
    suggested_name: str
    url: str
    size: int
    declared_type: str = ""
    """Media type that the sender names; empty when it is not known."""


class LoadState(StrEnum):
    """How far a page must have come."""

    COMMIT = "commit"
    DOMCONTENTLOADED = "domcontentloaded"
    LOAD = "load"


class Element(Protocol):
    """The element that an aim means, found and proven anew by each use and in one go with it.

    What uses it waits for it. `StepFailed`: `target_missing`, `target_covered` (temporary), `target_conflict`,
    `target_changed`; nothing was touched then.
    """

    @property
    def facts(self) -> Facts:
        """Only after `prove` or `ready`."""
        ...

    async def prove(self, timeout_ms: float) -> None:
        """Wait until it is there and right. Touches nothing."""
        ...

    async def ready(self, timeout_ms: float) -> None:
        """As `prove`, and until a click would land on it. Scrolls it into view, touches nothing."""
        ...

    async def host(self) -> str:
        """Host of the document that holds it, empty when it has none; it is used in that document only from now on."""
        ...

    async def click(self, *, button: str, count: int, modifiers: Sequence[str], timeout_ms: float) -> None: ...

    async def fill(self, value: str | Secret, timeout_ms: float) -> None:
        """Replace its content; a field that received a secret is masked in pictures until the page navigates."""
        ...

    async def value(self) -> str:
        """Content of a field."""
        ...

    async def select(self, by: str, values: Sequence[str], timeout_ms: float) -> list[str]:
        """Choose options by `label`, `value` or `index`; returns the labels chosen."""
        ...

    async def tick(self, *, checked: bool, timeout_ms: float) -> None:
        """Bring it into a state and prove that it is there; does nothing when it is."""
        ...

    async def press(self, keys: str, timeout_ms: float) -> None: ...

    async def put_files(self, files: Sequence[Path], timeout_ms: float) -> None:
        """Make these the files of a file input. The page may read them until it is closed."""
        ...

    async def drop_files(self, files: Sequence[Path], timeout_ms: float) -> None:
        """Drop files on it, as a person would from the desktop. `StepFailed("drop_refused")` when it takes none."""
        ...


class Page(Protocol):
    """One page (tab) of a run."""

    @property
    def url(self) -> str: ...

    @property
    def documents(self) -> int:
        """How many documents it has loaded; grows with each."""
        ...

    async def goto(self, url: str, wait: LoadState, timeout_ms: float) -> Landed:
        """Open a URL. `StepFailed`: `navigation_blocked`, `navigation_failed` (temporary)."""
        ...

    async def title(self) -> str:
        """Title of its document."""
        ...

    def element(self, aim: Aim) -> Element:
        """What `aim` means. Asks nothing of the page yet."""
        ...

    async def look(self, aim: Aim, *, texts: bool = False, cover: bool = False) -> Sight:
        """What `aim` finds now. Never waits; `cover` scrolls it into view."""
        ...

    def listen(self, *, answers: bool, files: bool) -> Heard:
        """Hear what the page gets from now on; whoever asked stops it."""
        ...

    async def place(self) -> Place:
        """Where it stands, as well as it can be told."""
        ...

    def console_errors(self) -> Sequence[str]:
        """The last errors that no script of the page has caught, oldest first, at most ten."""
        ...

    async def count(self, locator: Locator, *, within: Locator | None = None, frame: str = "") -> int:
        """How many match now."""
        ...

    async def changed(self, timeout_ms: float) -> None:
        """Return when the document has changed since the last look, or after `timeout_ms`."""
        ...

    async def shows_text(self, text: str) -> bool:
        """Whether some visible element holds `text`."""
        ...

    async def complaints(self) -> list[str]:
        """What the page itself finds wrong, in its own words: a few short texts. Never waits, never fails."""
        ...

    async def press(self, keys: str) -> None:
        """Keys to whatever has the focus."""
        ...

    async def rows(
        self, rows: Locator, fields: dict[str, tuple[Locator | None, str]], *, within: Locator | None, frame: str
    ) -> list[dict[str, str | None]]:
        """Per row the text (or the attribute named second) of each field; None where it is missing."""
        ...

    async def table(self, element: Element) -> tuple[list[str], list[list[str]]]:
        """Header texts and cell texts of an HTML table or grid."""
        ...

    async def aria(self, element: Element | None) -> str:
        """What a screen reader is told of `element`, or of the whole page, as an aria snapshot."""
        ...

    async def scroll(self, element: Element | None, to: Literal["end", "on"], settle_ms: float) -> bool:
        """Scroll `element` (or the page) to its end, or on by most of what is in view; False when it did not move.

        Returns when the document has changed after that, or after `settle_ms`.
        """
        ...

    async def picture(self, *, full_page: bool, element: Element | None, masks: Sequence[Locator]) -> bytes:
        """A JPEG; fields that received a secret are masked."""
        ...

    async def download_by(self, element: Element, count: int, bytes_max: int, timeout_ms: float) -> list[Downloaded]:
        """Click `element` and wait for `count` files. `StepFailed`: `download_failed`, `download_too_large`."""
        ...

    async def downloads(self, count: int, bytes_max: int, timeout_ms: float) -> list[Downloaded]:
        """Wait for `count` files that the pages of the run start by themselves; some may have come already."""
        ...

    async def download_url(self, url: str, bytes_max: int, timeout_ms: float) -> Downloaded:
        """Fetch a URL with the cookies of this run."""
        ...

    async def outline_hash(self) -> str:
        """Changes when what the page shows changes."""
        ...

    async def close(self) -> None: ...


class Context(Protocol):
    """The browser context of one run: cookies, storage, pages. Gone with everything in it after `close`."""

    @property
    def page(self) -> Page:
        """The run's page: the newest one that the site has opened."""
        ...

    async def new_page(self) -> Page:
        """A second page that never becomes `page`."""
        ...

    def watch(self, told: Callable[[Seen], None]) -> None:
        """Tell of what the pages say and ask for, from now on."""
        ...

    async def begin_trace(self) -> None:
        """Record what is done and what the pages look like, without pictures, until `end_trace`."""
        ...

    async def end_trace(self) -> bytes:
        """The recording as a zip that still holds secrets; empty when there is none or it is too large.

        `TimeoutError` when the browser does not give it.
        """
        ...

    async def tokens(self) -> list[str]:
        """What stands for a login in this context, the values of cookies: they are taken out of whatever is kept.

        `TimeoutError` when the browser does not say.
        """
        ...

    async def save_state(self, hosts: Sequence[str]) -> bytes:
        """Cookies, local storage, IndexedDB and session storage of `hosts`."""
        ...

    async def close(self) -> None:
        """Idempotent; raises nothing. A dying browser may make it hang."""
        ...


class BrowserPool(Protocol):
    """Warm browsers, one per slot; a browser process serves one tenant."""

    async def open(self, tenant: str, grant: EgressGrant | None, state: bytes | None) -> Context:
        """A fresh context on a live browser, with a saved login if there is one. `Temporary` when none starts."""
        ...

    async def close(self) -> None: ...


# ---------------------------------------------------------------- fence, way out


class Fence(Protocol):
    """What the runner asks the fence (design 6.6)."""

    def watch(self, root_run_id: str, token: Token, *, from_offset: int = 0, since_ms: int = 0) -> None: ...

    def forget(self, root_run_id: str, token: Token) -> None: ...

    async def read_back(self, root_run_id: str, token: Token, position: int) -> bool:
        """Read up to `position`; True when no lapse or settling of `token` stands before it."""
        ...


class Egress(Protocol):
    """Hands out the way out of one attempt; `browser_runner.egress_proxy.EgressProxy` is one."""

    def grant(
        self, root_run_id: str, workflow_run_id: str, token: Token, allowed_hosts: Sequence[str], *, since_ms: int = 0
    ) -> EgressGrant:
        """Credentials that reach `allowed_hosts` for as long as the fence is open to `token`."""
        ...

    async def revoke(self, grant: EgressGrant) -> object:
        """The attempt is over: cut what still runs. Idempotent."""
        ...
