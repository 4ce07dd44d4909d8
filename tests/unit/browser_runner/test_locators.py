"""Which element is meant, and whether it is still the right one; names, URL patterns and file names."""

from __future__ import annotations

import pytest

from browser_runner.conditions import url_matches
from browser_runner.files import clean_name
from browser_runner.locators import name_problem, why_not_usable
from browser_runner.ports import Aim, Hit
from kernel.steps.targets import Identity, Locator, Target


@pytest.mark.parametrize(
    ("identity", "name", "exact", "is_same"),
    [
        (Identity(role="button", name="Save"), "Save", True, True),
        (Identity(name="save  order"), "Save order", True, True),
        (Identity(name="Save"), "Save order", True, False),
        (Identity(name="Save"), "Save order", False, True),
        (Identity(name="Save order"), "Save", False, True),
        (Identity(name="Save"), "Delete", False, False),
        (Identity(name="Save"), "", False, False),
        (Identity(role="link"), "Save", False, False),
    ],
)
def test_an_element_must_have_the_name_that_its_identity_says(
    identity: Identity, name: str, exact: bool, is_same: bool
) -> None:
    assert (name_problem(identity, "button", name, exact_name=exact) is None) is is_same


SAVE = Target((Locator(role="button", name="Save"),))


@pytest.mark.parametrize(
    ("aim", "hit", "why"),
    [
        (Aim(SAVE), Hit(1, 1, 1, 1), ""),
        (Aim(SAVE), Hit(0, 0, 0, 0), "matches nothing"),
        (Aim(SAVE), Hit(2, 0, 0, 0), "matches 2, none of them visible"),
        (Aim(SAVE), Hit(2, 1, 0, 0), "matches 2, none of them enabled"),
        (Aim(SAVE), Hit(3, 3, 2, 2), "matches 2 that will do, not exactly one"),
        (
            Aim(Target(SAVE.locators, Identity(container="dialog"))),
            Hit(3, 3, 3, 0),
            "matches 3, none of them in a dialog",
        ),
        (Aim(SAVE, enabled=False), Hit(2, 2, 0, 2), "matches 2 that will do, not exactly one"),
    ],
)
def test_a_locator_that_does_not_choose_says_why(aim: Aim, hit: Hit, why: str) -> None:
    assert why_not_usable(aim, hit) == why


@pytest.mark.parametrize(
    ("pattern", "url", "matches"),
    [
        ("*/done", "https://a/done", True),
        ("https://a/?x=*", "https://a/?x=1", True),
        ("*/done", "https://a/done?", False),
    ],
)
def test_a_url_pattern_has_stars_and_nothing_else(pattern: str, url: str, matches: bool) -> None:
    assert url_matches(pattern, url) is matches


@pytest.mark.parametrize(
    ("given", "clean"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\x\\report.pdf", "report.pdf"),
        (".hidden", "hidden"),
        ("a\x00b\nc<>.csv", "a_b_c_.csv"),
        ("CON.txt", "_CON.txt"),
        ("", "download"),
        ("x" * 300 + ".csv", "x" * 116 + ".csv"),
    ],
)
def test_file_names_are_cleaned(given: str, clean: str) -> None:
    assert clean_name(given) == clean
