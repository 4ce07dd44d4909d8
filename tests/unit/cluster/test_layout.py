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


@pytest.mark.parametrize("slots", [1, 2, 3, 64])
def test_runners_have_all_slots_between_them(slots: int) -> None:
    assert sum(share(slots, number) for number in (1, 2)) == slots
    assert share(slots, 1) - share(slots, 2) in {0, 1}
