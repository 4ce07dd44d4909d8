"""Every series that a process shows at `/metrics`, in one table: the manual, dashboards and alert rules are held to it.

No label is ever a tenant, a run, an id or free text; numbers per tenant come from the API. A process makes what it
measures from the table by `Metrics`; nobody else names a series.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

Made = TypeVar("Made", Counter, Gauge, Histogram)

_QUICK = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 30.0)
_LATE = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_WAITS = (0.05, 0.25, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)
_WORK = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
_PEOPLE = (5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0)


class Kind(StrEnum):
    """What Prometheus calls the type of a series."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Shown(StrEnum):
    """Which process shows a series; the embedded platform shows all."""

    GATEWAY = "api-gateway"
    SCHEDULER = "scheduler"
    RUNNER = "browser-runner"
    STORE = "artifact-store"
    HEALTH = "health"


@dataclass(frozen=True, slots=True)
class Series:
    """One row of the table. `about` says what is measured, and how to add it up where that matters."""

    name: str
    kind: Kind
    about: str
    shown: tuple[Shown, ...]
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_GATEWAY, _ALL = (Shown.GATEWAY,), tuple(Shown)
_RUNNER, _STORE = (Shown.RUNNER,), (Shown.STORE,)
_DECIDING = (Shown.SCHEDULER, Shown.GATEWAY)

RUN_QUEUE_WAIT = Series(
    "run_queue_wait_seconds", Kind.HISTOGRAM, "From a workflow run that is asked for to its start at a runner.",
    _GATEWAY, buckets=_WAITS,
)  # fmt: skip
RUNS_IN_STATE = Series(
    "runs_in_state", Kind.GAUGE,
    "Workflow runs that have not ended, by state. Every gateway says the same of the one database: take the maximum.",
    _GATEWAY, ("state",),
)  # fmt: skip
RUN_DURATION = Series(
    "run_duration_seconds", Kind.HISTOGRAM,
    "From a workflow run that is asked for to its end, waits for people included.", _GATEWAY, ("outcome",), _WORK,
)  # fmt: skip
STEP_DURATION = Series(
    "step_duration_seconds", Kind.HISTOGRAM, "A step, all its tries together.", _GATEWAY, ("kind", "outcome"), _WORK
)
AWAITING_USER_INPUT = Series(
    "awaiting_user_input_seconds", Kind.HISTOGRAM, "From a question to its answer, its expiry or its withdrawal.",
    _GATEWAY, ("kind",), _PEOPLE,
)  # fmt: skip
LOGIN_OUTCOME = Series(
    "login_outcome_total", Kind.COUNTER, "Logins that ended. From the 200th provider on they are called `other`.",
    _GATEWAY, ("provider", "outcome"),
)  # fmt: skip
EVENT_TO_PROJECTION = Series(
    "event_to_projection_seconds", Kind.HISTOGRAM,
    "From the oldest fact of a batch to the commit of the batch's rows, by the topic that is projected.",
    _GATEWAY, ("projection",), _LATE,
)  # fmt: skip
CONSUMER_LAG = Series(
    "kafka_consumer_lag", Kind.GAUGE,
    "Records between where a consumer stands and the end of the topic, over the partitions that this process has.",
    (*_DECIDING, Shown.HEALTH), ("group", "topic"),
)  # fmt: skip
ARTIFACT_BYTES = Series(
    "artifact_bytes_total", Kind.COUNTER, "Bytes of artifacts: `in` as runs produce them, `out` as they are fetched.",
    _GATEWAY, ("kind", "direction"),
)  # fmt: skip
TRANSITIONS = Series(
    "decider_transitions_total", Kind.COUNTER, "Inputs that were decided and are effective.", _DECIDING, ("decider",)
)
COMMIT = Series(
    "decider_commit_seconds", Kind.HISTOGRAM, "From the append of a batch of decisions to its being read back.",
    _DECIDING, ("decider",), _QUICK,
)  # fmt: skip
RESTORE = Series(
    "decider_restore_seconds", Kind.HISTOGRAM, "Reading and folding a ledger partition at a takeover.",
    _DECIDING, ("decider",), _LATE,
)  # fmt: skip
PARKED = Series(
    "decider_inputs_parked_total", Kind.COUNTER, "Inputs that no decision can answer, set aside with their bytes.",
    _DECIDING, ("decider",),
)  # fmt: skip
FAILURES = Series(
    "decider_failures_total", Kind.COUNTER, "Faults of our own in the owning loop; it goes on.", _DECIDING, ("decider",)
)
RUNNER_SLOTS = Series(
    "runner_slots", Kind.GAUGE,
    "Slots of this runner: `busy`, `free`, and `waiting`, which are pages held for a person and take no slot.",
    _RUNNER, ("pool", "state"),
)  # fmt: skip
BROWSER_LAUNCH = Series("browser_launch_seconds", Kind.HISTOGRAM, "Starting a browser process.", _RUNNER, buckets=_LATE)
BROWSER_CRASHES = Series(
    "browser_crashes_total", Kind.COUNTER, "Browser processes that ended without being told to.", _RUNNER
)
EGRESS_DENIED = Series(
    "egress_denied_total", Kind.COUNTER, "Connections that the way out refused, by reason.", _RUNNER, ("reason",)
)
SECRETS_USED = Series(
    "secrets_used_total", Kind.COUNTER, "Openings of secrets that were granted, by kind of secret.", _STORE, ("kind",)
)
KEYRING_AGE = Series(
    "keyring_age_seconds", Kind.GAUGE, "Since the keyring file was last changed, which is its last rotation.", _STORE
)
DISK_FREE = Series(
    "disk_free_ratio",
    Kind.GAUGE,
    "Free part of the disk that holds blobs; embedded: everything.",
    _STORE,
)
HTTP_REQUESTS = Series(
    "http_requests_total", Kind.COUNTER, "Requests answered; `route` is a template.", _GATEWAY,
    ("method", "route", "status"),
)  # fmt: skip
HTTP_SECONDS = Series(
    "http_request_seconds", Kind.HISTOGRAM, "From the first byte to the last, live streams included.", _GATEWAY,
    ("method", "route"), _QUICK,
)  # fmt: skip
HTTP_OPEN = Series("http_requests_open", Kind.GAUGE, "Requests under way, live streams among them.", _GATEWAY)
APPENDS_REFUSED = Series(
    "appends_refused_total", Kind.COUNTER,
    "Requests that were answered 429, before anything was appended, because the log is slow to acknowledge.",
    _GATEWAY, ("topic",),
)  # fmt: skip
LOOP_LAG = Series("loop_lag_seconds", Kind.GAUGE, "How late the event loop woke a sleeper of one second.", _ALL)

