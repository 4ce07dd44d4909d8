"""Dataclasses that are made quickly are what they would be otherwise."""

from __future__ import annotations

import dataclasses
from dataclasses import FrozenInstanceError, dataclass, field

import pytest

from kernel.building import quickly_made, replace


@quickly_made
@dataclass(frozen=True, slots=True)
class Quick:
    """A required field, a default, a factory."""

    name: str
    count: int = 3
    parts: dict[str, int] = field(default_factory=dict)


def test_a_quickly_made_one_has_the_fields_and_defaults_of_its_class() -> None:
    made = Quick("a")
    assert (made.name, made.count, made.parts) == ("a", 3, {})
    assert made.parts is not Quick("a").parts
    assert type(made) is Quick
    assert made == Quick(name="a", count=3, parts={})
    assert dataclasses.replace(made, count=4) == Quick("a", 4)
    assert repr(made) == "Quick(name='a', count=3, parts={})"


def test_a_changed_one_differs_in_what_was_named_and_the_former_stays() -> None:
    made = Quick("a", 2, {"x": 1})
    for _ in range(2):  # made on the first use, then remembered
        changed = replace(made, count=5, name="b")
        assert changed == Quick("b", 5, {"x": 1})
        assert (type(changed), changed.parts is made.parts) == (Quick, True)
    assert replace(made) == made == Quick("a", 2, {"x": 1})
    with pytest.raises(FrozenInstanceError):
        changed.name = "c"  # type: ignore[misc]
    with pytest.raises(TypeError, match="Quick has no colour"):
        replace(made, colour=1)  # type: ignore[call-arg]


def test_it_is_frozen_once_it_is_made() -> None:
    with pytest.raises(FrozenInstanceError):
        Quick("a").name = "b"  # type: ignore[misc]


def test_a_wrong_argument_is_refused() -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'name'"):
        Quick()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        Quick("a", colour=1)  # type: ignore[call-arg]


def test_a_class_that_checks_itself_is_refused() -> None:
    @dataclass(frozen=True, slots=True)
    class Checked:
        name: str

        def __post_init__(self) -> None:
            raise ValueError(self.name)

    with pytest.raises(TypeError, match="Checked checks itself"):
        quickly_made(Checked)


def test_a_class_with_arguments_of_another_kind_is_refused() -> None:
    @dataclass(frozen=True, slots=True)
    class Other:
        name: str = field(init=False)

    with pytest.raises(TypeError, match="name is not taken as it stands"):
        quickly_made(Other)
