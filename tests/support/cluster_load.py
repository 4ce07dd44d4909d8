"""Callers of a cluster that is being hurt: they ask for runs all the time, as careful clients do; what was promised.

Each request has an idempotency key and is asked again, at the other gateway, until somebody answers 201. A run is
*accepted* from then on: it must be found in the public facts exactly once, and end. Two kinds of runs:

    light    three workflows of ten checks each, no page: many batches, leases and records
    ordering one press of a button that must not happen twice, on the site that counts, and a picture of what it says
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import httpx

from tests.support.outside_fold import OutsideFold
from tests.support.public_watch import PublicWatch

_ANSWER_SECONDS = 8.0
_ACCEPT_SECONDS = 120.0
_ASK_AGAIN_SECONDS = 0.2
_LOOK_SECONDS = 0.02
_UNANSWERED = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
"""What a careful client asks again after: not decided, in progress, or away."""


@dataclass(slots=True)
class Accepted:
    """A run that somebody promised: its id, when the promise came, and the order that it is to make."""

    id: str
    at: float
    ref: str = ""


@dataclass(slots=True)
class Book:
    """What was promised to all callers; and what went wrong with them."""

    accepted: dict[str, Accepted] = field(default_factory=dict)
    asked_again: int = 0
    problems: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


class ClusterLoad:
    """Callers in threads; a context manager. `book` may be read under its lock at any time."""

    def __init__(
        self,
        gateways: Sequence[str],
        key: str,
        watch: PublicWatch,
        site_url: str,
        *,
        light: int,
        ordering: int,
        accept_seconds: float = _ACCEPT_SECONDS,
    ) -> None:
        """So many callers of each kind; a caller whom nobody promises anything for `accept_seconds` is a problem."""
        self.book = Book()
        self._accept_seconds = accept_seconds
        self._gateways = gateways
        self._headers = {"Authorization": f"Bearer {key}"}
        self._watch = watch
        self._site = site_url
        self._stop = threading.Event()
        with httpx.Client(base_url=gateways[0], headers=self._headers, timeout=30) as client:
            self._light_job = _job(client, "light", [_checks() for _ in range(3)], site_url)
            self._order_job = _job(client, "order", [_order(site_url)], site_url)
        callers = [self._light for _ in range(light)] + [self._ordering for _ in range(ordering)]
        self._threads = [threading.Thread(target=self._run, args=(n, c), daemon=True) for n, c in enumerate(callers)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(self._accept_seconds + _ANSWER_SECONDS)

    def _run(self, number: int, caller: Any) -> None:
        try:
            while not self._stop.is_set():
                caller(number)
        except BaseException as error:  # noqa: BLE001 (the edge of the thread: the book tells it)
            with self.book.lock:
                self.book.problems.append(f"caller {number} ended: {error!r}")

    def _light(self, number: int) -> None:
        self._await_end(self._ask(number, self._light_job, {}, ""))

    def _ordering(self, number: int) -> None:
        ref = uuid.uuid4().hex[:12]  # noqa: TID251 (a caller's own reference)
        self._await_end(self._ask(number, self._order_job, {"ref": ref}, ref))

    def _ask(self, number: int, job: str, inputs: dict[str, str], ref: str) -> Accepted | None:
        """Ask until it is promised; None when the load ends before."""
        key = uuid.uuid4().hex  # noqa: TID251 (a caller's own key)
        turn, deadline = number, time.monotonic() + self._accept_seconds
        while True:
            answer = self._post(self._gateways[turn % 2], job, key, inputs)
            if answer is not None and answer.status_code == 201:
                accepted = Accepted(answer.json()["id"], time.monotonic(), ref)
                with self.book.lock:
                    self.book.accepted[accepted.id] = accepted
                return accepted
            if answer is not None and answer.status_code not in _UNANSWERED:
                raise AssertionError(f"refused: {answer.status_code} {answer.text}")
            if self._stop.is_set() and time.monotonic() > deadline:
                return None
            assert time.monotonic() < deadline, f"nobody accepted a run in {self._accept_seconds:.0f} s: {answer!r}"
            with self.book.lock:
                self.book.asked_again += 1
            turn += 1
            time.sleep(_ASK_AGAIN_SECONDS)

    def _post(self, gateway: str, job: str, key: str, inputs: dict[str, str]) -> httpx.Response | None:
        try:
            with httpx.Client(base_url=gateway, headers=self._headers, timeout=_ANSWER_SECONDS) as client:
                body = {"inputs": inputs}
                return client.post(f"/api/v2/jobs/{job}/run", json=body, headers={"Idempotency-Key": key})
        except httpx.TransportError:
            return None

    def _await_end(self, accepted: Accepted | None) -> None:
        while accepted is not None and not self._stop.is_set():
            with self._watch.lock:
                run = self._watch.fold.runs.get(accepted.id)
                if run is not None and run.ended:
                    return
            time.sleep(_LOOK_SECONDS)

    def unfinished(self, fold: OutsideFold) -> list[str]:
        """Runs that are promised and have not ended."""
        with self.book.lock:
            promised = list(self.book.accepted)
        return [id_ for id_ in promised if id_ not in fold.runs or not fold.runs[id_].ended]


def _job(client: httpx.Client, name: str, documents: list[dict[str, Any]], site_url: str) -> str:
    ids = []
    for place, steps in enumerate(documents):
        body = {"name": f"{name} {place}", "sourceProvider": "site", "type": "USER_DEFINED", "stepsJson": steps}
        ids.append(_made(client.post("/api/v2/workflows", json=body)))
    order = {"workflowExecutionOrder": ids}
    return _made(client.post("/api/v2/jobs", json={"name": name, "sourceProvider": "site", "jobConfigJson": order}))


def _made(answer: httpx.Response) -> str:
    assert answer.status_code == 201, answer.text
    id_: str = answer.json()["id"]
    return id_


def _checks() -> dict[str, Any]:
    steps = [{"id": f"check_{n}", "type": "assert", "params": {"that": ["1 == 1"]}} for n in range(10)]
    return {"version": 1, "steps": steps}


def _order(site_url: str) -> dict[str, Any]:
    return {
        "version": 1,
        "startOrigins": [site_url],
        "inputSchema": {"type": "object", "required": ["ref"], "properties": {"ref": {"type": "string"}}},
        "steps": [
            {"id": "open", "type": "navigate", "params": {"url": site_url + "/order/{{inputs.ref}}"}},
            {
                "id": "order",
                "type": "click",
                "params": {
                    "target": {"locators": [{"role": "button", "name": "Order {{inputs.ref}}"}]},
                    "expect": {"text": "ordered: {{inputs.ref}}"},
                    "check": {"open": site_url + "/state/{{inputs.ref}}", "text": "ordered: {{inputs.ref}}"},
                },
            },
            {"id": "receipt", "type": "screenshot", "params": {}},
        ],
    }
