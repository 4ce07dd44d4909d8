"""The folder of a local cluster and how slots are shared between its runners."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.layout import read_layout
from cluster.services import share
from kernel.errors import Rejected


def test_the_folder_is_another_one_than_that_of_the_embedded_form() -> None:
    assert read_layout({}).data == Path(".towpath-cluster").absolute()


def test_a_folder_of_the_embedded_form_is_refused(tmp_path: Path) -> None:
    (tmp_path / "towpath.sqlite").touch()
    with pytest.raises(Rejected, match="is a folder of `make run`; name another one"):
        read_layout({"TOWPATH_DATA": str(tmp_path)})


def test_two_of_each_service_run_unless_another_number_is_set() -> None:
    assert read_layout({}).copies == 2
    assert read_layout({"TOWPATH_COPIES": "1"}).copies == 1


@pytest.mark.parametrize("copies", ["0", "9", "two", "-1"])
def test_a_wrong_number_of_copies_is_named(copies: str) -> None:
    with pytest.raises(Rejected, match=f"TOWPATH_COPIES: '{copies}' is no number from 1 to 8"):
        read_layout({"TOWPATH_COPIES": copies})


@pytest.mark.parametrize("copies", [1, 2, 3])
@pytest.mark.parametrize("slots", [1, 2, 3, 64])
def test_runners_have_all_slots_between_them(slots: int, copies: int) -> None:
    shares = [share(slots, number, copies) for number in range(1, copies + 1)]
    assert sum(shares) == slots
    assert max(shares) - min(shares) in {0, 1}
