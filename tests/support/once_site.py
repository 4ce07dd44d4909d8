"""A site that counts: a page with a button per reference, whose press is an order, and a page that tells of the order.

    python -m tests.support.once_site PORT LOG SLOW_MS

Each order is a line in LOG, written to the disk before anything is answered; the answer takes SLOW_MS, half of it
before the order counts, so that a fault falls on either side. It never refuses a second order: it is there to see them.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_PAGE = "<!doctype html><title>Orders</title><main>{}</main>"
_FORM = '<form method="post" action="/order/{}"><button>Order {}</button></form>'


class _Site(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int, log: Path, slow_ms: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.log = log
        self.slow_seconds = slow_ms / 1000
        self.lock = threading.Lock()

    def ordered(self) -> list[str]:
        return self.log.read_text().split() if self.log.exists() else []

    def order(self, ref: str) -> None:
        with self.lock, self.log.open("a") as file:
            file.write(f"{ref}\n")
            file.flush()
            os.fsync(file.fileno())


class _Handler(BaseHTTPRequestHandler):
    server: _Site

    def do_GET(self) -> None:
        what, _, ref = self.path.strip("/").partition("/")
        if what == "order":
            self._answer(_FORM.format(ref, ref))
        elif what == "state":
            self._answer(f"ordered: {ref}" if ref in self.server.ordered() else f"not yet: {ref}")
        else:
            self._answer("", HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        ref = self.path.rpartition("/")[2]
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        time.sleep(self.server.slow_seconds / 2)
        self.server.order(ref)
        time.sleep(self.server.slow_seconds / 2)
        self._answer(f"ordered: {ref}")

    def _answer(self, text: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        body = _PAGE.format(text).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class names it so)
        """Say nothing."""


def main() -> None:
    """Serve until killed."""
    port, log, slow_ms = sys.argv[1:]
    _Site(int(port), Path(log), int(slow_ms)).serve_forever()


if __name__ == "__main__":
    main()
