"""What `doctor` says of the age of keys in files."""

from __future__ import annotations

from pathlib import Path

from api_gateway import key_ages
from api_gateway.doctor import DAY_MS, KEY_DAYS_MAX, Verdict
from api_gateway.key_ages import KeyFile, finding
from tests.support.reports import TestClock

SIGNING, PEPPER = KeyFile("signing keys", Path("s"), "exchange them"), KeyFile("pepper", Path("p"))
NOW_MS = 1000 * DAY_MS


def changed(days: float) -> float:
    return NOW_MS - days * DAY_MS


def test_a_key_older_than_a_year_comes_with_the_way_to_exchange_it() -> None:
    told = finding([SIGNING, PEPPER], {"signing keys": changed(KEY_DAYS_MAX + 1), "pepper": changed(1)}, NOW_MS)
    assert (told.verdict, told.advice) == (Verdict.WARNING, "exchange them")
    assert told.message == "not changed for more than a year: signing keys 366 days"


def test_a_key_that_is_never_exchanged_is_told_with_its_age_only() -> None:
    told = finding([SIGNING, PEPPER], {"signing keys": changed(0.5), "pepper": changed(900)}, NOW_MS)
    assert (told.verdict, told.message) == (Verdict.OK, "days since they were changed: signing keys 0, pepper 900")


def test_a_file_of_tomorrow_is_new() -> None:
    assert finding([SIGNING], {"signing keys": changed(-1)}, NOW_MS).message.endswith("signing keys 0")


async def test_a_file_that_cannot_be_looked_at_is_left_out(tmp_path: Path) -> None:
    name, key_files = key_ages.check([KeyFile("signing keys", tmp_path / "none", "exchange them")], TestClock())
    told = await key_files()
    assert (told.check, told.verdict, told.message) == (name, Verdict.OK, "days since they were changed: not known")
