"""What a person sees of a run, on a terminal and in a file."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tests.support.fake_api import SETTINGS, FakeApi, Naps, a_demo_script, an_id
from towpath import Client, watch
from towpath.progress_view import ProgressView, seconds_text


def _shown(console: Console, *, fails: bool = False) -> None:
    api = FakeApi()
    job = api.add_job("Collect orders", [api.add_workflow("Log in", type_="LOGIN"), api.add_workflow("Collect")])
    api.script = a_demo_script(api, api.add_job_run(job), fails=fails)
    naps = Naps()
    client = Client(SETTINGS, surroundings=naps.surroundings(), network=api.as_transport())
    with ProgressView(console, monotonic=client.surroundings.monotonic) as view:
        for progress in watch(client, an_id("job_run", 1)):
            view.show(progress)


def _plain(*, fails: bool = False) -> str:
    stream = io.StringIO()
    _shown(Console(file=stream, width=80), fails=fails)
    return stream.getvalue()


def test_every_step_gets_a_line_and_steps_in_a_loop_are_counted() -> None:
    lines = [" ".join(line.split()) for line in _plain().splitlines()]
    assert lines == [
        f"Collect orders run {an_id('job_run', 1)}",
        "1/2 Log in",
        "✓ open_shop_name 0.41 s",
        "✓ fill_name_name 0.02 s",
        "- consent_name skipped",
        f"? needs an answer: towpath input answer {an_id('input', 1)}",
        "✓ submit_name 1.20 s",
        "completed 1.63 s",
        "2/2 Collect",
        "✓ orders_name (4 steps inside) 4.00 s",
        "✓ download_csv_name (attempt 2) 12.5 s",
        "completed 17.7 s",
        "✓ Collect orders: completed in 19.3 s",
    ]


def test_a_failure_says_where_and_why() -> None:
    text = _plain(fails=True)
    assert "✗ pay_name" in text
    assert "step_failed: The button [Pay] did not appear within 5 s." in text
    assert text.rstrip().endswith("at step pay_name: step_failed: The button [Pay] did not appear within 5 s.")


def test_a_file_without_unicode_gets_plain_marks() -> None:
    raw = io.BytesIO()
    _shown(Console(file=io.TextIOWrapper(raw, encoding="ascii", write_through=True), width=80), fails=True)
    assert b"ok open_shop_name" in raw.getvalue()


@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    console = Console(file=io.StringIO(), width=width, record=True, force_terminal=True, force_interactive=False)
    _shown(console)
    rows = [line for line in console.export_text().splitlines() if "name" in line]
    assert rows
    assert max(len(row) for row in rows) <= width


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""), (-1, "0.00 s"), (0.416, "0.42 s"), (9.999, "10.0 s"), (59.97, "1 min 00 s"),
        (125.2, "2 min 05 s"), (3725, "1 h 02 min"),
    ],
)  # fmt: skip
def test_durations_read_well(seconds: float | None, text: str) -> None:
    assert seconds_text(seconds) == text
