"""Where things lie in a data folder."""

from __future__ import annotations

from pathlib import Path

from embedded.settings import Settings


def test_profiles_lie_in_the_folder_unless_a_socket_below_would_have_too_long_a_path() -> None:
    assert Settings(Path("/srv/towpath")).scratch == Path("/srv/towpath/tmp")
    deep = Path("/srv") / ("towpath" * 10)
    assert len(str(Settings(deep).scratch)) <= 60
    assert Settings(deep).scratch != Settings(deep / "other").scratch
