"""Playwright behind our ports: the only room of the runner that imports it.

One driver process, warm browsers, one context per run. The profile directory is Playwright's temporary one and goes
with its browser. Every failure comes out as `StepFailed`, a lost browser as `BrowserLost`.
"""

from browser_runner.browser.pool import ChromiumPool

__all__ = ["ChromiumPool"]