SERIES: tuple[Series, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Series))
"""All of them, as they stand above. Beside these, `process_*` of the Prometheus client come from every process."""

OTHER = "other"


class Metrics:
    """What one process measures, in a registry of its own. Each series is made when it is first asked for."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._made: dict[str, Counter | Gauge | Histogram] = {}

    def counter(self, series: Series) -> Counter:
        return self._of(series, Counter, lambda: Counter(*_args(series), registry=self.registry))

    def gauge(self, series: Series) -> Gauge:
        return self._of(series, Gauge, lambda: Gauge(*_args(series), registry=self.registry))

    def histogram(self, series: Series) -> Histogram:
        def make() -> Histogram:
            return Histogram(*_args(series), registry=self.registry, buckets=series.buckets)

        return self._of(series, Histogram, make)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)

    def _of(self, series: Series, kind: type[Made], make: Callable[[], Made]) -> Made:
        made = self._made.get(series.name)
        if made is None:
            made = self._made[series.name] = make()
        if not isinstance(made, kind):
            raise TypeError(f"{series.name} is no {kind.__name__.lower()}")
        return made


class Few:
    """Values of a label that people choose: the first `most` are told by name, the rest together."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[str] = set()

    def __call__(self, value: str) -> str:
        if value not in self._known:
            if len(self._known) >= self._most:
                return OTHER
            self._known.add(value)
        return value


def _args(series: Series) -> tuple[str, str, tuple[str, ...]]:
    return series.name, series.about, series.labels
