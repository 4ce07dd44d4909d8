"""Which element is meant, and whether it is still the right one; names, URL patterns and file names."""

from __future__ import annotations

import pytest

from browser_runner.conditions import url_matches
from browser_runner.files import clean_name
from browser_runner.locators import Hit, Verdict, identity_problem, judge
from browser_runner.ports import Facts
from kernel.steps.targets import Identity, Locator

ANY = Locator(css="x")


def hit(*usable: int) -> Hit:
    return Hit(ANY, len(usable), usable)


@pytest.mark.parametrize(
    ("hits", "verdict"),
    [
        ([hit(1)], Verdict(1)),
        ([hit(1, 2), hit(2)], Verdict(2)),
        ([hit(), hit(3)], Verdict(3)),
        ([hit(1), hit(1)], Verdict(1)),
        ([hit(1), hit(2)], Verdict(None, conflict=True)),
        ([hit(1, 2)], Verdict(None)),
        ([], Verdict(None)),
    ],
)
def test_exactly_one_match_counts_and_locators_must_agree(hits: list[Hit], verdict: Verdict) -> None:
    assert judge(hits) == verdict


@pytest.mark.parametrize(
    ("identity", "name", "exact", "is_same"),
    [
        (Identity(role="button", name="Save"), "Save", True, True),
        (Identity(name="save  order"), "Save order", True, True),
        (Identity(name="Save"), "Save order", True, False),
        (Identity(name="Save"), "Save order", False, True),
        (Identity(name="Save"), "Delete", False, False),
        (Identity(name="Save"), "", False, False),
        (Identity(role="link"), "Save", False, False),
        (Identity(tag="A"), "Save", False, False),
        (Identity(tag="BUTTON", type="submit"), "Save", False, True),
        (Identity(type="reset"), "Save", False, False),
    ],
)
def test_an_element_must_be_what_its_identity_says(identity: Identity, name: str, exact: bool, is_same: bool) -> None:
    facts = Facts(1, "button", "submit")
    assert (identity_problem(identity, facts, "button", name, exact_name=exact) is None) is is_same


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
