"""The watchdog: the parent of a runner, or of the one platform process, and of every browser below it (design 6.1).

When its child dies or hangs, it kills everything below itself until nothing is left, and only then says so
(`on_death`): proof of death, which lets the next attempt start a second later. Then it starts the child again.

* Everything below stays below: the watchdog is a *subreaper* (prctl), so a process whose parent died becomes its child,
  whatever session or group it made for itself. Browsers do that.
* When the watchdog itself is killed, the kernel kills its child (PDEATHSIG), and the browsers end as their pipes close.
  What outlives even that is swept at the next start (`process_tree.sweep_orphans`).
* The child writes a byte a second from its main loop into a pipe (`Liveness`). Silence is a hang. A child that was
  stopped (SIGSTOP, a debugger) is left alone unless `stopped_seconds` is set: it acts on nothing, and its fences shut
  by themselves. When the watchdog itself did not run for a while, nobody did, and the silence is not counted.
* SIGTERM and SIGINT go to the child once; it has `drain_seconds` to finish. A second one ends the wait.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType

from browser_runner.process_tree import kill_descendants, state_of
from kernel.clock import Clock, SystemClock
from kernel.refusing import REFUSED_EXIT_CODE, UNREACHED_EXIT_CODE

LIVENESS_VARIABLE = "TOWPATH_LIVENESS_FD"
"""The child finds the number of its pipe here."""
INCARNATION_VARIABLE = "TOWPATH_INCARNATION"
"""A runner finds here what its watchdog calls this life of it."""
FINAL_EXIT_CODES = frozenset({0, REFUSED_EXIT_CODE, UNREACHED_EXIT_CODE})
"""A child that ends so is not started again: it is done, or says why it cannot work."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_TICK_SECONDS = 0.25
_PAUSED_SECONDS = 2.0
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class WatchdogSettings:
    """Times of one watchdog. The defaults suit production; tests shorten them."""

    hang_seconds: float = 10.0
    """Silence after which the child hangs: ten missed beats, more than any pause of a loaded machine."""
    start_seconds: float = 60.0
    """Silence allowed before the first beat: starting reads and restores."""
    stopped_seconds: float | None = None
    """How long a stopped child (state T) is left alone; None: for ever, so that a debugger works."""
    drain_seconds: float = 30.0
    """From the first SIGTERM or SIGINT to the kill."""
    first_delay_seconds: float = 0.1
    """Before the first restart, doubled for each life that was shorter than `settled_seconds`."""
    longest_delay_seconds: float = 30.0
    settled_seconds: float = 10.0
    """A life this long resets the delay."""


@dataclass(frozen=True, slots=True)
class Death:
    """One life of the child is over, and so is everything below it."""

    pid: int
    exit_code: int
    """As `subprocess` has it: negative for a signal."""
    was_hung: bool
    lived_seconds: float


