"""What the gateway counts of its requests. Routes are templates, methods and statuses few."""

from __future__ import annotations

from kernel.metrics import HTTP_OPEN, HTTP_REQUESTS, HTTP_SECONDS, OTHER, Metrics

METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
UNMATCHED = "unmatched"


class Telemetry:
    """The series of requests."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._requests = metrics.counter(HTTP_REQUESTS)
        self._seconds = metrics.histogram(HTTP_SECONDS)
        self.open_requests = metrics.gauge(HTTP_OPEN)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answer."""
        method = method if method in METHODS else OTHER
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def text(self) -> bytes:
        """The exposition format of everything that this process measures."""
        return self._metrics.text()
