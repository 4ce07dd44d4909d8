"""How a process ends that cannot do its work."""

from __future__ import annotations

import pytest

from kernel.errors import LogRefused, LogUnavailable
from kernel.refusing import REFUSED_EXIT_CODE, UNREACHED_EXIT_CODE, run_plainly

REFUSED = LogRefused("the topic jobs is missing")


def ends(error: Exception) -> int:
    def run() -> int:
        raise error

    return run_plainly("toys", run)


def test_refusals_are_told_in_a_line_each_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    nested = ExceptionGroup("all", [REFUSED, ExceptionGroup("some", [LogRefused("the log is closed"), REFUSED])])
    assert ends(nested) == REFUSED_EXIT_CODE
    assert capsys.readouterr().err.splitlines() == [
        "towpath toys: the topic jobs is missing",
        "towpath toys: the log is closed",
    ]


def test_what_may_be_there_later_has_a_code_of_its_own() -> None:
    assert ends(LogUnavailable("no broker answers")) == UNREACHED_EXIT_CODE


def test_a_bug_goes_on_to_the_interpreter() -> None:
    with pytest.raises(KeyError):
        ends(KeyError("a bug"))
    with pytest.raises(ExceptionGroup):
        ends(ExceptionGroup("all", [KeyError("a bug")]))


def test_a_bug_beside_a_refusal_is_not_hidden_by_it_and_another_life_is_worth_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert ends(ExceptionGroup("all", [KeyError("a bug"), REFUSED])) == 1
    told = capsys.readouterr().err
    assert told.startswith("towpath toys: the topic jobs is missing\n")
    assert "KeyError: 'a bug'" in told
    assert "LogRefused" not in told
