"""The keyring file: made once, private, refused when anything about it is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from artifact_store.vault.keyring import add_kek, drop_kek, open_keyring
from kernel.errors import Permanent, SecretUnavailable
from kernel.ids import SystemEntropy

CHANCE = SystemEntropy()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "keyring.json"


def test_the_first_start_makes_a_private_file_and_later_ones_read_it(path: Path) -> None:
    made = open_keyring(path, CHANCE, create=True)
    assert path.stat().st_mode & 0o777 == 0o600
    again = open_keyring(path, CHANCE, create=True)
    assert (again.active_id, again.lookup_key) == (made.active_id, made.lookup_key)
    assert [entry.name for entry in path.parent.iterdir()] == ["keyring.json"]


def test_without_leave_to_make_it_a_missing_file_is_refused(path: Path) -> None:
    with pytest.raises(Permanent, match="keyring_missing"):
        open_keyring(path, CHANCE, create=False)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o777])
def test_a_file_that_others_may_read_is_refused(path: Path, mode: int) -> None:
    open_keyring(path, CHANCE, create=True)
    path.chmod(mode)
    with pytest.raises(Permanent, match="keyring_exposed"):
        open_keyring(path, CHANCE, create=True)


@pytest.mark.parametrize(
    "change",
    [
        {"active": "kek_unknown"},
        {"lookup": "AAAA"},
        {"keks": {}},
        {"extra": 1},
    ],
)
def test_a_damaged_file_is_refused_without_quoting_it(path: Path, change: dict[str, object]) -> None:
    open_keyring(path, CHANCE, create=True)
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **change}))
    with pytest.raises(Permanent, match="keyring_damaged") as refusal:
        open_keyring(path, CHANCE, create=True)
    assert content["lookup"] not in str(refusal.value)


def test_a_key_is_added_as_the_active_one_and_an_old_one_dropped(path: Path) -> None:
    old_id = open_keyring(path, CHANCE, create=True).active_id
    both = add_kek(path, CHANCE)
    assert both.kek_ids == {old_id, both.active_id}
    assert both.active_id != old_id
    with pytest.raises(Permanent, match="keyring_in_use"):
        drop_kek(path, both.active_id)
    one = drop_kek(path, old_id)
    with pytest.raises(SecretUnavailable):
        one.kek(old_id)


def test_a_printed_keyring_shows_no_key(path: Path) -> None:
    shown = repr(open_keyring(path, CHANCE, create=True))
    content = json.loads(path.read_text())
    assert content["active"] in shown
    assert content["lookup"] not in shown
    assert "lookup" not in shown