class Liveness:
    """The child's side: tell the watchdog that the main loop turns. Does nothing when there is no watchdog."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        text = environ.get(LIVENESS_VARIABLE, "")
        self._fd = int(text) if text.isdigit() else None
        if self._fd is not None:
            os.set_inheritable(self._fd, False)
            os.set_blocking(self._fd, False)

    def beat(self) -> None:
        """Say once that all is well. Never blocks, never raises."""
        if self._fd is None:
            return
        try:
            os.write(self._fd, b".")
        except BlockingIOError:
            pass  # the watchdog is paused and the pipe is full of news
        except OSError:
            self._fd = None

    async def keep_beating(self, clock: Clock, seconds: float = 1.0) -> None:
        """Beat until cancelled; run it on the loop that must not hang."""
        while True:
            self.beat()
            await clock.sleep(seconds)


def run_watchdog(
    argv: Sequence[str],
    *,
    environ: Mapping[str, str],
    of_life: Callable[[], Mapping[str, str]] = dict,
    restart: bool = True,
    on_death: Callable[[Death], None] = lambda _: None,
    settings: WatchdogSettings | None = None,
    clock: Clock | None = None,
) -> int:
    """Start `argv`, keep it alive, and return its last exit code when it ended by itself or was told to.

    It ended by itself with one of `FINAL_EXIT_CODES`, or at all when `restart` is False. `of_life` is
    asked before every life for variables beside `environ`. `on_death` is
    called after every life, when the whole tree is dead, and may block (it appends `runner.died`); what it raises ends
    the watchdog. The child must beat (`Liveness`), else it counts as hung after `start_seconds`. Must be called in the
    main thread of a process that does little else: it takes SIGTERM and SIGINT and reads every dead child.
    """
    told, settings, clock = dict(environ), settings or WatchdogSettings(), clock or SystemClock()
    return _Watchdog(argv, lambda: {**told, **of_life()}, on_death, settings, clock).run(restart=restart)


class _Watchdog:
    def __init__(
        self,
        argv: Sequence[str],
        environ: Callable[[], Mapping[str, str]],
        on_death: Callable[[Death], None],
        settings: WatchdogSettings,
        clock: Clock,
    ) -> None:
        self._argv = list(argv)
        self._environ = environ
        self._on_death = on_death
        self._settings = settings
        self._clock = clock
        self._signals: list[int] = []
        self._exit_codes: dict[int, int] = {}

    def run(self, *, restart: bool) -> int:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        old_wakeup = signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
        old_handlers = [signal.signal(number, self._on_signal) for number in numbers]
        try:
            return self._keep_alive(wake_read, restart=restart)
        finally:
            for number, handler in zip(numbers, old_handlers, strict=True):
                signal.signal(number, handler)
            signal.set_wakeup_fd(old_wakeup)
            os.close(wake_read)
            os.close(wake_write)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if number != signal.SIGCHLD:
            self._signals.append(number)

    def _keep_alive(self, wake_fd: int, *, restart: bool) -> int:
        delay = self._settings.first_delay_seconds
        while True:
            death = self._live_once(wake_fd)
            self._on_death(death)
            if self._signals or not restart or death.exit_code in FINAL_EXIT_CODES:
                return death.exit_code
            if death.lived_seconds >= self._settings.settled_seconds:
                delay = self._settings.first_delay_seconds
            if self._sleep(wake_fd, delay):
                return death.exit_code
            delay = min(delay * 2, self._settings.longest_delay_seconds)

    def _sleep(self, wake_fd: int, seconds: float) -> bool:
        """True when a signal to end came meanwhile."""
        until_ms = self._clock.boot_ms() + seconds * 1000
        while not self._signals and (left := until_ms - self._clock.boot_ms()) > 0:
            select.select([wake_fd], [], [], left / 1000)
            _drain(wake_fd)
            self._reap()
        return bool(self._signals)

    def _live_once(self, wake_fd: int) -> Death:
        beat_read, beat_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        started_ms = self._clock.boot_ms()
        try:
            child = self._start(beat_write)
        finally:
            os.close(beat_write)
        try:
            was_hung = self._watch(child.pid, wake_fd, beat_read)
            if child.pid not in self._exit_codes:
                os.kill(child.pid, signal.SIGKILL)
            kill_descendants(self._reap)
        finally:
            os.close(beat_read)
        child.returncode = self._exit_codes.pop(child.pid)  # read by `_reap`; Popen must not wait for it again
        self._exit_codes.clear()
        return Death(child.pid, child.returncode, was_hung, (self._clock.boot_ms() - started_ms) / 1000)

    def _start(self, beat_fd: int) -> subprocess.Popen[bytes]:
        parent = os.getpid()

        def die_with_parent() -> None:
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # it died before the kernel was told
                os._exit(1)

        return subprocess.Popen(  # noqa: S603 (starting what it was given is its purpose)
            self._argv,
            env={**self._environ(), LIVENESS_VARIABLE: str(beat_fd)},
            pass_fds=[beat_fd],
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 (it takes no lock, and nothing else sets PDEATHSIG before exec)
        )

    def _watch(self, pid: int, wake_fd: int, beat_fd: int) -> bool:
        """Until the child is dead, or has to be killed; True when that is because it hangs."""
        ear = _Ear(self._settings, self._clock)
        told, drain_until_ms = 0, 0.0
        while True:
            self._reap()
            if pid in self._exit_codes:
                return False
            now = self._clock.boot_ms()
            if len(self._signals) > told:
                if told:
                    return False
                told, drain_until_ms = len(self._signals), now + self._settings.drain_seconds * 1000
                os.kill(pid, self._signals[0])
            if told and now >= drain_until_ms:
                return False
            if ear.is_hung(state_of(pid)):
                return True
            select.select([wake_fd, beat_fd] if ear.hears else [wake_fd], [], [], _TICK_SECONDS)
            _drain(wake_fd)
            ear.listen(beat_fd)

    def _reap(self) -> None:
        """Read every dead child, adopted ones included, so that none stays a zombie."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._exit_codes[pid] = os.waitstatus_to_exitcode(status)


class _Ear:
    """Counts the child's silence."""

    def __init__(self, settings: WatchdogSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._heard_ms = self._turned_ms = clock.boot_ms()
        self._stopped_ms: float | None = None
        self._has_beaten = False
        self.hears = True
        """False when the child closed its end: it cannot be heard any more, and silence counts."""

    def listen(self, beat_fd: int) -> None:
        try:
            beats = os.read(beat_fd, 4096)
        except BlockingIOError:
            return
        if beats:
            self._has_beaten = True
            self._heard_ms = self._clock.boot_ms()
        else:
            self.hears = False

    def is_hung(self, state: str) -> bool:
        now = self._clock.boot_ms()
        if now - self._turned_ms > _PAUSED_SECONDS * 1000:
            self._heard_ms = now
        self._turned_ms = now
        if state in ("T", "t"):
            self._stopped_ms = now if self._stopped_ms is None else self._stopped_ms
            self._heard_ms = now
            limit = self._settings.stopped_seconds
            return limit is not None and now - self._stopped_ms >= limit * 1000
        self._stopped_ms = None
        allowed = self._settings.hang_seconds if self._has_beaten else self._settings.start_seconds
        return now - self._heard_ms >= allowed * 1000


def _drain(fd: int) -> None:
    try:
        os.read(fd, 4096)
    except BlockingIOError:
        return


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
