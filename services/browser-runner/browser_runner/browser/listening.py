"""What a page gets while somebody listens: answers of the site, files that it hands out."""

from __future__ import annotations

from playwright.async_api import Download, Page, Response

from browser_runner.ports import Answered

_KEPT_MAX = 1000


class Listening:
    """Begins when it is made. Playwright sends answers only to those who listen, so others do not pay for it."""

    def __init__(self, page: Page, *, answers: bool, files: bool) -> None:
        self.answers: list[Answered] = []
        self.files: list[str] = []
        self._page = page
        self._hears_answers, self._hears_files = answers, files
        if answers:
            page.on("response", self._answered)
        if files:
            page.on("download", self._handed_out)

    def _answered(self, response: Response) -> None:
        if len(self.answers) < _KEPT_MAX:
            self.answers.append(Answered(response.url, response.status, response.request.method))

    def _handed_out(self, download: Download) -> None:
        if len(self.files) < _KEPT_MAX:
            self.files.append(download.suggested_filename)

    def stop(self) -> None:
        """Listen no more."""
        if self._hears_answers:
            self._page.remove_listener("response", self._answered)
        if self._hears_files:
            self._page.remove_listener("download", self._handed_out)
        self._hears_answers = self._hears_files = False
