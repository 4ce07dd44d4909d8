from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_gateway import api_key
from api_gateway.api_key import Brand, Environment
from api_gateway.principal import Level
from kernel.ids import SystemEntropy

PEPPER = b"pepper" * 6


@pytest.mark.parametrize("brand", list(Brand))
def test_a_key_has_the_form_that_scanners_know(brand: Brand) -> None:
    key = api_key.make_key(SystemEntropy(), Environment.TEST, brand)
    parts = key.text.split("_")
    assert [parts[0], parts[1]] == [brand, "test"]
    assert [len(part) for part in parts[2:]] == [8, 43, 6]
    assert api_key.public_id_of(key.text) == key.public_id == parts[2]
    assert key.text not in repr(key)


@given(st.integers(0, 70), st.characters(codec="ascii"))
def test_one_wrong_character_is_seen_before_any_row_is_read(place: int, character: str) -> None:
    text = api_key.make_key(SystemEntropy()).text
    changed = text[:place] + character + text[place + 1 :]
    assert (api_key.public_id_of(changed) is None) == (changed != text)


def test_only_the_very_key_matches() -> None:
    one, other = (api_key.make_key(SystemEntropy()).text for _ in range(2))
    stored = api_key.keyed_hash(PEPPER, one)
    assert api_key.matches(PEPPER, one, stored)
    assert not api_key.matches(PEPPER, other, stored)
    assert not api_key.matches(b"another pepper", one, stored)
    assert not api_key.matches(PEPPER, one, b"")


def test_each_level_covers_those_before_it_and_events_stands_apart_below_admin() -> None:
    covered = {(level, needed) for level in Level for needed in Level if level.covers(needed)}
    assert covered == {
        (Level.READ, Level.READ),
        (Level.WRITE, Level.READ), (Level.WRITE, Level.WRITE),
        (Level.ADMIN, Level.READ), (Level.ADMIN, Level.WRITE), (Level.ADMIN, Level.ADMIN),
        (Level.ADMIN, Level.EVENTS), (Level.EVENTS, Level.EVENTS),
    }  # fmt: skip
