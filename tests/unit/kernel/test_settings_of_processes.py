"""Settings of a process: every kind of value from its variable, what is wrong named, nothing of a secret said."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import pytest

from kernel.errors import Permanent
from kernel.settings import Form, Within, read_settings, text_or_file


@dataclass(frozen=True, slots=True)
class _Hosts:
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Settings:
    folder: Path
    pepper: bytes = field(default=b"", repr=False)
    name: str = "towpath"
    slots: Annotated[int, Within(0, 500)] = 4
    seconds: float = 1.5
    loud: bool = False
    certificate: Path | None = None
    hosts: _Hosts = _Hosts(())


FORMS = {_Hosts: Form(lambda text: _Hosts(tuple(text.split(","))))}


def read(**variables: str) -> _Settings:
    return read_settings(_Settings, "X_", {"X_FOLDER": "/data", **variables}, FORMS)


def test_what_is_not_set_or_empty_has_its_default() -> None:
    assert read(X_NAME="", OTHER="1") == _Settings(Path("/data"))


def test_every_kind_of_value_is_read(tmp_path: Path) -> None:
    (tmp_path / "pepper").write_text("00ff\n")
    given = read(
        X_PEPPER_FILE=str(tmp_path / "pepper"), X_NAME="n", X_SLOTS="7", X_SECONDS="0.5", X_LOUD="true",
        X_CERTIFICATE="/c", X_HOSTS="a,b",
    )  # fmt: skip
    assert given == _Settings(Path("/data"), b"\x00\xff", "n", 7, 0.5, True, Path("/c"), _Hosts(("a", "b")))


def test_a_missing_setting_is_named() -> None:
    with pytest.raises(Permanent, match="set X_FOLDER") as refused:
        read_settings(_Settings, "X_", {}, FORMS)
    assert refused.value.code == "setting_missing"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("X_SLOTS", "many", "X_SLOTS is no whole number"),
        ("X_SLOTS", "501", "X_SLOTS is from 0 to 500"),
        ("X_SECONDS", "1h", "X_SECONDS is no number"),
        ("X_LOUD", "maybe", "X_LOUD is true or false"),
        ("X_PEPPER_FILE", "/no/such/file", "X_PEPPER_FILE: /no/such/file cannot be read: No such file"),
    ],
)
def test_a_malformed_setting_is_named(name: str, value: str, said: str) -> None:
    with pytest.raises(Permanent, match=said) as refused:
        read(**{name: value})
    assert refused.value.code == "setting_malformed"


@pytest.mark.parametrize("content", ["correct horse", ""])
def test_what_stands_in_the_file_of_a_secret_is_never_said(tmp_path: Path, content: str) -> None:
    (tmp_path / "pepper").write_text(content)
    with pytest.raises(Permanent, match="X_PEPPER_FILE") as refused:
        read(X_PEPPER_FILE=str(tmp_path / "pepper"))
    assert "horse" not in str(refused.value)


def test_a_text_may_stand_in_the_variable_or_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgresql://a\n")
    assert text_or_file("URL", {}) == ""
    assert text_or_file("URL", {"URL": "postgresql://b"}) == "postgresql://b"
    assert text_or_file("URL", {"URL": "x", "URL_FILE": str(tmp_path / "url")}) == "postgresql://a"
