"""What steps point at and what they wait for: locators, targets, conditions of a page. Part of `stepsJson`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

Text = Annotated[str, Meta(max_length=8192)]
Short = Annotated[str, Meta(max_length=256)]
Count = Annotated[int, Meta(ge=0, le=1_000_000)]


class Shape(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """Ground of all shapes of the document: camel case outside, nothing unknown."""


class Locator(Shape, frozen=True):
    """One way to find an element; exactly one of `test_id`, `role`, `label`, `placeholder`, `alt`, `title`, `text`,
    `css` is set. Best first: test id; role with name; label and its siblings; text below a container; css that names
    a stable attribute; css that tells structure, below an anchor.
    """

    test_id: Short = ""
    test_id_attribute: Annotated[str, Meta(pattern=r"^([a-z][a-z0-9-]{0,62})?$")] = ""
    """Attribute that holds the test id, only beside `test_id`; empty: that of the document."""
    role: Short = ""
    name: Short = ""
    """Accessible name, only beside `role`."""
    label: Short = ""
    placeholder: Short = ""
    alt: Short = ""
    """Text that stands for a picture."""
    title: Short = ""
    text: Short = ""
    """To act on, only below the target's `within`."""
    css: Short = ""
    has_text: Short = ""
    """Beside any of them: text that the element holds somewhere, whatever the case. Finds a row or a card."""
    exact: bool = True
    """Whether names and texts must be equal (after normalising space) or only contained, whatever the case."""


ContainerKind = Literal[
    "article", "banner", "cell", "complementary", "contentinfo", "dialog", "form", "group", "list", "listitem", "main",
    "menu", "navigation", "region", "row", "search", "table", "tabpanel", "toolbar",
]  # fmt: skip


class Identity(Shape, frozen=True):
    """What the found element must be before it is touched; empty fields are not compared."""

    role: Short = ""
    name: Short = ""
    """Accessible name; for a `once` step it must be equal, for others one may contain the other."""
    tag: Short = ""
    type: Short = ""
    container: ContainerKind | None = None
    """Kind of the nearest landmark, dialog, form, row, list or table around it. Narrows several matches, too."""


class Target(Shape, frozen=True):
    """An element: ranked locators, what it must be, and words for people. All locators that match must agree."""

    locators: Annotated[tuple[Locator, ...], Meta(min_length=1, max_length=8)]
    identity: Identity | None = None
    within: Locator | None = None
    """Container that the locators are looked up in; must match exactly once."""
    frame: Short = ""
    """css of the `iframe` that holds it; empty for the page itself."""
    description: Short = ""


class CountIs(Shape, frozen=True):
    """How many elements a locator must find."""

    locator: Locator
    at_least: Count = 0
    at_most: Count | None = None


class ResponseIs(Shape, frozen=True):
    """An answer of the site that the page gets. It is listened for from right before the step acts."""

    url: Annotated[str, Meta(min_length=1, max_length=8192)]
    """Pattern of its address; `*` stands for anything."""
    status: Annotated[int, Meta(ge=100, le=599)] | None = None
    """None: any below 400."""
    method: Annotated[str, Meta(pattern=r"^[A-Z]{0,16}$")] = ""
    """Such as `POST`; empty: any."""


class DownloadIs(Shape, frozen=True):
    """A file that the page hands out. It is not kept; the step kind `download` keeps files."""

    name: Short = "*"
    """Pattern of the name that the site gives; `*` stands for anything."""


class Expect(Shape, frozen=True):
    """What must be true of the page; all that are given must hold. A URL pattern may hold `*`."""

    url: Text = ""
    appears: Target | None = None
    gone: Target | None = None
    text: Text = ""
    """Text that the page shows."""
    value: Text | None = None
    """Value of the step's own target."""
    count: CountIs | None = None
    response: ResponseIs | None = None
    """Answer that the step must have brought about."""
    download: DownloadIs | None = None
    """File that the step must have brought about."""


class Check(Expect, frozen=True):
    """Settles a `once` step of unknown outcome: when it holds, the step had happened. Looks only."""

    open: Text = ""
    """URL that is opened before looking; empty: the page of the last safe point."""
    timeout_ms: Annotated[int, Meta(ge=0, le=60_000)] = 5_000
