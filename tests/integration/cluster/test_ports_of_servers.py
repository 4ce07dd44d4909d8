"""Ports are chosen long before servers listen there: nobody may be given one that waits for another."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from cluster.components.process import free_port, kept_port


def test_no_port_is_chosen_twice_though_nobody_listens_there_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = kept_port(tmp_path / "kept")
    drawn = iter([kept - 20_000, kept - 20_000])
    chance = secrets.randbelow
    monkeypatch.setattr(secrets, "randbelow", lambda below: next(drawn, None) or chance(below))
    other = free_port()
    assert other != kept
    assert list(drawn) == [], "the kept port was drawn, and not taken"
    assert kept_port(tmp_path / "kept") == kept
