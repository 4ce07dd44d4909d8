"""One simulation: a seed decides who moves next, what fails and when; the invariants are looked at after every move.

until the faults are used up: any enabled action, or a fault, at random
then: only healthy moves, until every accepted run has ended
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random  # noqa: TID251 (a simulation is driven by its seed)
from typing import Any

from kernel.domain.decider import Decider
from kernel.domain.ids import Incarnation
from kernel.domain.task import RunnerDied
from kernel.domain.values import Pool
from kernel.errors import LogUnavailable, NotOwner
from kernel.log import codec
from kernel.log.envelope import Envelope
from kernel.log.memory import Fault, MemoryLog
from kernel.log.port import Record
from kernel.log.topics import TOPICS, Topic, partition_of
from kernel.processor.owner import Action, Owner
from kernel.processor.ports import Bounds, Ports
from scheduler.advance import Advance
from scheduler.dispatch import Dispatch
from tests.support.runs import answer_submitted, cancel_requested, job_run_requested
from tests.support.simulator.outside import Outside
from tests.support.simulator.runner import MODEL_STEPS, ModelRunner
from tests.support.simulator.world import Link, SeededEntropy, Violation, World, WorldClock

MOVES_MAX = 40_000
NOBODY = Incarnation("")
FAULTS = (
    *("crash_owner", "pause_owner", "replace_owner", "cut_owner", "jump", "drop"),
    *("kill_runner", "pause_runner", "abandon_runner", "cut_runner", "drain_runner"),
)
MISLED = (*FAULTS, "mislead_runner", "mislead_runner")
"""The same, and runners that reach former leaders of the log which do not know that they are."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """How much happens in one simulation."""

    runs: int = 3
    runners: int = 2
    faults: int = 12
    partitions: int = 2
    snapshots: bool = True
    cancels: float = 0.25
    """Chance that a run is cancelled at some moment."""
    workflows: tuple[str, ...] = tuple(sorted(MODEL_STEPS))
    """Names of the model workflows that runs are made of."""
    logins: int = 2
    """How many logins the runs share."""
    kinds: tuple[str, ...] = FAULTS
    """What may go wrong, beside single appends."""
    fault_rate: float = 0.02
    """Chance of a fault before a move."""
    concurrency: int = 0
    """How many runs the one provider takes at once; 0: any number."""
    retries: bool = False
    """Every other run with two workflows repeats one that has ended, from its second workflow on."""


@dataclass(eq=False)
class Seat:
    """A process that owns one partition of one decider, or tries to."""

    name: str
    decider: type[Any]
    partition: int
    owner: Owner | None = None
    link: Link | None = None
    paused_until_ms: int = 0
    idle: bool = False


@dataclass(eq=False)
class Place:
    """A machine with a watchdog and a runner."""

    name: str
    runner: ModelRunner | None = None
    lives: int = 0
    paused_until_ms: int = 0
    died: tuple[Incarnation, int] | None = None
    """(incarnation, time from which the watchdog may say so)."""


class Simulation:
    """Everything in one process. `run` raises `Violation` with the story in `world.trace`."""

    def __init__(self, seed: int, scenario: Scenario | None = None) -> None:
        self.scenario = scenario or Scenario()
        self.random = Random(seed)
        self.world = World(self.random)
        self.faults_left = self.scenario.faults
        self.fault_counts: Counter[str] = Counter()
        self.log = MemoryLog(
            dict.fromkeys(TOPICS, self.scenario.partitions), WorldClock(self.world), self._fault_of_append
        )
        self.outside = Outside(self.log, self.world)
        self.entropy = SeededEntropy(self.random)
        self.seats: list[Seat] = []
        for decider in (Advance, Dispatch):
            for partition in range(self.scenario.partitions):
                self.seats += [Seat(f"{decider.name}/{partition}", decider, partition)]
        self.places = [Place(f"host-{n}") for n in range(self.scenario.runners)]
        self.former: list[Seat] = []
        """Owners that were replaced and do not know."""
        self.gone: list[tuple[ModelRunner, int]] = []
        """Runners that were taken for dead, and are only paused until the given time."""
        self.requests: deque[tuple[str, Any]] = deque()
        self.late_copies: deque[tuple[str, Any]] = deque()
        """Requests that a late sender appends once more when their run has ended."""
        self.asked: set[str] = set()
        self._append_fault = Fault.NONE
        self._plan_requests()

    # ------------------------------------------------------------ what is asked

    def _plan_requests(self) -> None:
        for number in range(self.scenario.runs):
            root = f"run-{number}"
            request = job_run_requested(
                root, self.random.choice([1, 2]), connection=f"login-{number % self.scenario.logins}"
            )
            plan = tuple(
                replace(
                    workflow,
                    name=self.random.choice(self.scenario.workflows),
                    concurrency=self.scenario.concurrency,
                )
                for workflow in request.plan
            )
            request = replace(request, plan=plan)
            if self.scenario.retries and len(plan) > 1 and number % 2:
                request = replace(request, first_position=1, retry_of="run-before")
            self.requests.append((root, request))
            self.asked.add(root)
            if self.random.random() < 0.4:
                self.random.choice([self.requests, self.late_copies]).append((root, request))
            if self.random.random() < self.scenario.cancels:
                self.requests.append((root, cancel_requested(root, f"cancel-{root}")))

    async def _ask(self) -> None:
        """The gateway appends one request, perhaps twice."""
        root, event = self.requests.popleft()
        self.world.note(f"asks {type(event).__name__} {root}")
        try:
            await self._append(Topic.RUN_REQUESTS, root, event)
        except LogUnavailable:
            self.requests.appendleft((root, event))

    async def _answer(self) -> None:
        """A person answers the oldest open question, sometimes twice."""
        id_, (root, _) = next(iter(self.outside.questions.items()))
        answer = answer_submitted(root, id_, f"answer-{id_}-{self.random.randrange(2)}")
        self.world.note(f"a person answers {root}")
        try:
            await self._append(Topic.RUN_REQUESTS, root, answer)
        except LogUnavailable:
            return

    async def _append(self, topic: Topic, key: str, event: Any) -> None:
        partition = partition_of(key, self.log.partitions(topic))
        envelope = Envelope(id=f"gateway-{self.random.getrandbits(64)}", time_ms=self.world.time_ms)
        record = codec.encode(event, topic=topic, key=key, envelope=envelope, partition=partition)
        fault, self.log.faults = self.log.faults, None
        try:
            await self.log.append([record])
        finally:
            self.log.faults = fault

    # ------------------------------------------------------------ the course of things

    async def run(self) -> None:
        """Until every accepted run has ended; raises `Violation`."""
        moves = 0
        while not self._is_over():
            moves += 1
            if moves > MOVES_MAX:
                waiting = [root for root in sorted(self.asked) if not self.outside.ended(root)]
                raise Violation(f"STUCK: {waiting} never end")
            if not self.faults_left:
                heal(self)
            elif self.random.random() < self.scenario.fault_rate:
                await self._fault()
            await self._move()
            await self.outside.look()
            self._look_at_logins()
        await self._close()

    def _is_over(self) -> bool:
        return not self.requests and not self.late_copies and all(self.outside.ended(root) for root in self.asked)

    async def _move(self) -> None:
        """One action of anyone who can act; when nobody can, time passes."""
        choices: list[Any] = [seat for seat in (*self.seats, *self.former) if self._seat_ready(seat)]
        for place in self.places:
            await self._revive(place)
            if place.runner is not None and self.world.time_ms >= place.paused_until_ms:
                choices.append(place)
        choices += [gone for gone, until in self.gone if self.world.time_ms >= until]
        if self.late_copies and self.outside.ended(self.late_copies[0][0]):
            self.requests.append(self.late_copies.popleft())
        if self.requests and self.random.random() < 0.2:
            choices.append("ask")
        if self.outside.questions and self.random.random() < 0.02:
            choices.append("answer")
        if self.log.in_flight and self.random.random() < 0.2:
            choices.append("land")
        # Time that ran as fast in the healthy phase would let heartbeats outrun an owner with batches of one.
        if not choices or self.random.random() < (0.12 if self.faults_left else 0.03):
            self._pass_time()
            return
        await self._do(self.random.choice(choices))

    async def _do(self, choice: Any) -> None:
        match choice:
            case Seat():
                await self._step(choice)
            case Place():
                assert choice.runner is not None
                await self._step_runner(choice.runner)
            case ModelRunner():
                await self._step_runner(choice)
                if not choice.has_work():
                    self.gone = [entry for entry in self.gone if entry[0] is not choice]
            case "ask":
                await self._ask()
            case "answer":
                await self._answer()
            case "land":
                self.random.choice(self.log.in_flight).land()

    async def _step_runner(self, runner: ModelRunner) -> None:
        await runner.do(self.random.choice(runner.actions()))

    def _pass_time(self) -> None:
        self.world.time_ms += self.random.choice([1, 10, 100, 500, 1_000, 2_000])
        for seat in self.seats:
            seat.idle = False

    # ------------------------------------------------------------ owners

    def _seat_ready(self, seat: Seat) -> bool:
        if self.world.time_ms < seat.paused_until_ms:
            return False
        return not seat.idle or self.random.random() < 0.05

    async def _step(self, seat: Seat) -> None:
        if seat.owner is None:
            self._seat_owner(seat)
        owner = seat.owner
        assert owner is not None
        try:
            action = await owner.step()
        except NotOwner:
            self.world.note(f"{seat.name} stands down")
            await owner.close()
            seat.owner = None
            if seat in self.former:
                self.former.remove(seat)
            return
        except LogUnavailable:
            return
        seat.idle = action is Action.IDLE
        if not seat.idle:
            self.world.note(f"{seat.name}: {action}")
            for other in self.seats:
                other.idle = False

    def _seat_owner(self, seat: Seat) -> None:
        seat.link = Link(self.log)
        clock = WorldClock(self.world, self.random.choice([-400, 0, 400]))
        bounds = Bounds(
            batch_records=self.random.choice([1, 3, 500]),
            checkpoint_records=self.random.choice([3, 20]),
            checkpoint_seconds=5.0,
            snapshot_records=self.random.choice([8, 30]) if self.scenario.snapshots else 1 << 30,
            snapshot_step_records=2,
            derive_records=self.random.choice([1, 4, 2000]),
        )
        as_one = seat.link if self.random.random() < 0.5 else None
        ports = Ports(seat.link, codec, clock, self.entropy, owner=seat.name, bounds=bounds, at_end=as_one)
        decider: Decider = seat.decider()
        seat.owner = Owner(decider, seat.partition, ports)

    # ------------------------------------------------------------ runners

    async def _revive(self, place: Place) -> None:
        """The watchdog says that its runner is dead, and starts it again."""
        if place.died is not None and self.world.time_ms >= place.died[1]:
            incarnation, place.died = place.died[0], None
            await self._append(Topic.DISPATCH, "browser/0", RunnerDied(incarnation, place.name, NOBODY, Pool.BROWSER))
        if place.runner is None and place.died is None:
            place.lives += 1
            clock = WorldClock(self.world, self.random.choice([-400, 0, 400]))
            slots = self.random.choice([1, 2])
            place.runner = ModelRunner(self.world, Link(self.log), clock, place.name, place.lives, slots=slots)

    # ------------------------------------------------------------ faults

    def _fault_of_append(self, records: Sequence[Record]) -> Fault:
        if not self.faults_left or self.random.random() >= 0.01:
            return Fault.NONE
        fault = self.random.choice([Fault.REFUSED, Fault.ANSWER_LOST, Fault.TIMED_OUT])
        self._count(fault.name)
        self.world.note(f"FAULT {fault.name} of {records[0].topic}")
        return fault

    def _count(self, what: str) -> None:
        self.faults_left -= 1
        self.fault_counts[what] += 1

    async def _fault(self) -> None:
        kind = self.random.choice(self.scenario.kinds)
        await getattr(self, f"_{kind}")()

    async def _crash_owner(self) -> None:
        seat = self.random.choice(self.seats)
        if seat.owner is not None:
            self._count("crash_owner")
            self.world.note(f"FAULT {seat.name} crashes")
            await seat.owner.close()
            seat.owner, seat.idle = None, False

    async def _pause_owner(self) -> None:
        seat = self.random.choice(self.seats)
        self._count("pause_owner")
        seat.paused_until_ms = self.world.time_ms + self.random.choice([500, 5_000, 30_000])
        self.world.note(f"FAULT {seat.name} is paused")

    async def _replace_owner(self) -> None:
        """Another process takes over; the former owner is paused and will wake up."""
        seat = self.random.choice(self.seats)
        if seat.owner is None:
            return
        self._count("replace_owner")
        self.world.note(f"FAULT {seat.name} is replaced while it is paused")
        wakes = self.world.time_ms + self.random.choice([0, 200, 3_000, 30_000])
        self.former.append(Seat(f"former {seat.name}", seat.decider, seat.partition, seat.owner, seat.link, wakes))
        seat.owner, seat.idle, seat.paused_until_ms = None, False, 0

    async def _kill_runner(self) -> None:
        place = self.random.choice(self.places)
        if place.runner is None:
            return
        self._count("kill_runner")
        self.world.note(f"FAULT {place.runner.incarnation} is killed")
        place.died = (place.runner.incarnation, self.world.time_ms + self.random.choice([0, 100, 1_000]))
        await place.runner.close()
        place.runner = None

    async def _pause_runner(self) -> None:
        place = self.random.choice(self.places)
        self._count("pause_runner")
        place.paused_until_ms = self.world.time_ms + self.random.choice([1_000, 6_000, 25_000, 60_000])
        self.world.note(f"FAULT {place.name} is paused")

    async def _abandon_runner(self) -> None:
        """The machine is lost, as far as anyone can tell; it wakes up later beside its successor."""
        place = self.random.choice(self.places)
        if place.runner is None:
            return
        self._count("abandon_runner")
        self.world.note(f"FAULT {place.runner.incarnation} is lost, and will wake up")
        self.gone.append((place.runner, self.world.time_ms + self.random.choice([3_000, 10_000, 26_000, 60_000])))
        place.runner = None

    async def _cut_runner(self) -> None:
        place = self.random.choice(self.places)
        if place.runner is not None:
            self._count("cut_runner")
            place.runner.link.is_cut = not place.runner.link.is_cut
            self.world.note(f"FAULT {place.name} is {'cut off' if place.runner.link.is_cut else 'connected again'}")

    async def _mislead_runner(self) -> None:
        """The runner reaches former leaders of the reports, which do not know that they are."""
        place = self.random.choice(self.places)
        if place.runner is not None:
            self._count("mislead_runner")
            self.world.note(f"FAULT {place.name} reaches leaders of the reports that are cut off")
            await place.runner.link.leave_behind(Topic.TASK_REPORTS)

    async def _cut_owner(self) -> None:
        seat = self.random.choice(self.seats)
        if seat.link is not None:
            self._count("cut_owner")
            seat.link.is_cut = not seat.link.is_cut
            self.world.note(f"FAULT {seat.name} is {'cut off' if seat.link.is_cut else 'connected again'}")

    async def _jump(self) -> None:
        """A wall clock steps, by less than a second."""
        seat = self.random.choice(self.seats)
        if seat.owner is not None and isinstance(seat.owner.ports.clock, WorldClock):
            self._count("jump")
            seat.owner.ports.clock.offset_ms = self.random.choice([-450, 450])

    async def _drain_runner(self) -> None:
        place = self.random.choice(self.places)
        if place.runner is not None and not place.runner.draining:
            self._count("drain_runner")
            place.runner.draining = True
            self.gone.append((place.runner, 0))
            place.runner = None

    async def _drop(self) -> None:
        if self.log.in_flight:
            self._count("drop")
            self.random.choice(self.log.in_flight).drop()

    # ------------------------------------------------------------ invariants that need the runners

    def _look_at_logins(self) -> None:
        """One live session per login: of all attempts that could reach the outside, at most one per login."""
        live: dict[str, str] = {}
        runners = [place.runner for place in self.places if place.runner is not None]
        for runner in (*runners, *(gone for gone, _ in self.gone)):
            for attempt in runner.live.values():
                task = attempt.task
                if attempt.acting and runner.fence.is_open(task.root_run_id, task.workflow_run_id, task.token):
                    login = task.workflow.connection_id
                    if login in live:
                        raise Violation(f"two live sessions of {login}: {live[login]} and {task.task_id}")
                    live[login] = task.task_id

    async def _close(self) -> None:
        for seat in (*self.seats, *self.former):
            if seat.owner is not None:
                await seat.owner.close()
        for place in self.places:
            if place.runner is not None:
                await place.runner.close()
        for gone, _ in self.gone:
            await gone.close()


def heal(simulation: Simulation) -> None:
    """Everything that is cut is connected again."""
    for place in simulation.places:
        if place.runner is not None:
            place.runner.link.heal()
    for gone, _ in simulation.gone:
        gone.link.stale.clear()
    for seat in simulation.seats:
        if seat.link is not None:
            seat.link.heal()


async def simulate(seed: int, scenario: Scenario | None = None) -> Simulation:
    """Run one seed; a violation carries the seed and the last moves."""
    simulation = Simulation(seed, scenario)
    try:
        await simulation.run()
    except Violation as violation:
        story = "\n".join(simulation.world.trace[-60:])
        raise Violation(f"seed {seed}: {violation}\n{story}") from None
    return simulation
