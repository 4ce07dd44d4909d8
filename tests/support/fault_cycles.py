"""Cycles of faults on a cluster under load: hurt one part at a moment of the seed, let it heal, look from outside.

A cycle counts only with a proof that the fault hit live work, seen from outside at that moment: runs that were promised
and had not ended, in every partition (whichever process owns one has work in flight), and for runner, browser and the
stores of blobs a step of effect `once` that had begun and had no outcome, with a picture behind it. After it every run
that was promised must end, the fold of the public facts must have no breach, the site must have counted no order twice,
the API must tell what the fold tells, down to each step of the runs that were live, and the picture of each order must
be the one whose hash is told.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random  # noqa: TID251 (moments are drawn by the seed)

import httpx

from tests.support.cluster_load import ClusterLoad
from tests.support.faulty_cluster import FaultyCluster, Role
from tests.support.outside_fold import OutsideFold, SeenRun
from tests.support.public_watch import PublicWatch

TOPICS = ("towpath.job_runs.g1", "towpath.definitions.g1")
_MOMENT_SECONDS = 60.0
_END_SECONDS = 120.0
_READ_SECONDS = 10.0
_HAS_AN_ORDER = frozenset({Role.RUNNER, Role.BROWSER, Role.STORE, Role.S3})
"""Live work of these is an order: it is under a lease, in a page, and its picture is still to be stored."""


class Fault(StrEnum):
    """How it is hurt."""

    KILL = "kill -9"
    STOP = "SIGSTOP past its leases, SIGCONT"
    CUT = "cut off from all others"
    DRAIN = "SIGTERM under load"
    MOVE = "SIGTERM of one, then of the other, four times"
    FULL = "its disk is full, until it gives up"
    ROLL = "restarted in good order"
    RECREATE = "deleted and made anew: all refuse, in a cluster of its own"


@dataclass(frozen=True, slots=True)
class Pair:
    """What is hurt, and how."""

    role: Role
    fault: Fault

    def __str__(self) -> str:
        return f"{self.role}: {self.fault}"


_HURT_SECONDS = {
    (Role.RUNNER, Fault.STOP): 24.0,
    (Role.RUNNER, Fault.CUT): 24.0,
    (Role.BROWSER, Fault.STOP): 20.5,  # and a step is patient for 30 s
    (Role.BROWSER, Fault.CUT): 4.0,  # no more than steps are patient with a site
}
"""What is beyond the 8 s that outlast every session of two seconds: the lease of a task is 20 s."""
_SITE_WAS_AWAY = frozenset({"expect_failed", "navigation_failed", "step_timeout"})
"""How a run may honestly fail whose browser is cut off from its site while it presses a button."""
_PARTS = tuple(role for role in Role if role not in (Role.EVERYTHING, Role.TOPIC))
PAIRS = tuple(Pair(role, fault) for fault in (Fault.KILL, Fault.STOP, Fault.CUT) for role in _PARTS)
DRAINS = tuple(Pair(role, Fault.DRAIN) for role in (Role.GATEWAY, Role.SCHEDULER, Role.RUNNER, Role.STORE))
FULL_DISK = Pair(Role.BROKER, Fault.FULL)
MOVE = Pair(Role.SCHEDULER, Fault.MOVE)
ROLL = Pair(Role.EVERYTHING, Fault.ROLL)
RECREATE = Pair(Role.TOPIC, Fault.RECREATE)
ROLLED_RUNS = 500
_MOVES = 4
_SERVERS = frozenset({Role.BROKER, Role.POSTGRES, Role.S3})
"""Nobody starts them again but the cycle."""


@dataclass(frozen=True, slots=True)
class Cycle:
    """One cycle as it went. Times in seconds since the fault; `live` and `open_once` are the proof."""

    pair: Pair
    seed: int
    number: int
    live: int
    open_once: int
    silence: float
    """The longest time from the fault on in which some partition told nothing: how long taking over took, at most."""
    all_ended: float
    """Until every run that was live had ended."""
    accepted: int
    """Runs that were promised during the cycle, all of which ended."""
    problems: tuple[str, ...] = ()
    failed_by_site: int = 0
    """Runs that failed because their site was cut off from the browser."""


@dataclass(slots=True)
class Cycles:
    """Runs cycles one after another over one cluster. Everything is restarted until `rolled_runs` were promised."""

    cluster: FaultyCluster
    watch: PublicWatch
    load: ClusterLoad
    rolled_runs: int = ROLLED_RUNS
    checked: set[str] = field(default_factory=set)
    checked_problems: int = 0

    def run(self, pair: Pair, seed: int) -> Cycle:
        """One cycle; blocks until it is judged."""
        chance = Random(seed)
        number = chance.randrange(3 if pair.role is Role.BROKER else 2)
        live, open_once = self._await_moment(pair, chance.random() * 0.3)
        began, before = time.monotonic(), len(self.load.book.accepted)
        heal = self._hurt(pair, number, chance)
        self._hold(pair, chance)
        heal()
        ended = self._until(lambda fold: not _unfinished(fold, live), "the ends of all live runs", began)
        with self.watch.lock:
            silence = self.watch.silences.longest()
        problems, failed_by_site = self._judge(pair, live)
        accepted = len(self.load.book.accepted) - before
        return Cycle(
            pair, seed, number, len(live), open_once, silence, ended, accepted, tuple(problems), failed_by_site
        )

    def _await_moment(self, pair: Pair, pause: float) -> tuple[list[str], int]:
        """Wait until the proof stands, also after `pause`: the live runs, and how many `once` steps are open."""
        self.cluster.await_ready()
        deadline = time.monotonic() + _MOMENT_SECONDS
        while True:
            left = deadline - time.monotonic()
            self.watch.until(
                lambda fold: self._has_come(pair, fold), left, f"live work in every partition, before {pair}"
            )
            time.sleep(pause)
            with self.watch.lock:
                if self._has_come(pair, self.watch.fold):
                    self.watch.silences.begin()
                    return self.load.unfinished(self.watch.fold), len(self.watch.fold.open_once)

    def _has_come(self, pair: Pair, fold: OutsideFold) -> bool:
        """Whether `fold` shows the live work that `pair` is to hit."""
        live = {fold.runs[id_].partition for id_ in self.load.unfinished(fold) if id_ in fold.runs}
        is_everywhere = len(live) == self.watch.partitions(TOPICS[0])
        return is_everywhere and (pair.role not in _HAS_AN_ORDER or bool(fold.open_once))

    def _hurt(self, pair: Pair, number: int, chance: Random) -> Callable[[], None]:
        match pair.fault:
            case Fault.KILL:
                return self.cluster.kill(pair.role, number)
            case Fault.STOP:
                return self.cluster.stop(pair.role, number)
            case Fault.CUT:
                return self.cluster.cut(pair.role, number, reset=chance.random() < 0.5)
            case Fault.DRAIN:
                return self.cluster.drain(pair.role, number)
            case Fault.MOVE:
                return self.cluster.move(pair.role, number, _MOVES)
            case Fault.FULL:
                return self.cluster.fill_disk(number)
            case Fault.ROLL:
                return self._roll()
            case Fault.RECREATE:
                raise ValueError(f"{pair} ends a cluster: see tests.support.recreated_topic")

    def _roll(self) -> Callable[[], None]:
        wanted = len(self.load.book.accepted) + self.rolled_runs
        heal = self.cluster.roll()
        while len(self.load.book.accepted) < wanted:
            heal = self.cluster.roll()
        return heal

    def _hold(self, pair: Pair, chance: Random) -> None:
        """A stop or a cut outlasts every lease of its role: sessions of 2 s, leases of tasks of 20 s."""
        if pair.fault in (Fault.STOP, Fault.CUT):
            time.sleep(_HURT_SECONDS.get((pair.role, pair.fault), 8.0) + chance.random() * 2)
        elif pair.fault is Fault.KILL and pair.role in _SERVERS:
            time.sleep(chance.random() * 3)

    def _until(self, seen: Callable[[OutsideFold], bool], what: str, began: float) -> float:
        self.watch.until(seen, _END_SECONDS, what)
        return time.monotonic() - began

    def _judge(self, pair: Pair, live: list[str]) -> tuple[list[str], int]:
        """What is wrong by now, and was not told before; and how many runs failed because their site was away.

        `live` are the runs that the fault has hit.
        """
        site_is_cut, failed_by_site = pair == Pair(Role.BROWSER, Fault.CUT), 0
        problems = [
            f"ordered {count} times: {ref}" for ref, count in Counter(self.cluster.ordered()).items() if count > 1
        ]
        with self.watch.lock:
            problems += self.watch.fold.problems[self.checked_problems :]
            self.checked_problems = len(self.watch.fold.problems)
            ended = {id_: run for id_, run in self.watch.fold.runs.items() if run.ended and id_ not in self.checked}
        with self.load.book.lock:
            problems += self.load.book.problems
            refs = {one.id: one.ref for one in self.load.book.accepted.values()}
        ordered = set(self.cluster.ordered())
        for id_, run in ended.items():
            self.checked.add(id_)
            if site_is_cut and run.failure in _SITE_WAS_AWAY:
                failed_by_site += 1
            elif run.status != "COMPLETED":
                problems.append(f"{id_} ended {run.status}: {run.failure}")
            elif refs.get(id_) and refs[id_] not in ordered:
                problems.append(f"{id_} completed without its order {refs[id_]}")
        pictured = {id_ for id_, run in ended.items() if refs.get(id_) and run.status == "COMPLETED"}
        return problems + self._compare(ended, pictured, frozenset(live)), failed_by_site

    def _compare(self, ended: dict[str, SeenRun], pictured: set[str], live: frozenset[str]) -> list[str]:
        """What the API tells differently from the fold once it has had time to read as far, asked of both gateways.

        Those of `pictured` must have their picture; of those of `live` each step of each attempt is compared, too.
        """
        self.cluster.await_ready()
        deadline = time.monotonic() + _READ_SECONDS
        headers = {"Authorization": f"Bearer {self.cluster.key}"}
        with httpx.Client(headers=headers, timeout=30) as client:
            while True:
                different = [text for place, id_ in enumerate(ended) if (text := self._differs(client, place, id_))]
                for found_by, those in ((self._no_picture, pictured), (self._other_steps, live & ended.keys())):
                    different += [text for place, id_ in enumerate(those) if (text := found_by(client, place, id_))]
                if not different or time.monotonic() > deadline:
                    return different
                time.sleep(0.2)

    def _differs(self, client: httpx.Client, place: int, id_: str) -> str:
        with self.watch.lock:
            run = self.watch.fold.runs[id_]
            seen = {"status": run.status, "workflowRunIds": [*run.workflow_runs]}
        answer = client.get(f"{self.cluster.gateways[place % 2]}/api/v2/job-runs/{id_}")
        told = {name: answer.json().get(name) for name in seen}
        return "" if told == seen else f"{id_}: the API tells {answer.status_code} {told}, the fold {seen}"

    def _other_steps(self, client: httpx.Client, place: int, id_: str) -> str:
        """What the API tells otherwise of workflow runs and of their steps.

        One that ended again in the same attempt stands as it ended last; one that began and has no end, in the API
        alone.
        """
        with self.watch.lock:
            parts = {key: (part.status, [*part.steps]) for key, part in self.watch.fold.runs[id_].workflow_runs.items()}
        for part, (status, steps) in parts.items():
            path = f"{self.cluster.gateways[place % 2]}/api/v2/workflow-runs/{part}"
            rows = client.get(f"{path}/steps", params={"limit": 100}).json().get("data", ())
            told = (
                client.get(path).json().get("status"),
                {(row["attempt"], row["path"]): row["status"] for row in rows if row["status"]},
            )
            seen = (status, {(attempt, step): end for attempt, step, end in steps})
            if told != seen:
                return f"{part} of {id_}: the API tells {told}, the fold {seen}"
        return ""

    def _no_picture(self, client: httpx.Client, place: int, id_: str) -> str:
        """What is wrong with the picture that the run took after its order, fetched as a client would."""
        gateway = self.cluster.gateways[place % 2]
        wanted = {"jobRunId": id_, "type": "screenshot"}
        told = client.get(f"{gateway}/api/v2/artifacts", params=wanted).json().get("data", [])
        if len(told) != 1:
            return f"{id_} has {len(told)} pictures"
        answer = client.get(gateway + _path(told[0]["signedUrl"]))
        is_it = hashlib.sha256(answer.content).hexdigest() == told[0]["fileHash"]
        return "" if is_it else f"{id_}: its picture is {answer.status_code}, {len(answer.content)} bytes"


def _path(url: str) -> str:
    return httpx.URL(url).raw_path.decode()


def _unfinished(fold: OutsideFold, ids: list[str]) -> list[str]:
    return [id_ for id_ in ids if id_ not in fold.runs or not fold.runs[id_].ended]
