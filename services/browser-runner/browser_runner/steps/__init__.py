"""The step kinds that act or look, one file each, and the table that names them. Control steps are the walk's own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from browser_runner.steps.assert_ import run_assert
from browser_runner.steps.click import run_click
from browser_runner.steps.download import run_download
from browser_runner.steps.extract import run_extract
from browser_runner.steps.fill import run_fill
from browser_runner.steps.navigate import run_navigate
from browser_runner.steps.press import run_press
from browser_runner.steps.screenshot import run_screenshot
from browser_runner.steps.select import run_select
from browser_runner.steps.tick import run_tick
from browser_runner.steps.upload import run_upload
from browser_runner.steps.wait_for import run_wait_for
from kernel.steps.document import (
    AssertStep,
    ClickStep,
    DownloadStep,
    ExtractStep,
    FillStep,
    NavigateStep,
    PressStep,
    ScreenshotStep,
    SelectStep,
    Step,
    TickStep,
    UploadStep,
    WaitForStep,
)

Executor = Callable[[Any, Any], Awaitable[Any]]
"""`run(trying, step)`: one try; returns the JSON result, raises `StepFailed` or `BrowserLost`."""

EXECUTORS: dict[type[Step], Executor] = {
    NavigateStep: run_navigate,
    WaitForStep: run_wait_for,
    ClickStep: run_click,
    FillStep: run_fill,
    SelectStep: run_select,
    TickStep: run_tick,
    PressStep: run_press,
    UploadStep: run_upload,
    ExtractStep: run_extract,
    AssertStep: run_assert,
    DownloadStep: run_download,
    ScreenshotStep: run_screenshot,
}
