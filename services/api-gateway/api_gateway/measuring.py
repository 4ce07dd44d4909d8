"""What the facts themselves tell of the service: waits, durations, outcomes. Measured by whoever commits their rows.

A batch is committed by exactly one projector, so all gateways together count each fact once; a rebuild counts nothing,
because facts of long ago are left out. When a run was asked for is remembered from its first fact; of what began before
this process, or in another one, the row is looked up, behind everything else.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any, NamedTuple

import structlog

from api_gateway.projections.change import Fact
from api_gateway.waiting import Projected
from kernel import metrics
from kernel.clock import Clock
from kernel.domain.artifact import ArtifactCreated
from kernel.domain.connection import ConnectionCreated, ConnectionLoginRecorded
from kernel.domain.input_request import (
    InputRequestAnswered,
    InputRequestCancelled,
    InputRequestExpired,
    InputRequestOpened,
)
from kernel.domain.workflow_run import (
    TRANSITIONS,
    WorkflowRunCompleted,
    WorkflowRunCreated,
    WorkflowRunFailed,
    WorkflowRunStarted,
    WorkflowRunStepFinished,
)
from kernel.errors import TowpathError
from kernel.metrics import Few, Metrics
from kernel.sql.port import Database

OLD_MS = 60 * 60 * 1000
"""A fact that is projected later than this is one of a rebuild, or of an outage that its own series tells."""
REMEMBERED_MAX = 20_000
LATE_MAX = 10_000
LOOK_SECONDS = 5.0
PROVIDERS_MAX = 200
_FIRST_ATTEMPT = 1
_OPEN_STATES = tuple(status.value for status, later in TRANSITIONS.items() if later)
_AT_ONCE = 500
_log = structlog.get_logger("api_gateway.measuring")


class _Begun(NamedTuple):
    """What has begun at `ms`; `word` is the label that only its first fact has: a kind, or a provider."""

    ms: int
    word: str


_BEGINNINGS = {
    "run": "SELECT id, created_ms, '' FROM workflow_runs WHERE id IN ({marks})",
    "question": "SELECT id, created_ms, kind FROM input_requests WHERE id IN ({marks})",
    "login": "SELECT id, 0, provider FROM connections WHERE id IN ({marks})",
}
"""Where the beginning of what ends is read."""


class FactMeter:
    """Measures committed batches. `projected` at once and without I/O; `run` asks the database for the rest."""

    def __init__(self, measures: Metrics, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._begun: OrderedDict[str, _Begun] = OrderedDict()
        self._late: deque[tuple[str, str, Fact]] = deque(maxlen=LATE_MAX)
        self._provider = Few(PROVIDERS_MAX)
        self._lag = measures.histogram(metrics.EVENT_TO_PROJECTION)
        self._wait = measures.histogram(metrics.RUN_QUEUE_WAIT)
        self._duration = measures.histogram(metrics.RUN_DURATION)
        self._step = measures.histogram(metrics.STEP_DURATION)
        self._question = measures.histogram(metrics.AWAITING_USER_INPUT)
        self._login = measures.counter(metrics.LOGIN_OUTCOME)
        self._bytes = measures.counter(metrics.ARTIFACT_BYTES)
        self._runs = measures.gauge(metrics.RUNS_IN_STATE)
        self._by_type: dict[type, Callable[[Fact], None]] = {
            WorkflowRunCreated: self._asked,
            WorkflowRunStarted: self._started,
            WorkflowRunStepFinished: self._step_ended,
            **dict.fromkeys((WorkflowRunCompleted, WorkflowRunFailed), self._run_ended),
            InputRequestOpened: self._question_opened,
            **dict.fromkeys((InputRequestAnswered, InputRequestExpired, InputRequestCancelled), self._question_closed),
            ConnectionCreated: self._connected,
            ConnectionLoginRecorded: self._logged_in,
            ArtifactCreated: self._produced,
        }

    def projected(self, batch: Projected) -> None:
        """The batch was committed now."""
        if not batch.facts:
            return
        now_ms = self._clock.now_ms()
        oldest_ms = min(fact.time_ms for fact in batch.facts)
        self._lag.labels(batch.topic.value).observe(max(0, now_ms - oldest_ms) / 1000)
        for fact in batch.facts:
            measure = self._by_type.get(type(fact.event))
            if measure is not None and fact.time_ms > now_ms - OLD_MS:
                measure(fact)

    async def run(self) -> None:
        """Look up beginnings, and how many runs there are, until cancelled."""
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            try:
                await self.look()
                await self.count_runs()
            except TowpathError as error:
                _log.warning("measuring.retry", error=str(error))

    async def count_runs(self) -> None:
        """Runs that have not ended, by state, over the whole database."""
        marks = ", ".join("?" * len(_OPEN_STATES))
        rows = await self._db.fetch_all(
            f"SELECT status, sum(number) FROM workflow_run_counts WHERE status IN ({marks}) GROUP BY status",  # noqa: S608 (marks only)
            _OPEN_STATES,
        )
        counts: dict[str, int] = dict(rows)
        for state in _OPEN_STATES:
            self._runs.labels(state).set(counts.get(state, 0))

    async def look(self) -> None:
        """Measure what waits for its beginning."""
        late, self._late = list(self._late), deque(maxlen=LATE_MAX)
        for kind, sql in _BEGINNINGS.items():
            mine: defaultdict[str, list[Fact]] = defaultdict(list)
            for its, id_, fact in late:
                if its == kind:
                    mine[id_].append(fact)
            ids = list(mine)
            for start in range(0, len(ids), _AT_ONCE):
                part = ids[start : start + _AT_ONCE]
                rows = await self._db.fetch_all(sql.format(marks=", ".join("?" * len(part))), part)
                for id_, ms, word in rows:
                    for fact in mine[id_]:
                        self._ended(kind, fact, _Begun(ms, word))

    def _asked(self, fact: Fact) -> None:
        self._remember(fact.event.workflow_run_id, _Begun(fact.time_ms, ""))

    def _started(self, fact: Fact) -> None:
        if fact.event.attempt == _FIRST_ATTEMPT:
            self._ended_or_late("run", fact.event.workflow_run_id, fact, keep=True)

    def _step_ended(self, fact: Fact) -> None:
        event: WorkflowRunStepFinished = fact.event
        seconds = max(0, event.finished_ms - event.started_ms) / 1000
        self._step.labels(event.kind, event.status.value).observe(seconds)

    def _run_ended(self, fact: Fact) -> None:
        self._ended_or_late("run", fact.event.workflow_run_id, fact)

    def _question_opened(self, fact: Fact) -> None:
        self._remember(fact.event.input_request_id, _Begun(fact.time_ms, fact.event.kind))

    def _question_closed(self, fact: Fact) -> None:
        self._ended_or_late("question", fact.event.input_request_id, fact)

    def _connected(self, fact: Fact) -> None:
        self._remember(fact.event.connection_id, _Begun(0, fact.event.provider))

    def _logged_in(self, fact: Fact) -> None:
        self._ended_or_late("login", fact.event.connection_id, fact, keep=True)

    def _produced(self, fact: Fact) -> None:
        self._bytes.labels(fact.event.type, "in").inc(fact.event.size)

    def _remember(self, id_: str, begun: _Begun) -> None:
        self._begun[id_] = begun
        if len(self._begun) > REMEMBERED_MAX:
            self._begun.popitem(last=False)

    def _ended_or_late(self, kind: str, id_: str, fact: Fact, *, keep: bool = False) -> None:
        begun = self._begun.get(id_) if keep else self._begun.pop(id_, None)
        if begun is None:
            self._late.append((kind, id_, fact))
        else:
            self._ended(kind, fact, begun)

    def _ended(self, kind: str, fact: Fact, begun: _Begun) -> None:
        event: Any = fact.event
        seconds = max(0, fact.time_ms - begun.ms) / 1000
        if kind == "question":
            self._question.labels(begun.word).observe(seconds)
        elif kind == "login":
            self._login.labels(self._provider(begun.word), event.outcome.value).inc()
        elif isinstance(event, WorkflowRunStarted):
            self._wait.observe(seconds)
        else:
            self._duration.labels(event.status.value).observe(seconds)
