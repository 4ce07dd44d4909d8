"""What `make up` starts: servers, two of each service, the demo; and it keeps them running until Ctrl-C.

    launcher ── Kafka, PostgreSQL, S3 server
             ├─ two artifact stores, schedulers, gateways; one process for the health of providers
             ├─ two runners, each under its watchdog ── browsers
             └─ demo shop, demo (ends by itself)

Everything is a process of its own on this machine and everything that lasts lies in one folder, so a second start goes
on where the first one was. When the launcher dies, the kernel kills its children; what outlives that is swept at the
next start. A part that dies is started again.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from browser_runner.process_tree import sweep_orphans
from cluster.components.process import die_with_parent
from cluster.endpoints import write_endpoints
from cluster.keeping import Keeper, ending
from cluster.layout import Layout, read_layout
from cluster.logs import bound
from cluster.parts import Part, Service
from cluster.servers import Servers
from cluster.services import MARK_VARIABLE, Services, store_keys
from embedded.launcher import check
from embedded.settings import Settings
from embedded.shop import shop_arguments
from kernel.errors import LogRefused, Permanent, Rejected
from kernel.refusing import REFUSED_EXIT_CODE, UNREACHED_EXIT_CODE
from kernel.sqlite_guard import FolderLock

_READY_SECONDS = 120.0
_LOOK_SECONDS = 0.1
_DEMO_END_SECONDS = 5.0
_BOUND_SECONDS = 10.0
"""Between two looks at how long the files are that processes write to."""


def launch() -> int:
    """Start everything, wait for the end; 0 after a drain, else the code of what failed."""
    try:
        layout = read_layout()
        layout.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = FolderLock(layout.data, "launcher.lock")
        check(layout.settings)
    except (Rejected, Permanent, LogRefused, OSError) as error:
        print(f"towpath: {error.message if isinstance(error, Rejected | Permanent) else error}", file=sys.stderr)
        return 2
    try:
        return _Launch(layout).run()
    except Permanent as error:
        print(f"towpath: {error.message}", file=sys.stderr)
        return 1
    finally:
        lock.release()


class _Launch:
    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.settings: Settings = layout.settings
        self.is_new = not self.settings.api_key.exists()
        self.began = time.monotonic()
        self.servers = Servers(layout)
        self.services: Services | None = None
        self.shop: list[Service] = []
        self.demo: subprocess.Popen[bytes] | None = None
        self.asked_to_end = 0

    @property
    def parts(self) -> list[Part]:
        """All that is kept running."""
        return [*self.servers.parts, *self.shop, *(self.services.all if self.services else [])]

    def run(self) -> int:
        """The life of the cluster; see `launch`."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end_asked)
        self.layout.endpoints.unlink(missing_ok=True)
        sweep_orphans(f"{MARK_VARIABLE}={self.layout.data}")
        try:
            return self._serve()
        finally:
            self._stop()

    def _serve(self) -> int:
        self._say(f"Towpath starts on Kafka, in {self.layout.data} …")
        self._start_servers()
        self._prepare()
        if self.asked_to_end:
            return 0
        shows_demo = self.settings.demo and bool(self.settings.browser)
        if shows_demo:
            self._start_shop()
        self.services = Services(self.layout, self.servers.environment())
        for service in self.services.all:
            service.start()
        code = self._await_ready(self.services.all)
        if code or self.asked_to_end:
            return code
        self._write_endpoints()
        self._say_where()
        if shows_demo:
            self.demo = self._start_demo()
        self._keep()
        return 0

    # starting

    def _start_servers(self) -> None:
        """All at once, as each waits for something else; the first failure is raised when all have had their turn."""
        with ThreadPoolExecutor(len(self.servers.parts)) as pool:
            starting = {pool.submit(part.start): part for part in self.servers.parts}
            for done in as_completed(starting):
                if done.exception() is None:
                    self._tell_ready(starting[done])
        for done in starting:
            done.result()

    def _prepare(self) -> None:
        """Topics, tables and keys; raises `Permanent` when that fails."""
        environment = {
            **os.environ,
            **self.servers.environment(),
            **store_keys(self.layout.keys),
            "TOWPATH_DATA": str(self.layout.data),
        }
        command = [sys.executable, "-m", "cluster", "prepare"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Permanent("preparing_failed", done.stderr.strip().removeprefix("towpath: "))
        self._say(f"  {self._elapsed()}  topics, tables, bucket and keys are there")

    def _start_shop(self) -> None:
        """Before the services: a run that was interrupted goes on at once, and wants its shop."""
        log = self.layout.data / "demo-shop" / "shop.log"
        command = [sys.executable, *shop_arguments(self.settings, self.settings.port + 1)]
        shop = Service("demo-shop", self.settings.shop_address.read_text().strip(), command, os.environ, log)
        shop.start()
        self.shop = [shop]

    def _await_ready(self, services: Sequence[Service]) -> int:
        """Wait until all are; 0, or the code of the first that cannot work or is too late."""
        waiting = list(services)
        deadline = time.monotonic() + _READY_SECONDS
        while waiting and not self.asked_to_end:
            for service in list(waiting):
                if service.is_ready:
                    waiting.remove(service)
                    self._tell_ready(service)
                elif not service.is_running:
                    how = ending(service.exit_code)
                    self._complain(f"{service.name} ended ({how}): {service.last_word()}\n  see {service.log}")
                    return REFUSED_EXIT_CODE if service.exit_code == REFUSED_EXIT_CODE else 1
            if time.monotonic() > deadline:
                late = ", ".join(service.name for service in waiting)
                self._complain(f"not ready after {_READY_SECONDS:.0f} s: {late}; see {self.layout.logs}")
                return UNREACHED_EXIT_CODE
            time.sleep(_LOOK_SECONDS)
        return 0

    def _start_demo(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "embedded", "demo"],
            env={**os.environ, "TOWPATH_DATA": str(self.layout.data)},
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 (one system call, prepared before)
        )

    # serving

    def _keep(self) -> None:
        """Look after everything until somebody asks for the end."""
        keeper = Keeper(self.parts, lambda line: self._say(f"  {line}"), self._write_endpoints)
        told, bounded = False, float("-inf")
        while not self.asked_to_end:
            keeper.look()
            if time.monotonic() - bounded >= _BOUND_SECONDS:
                bounded = time.monotonic()
                for log in self.layout.log_files:
                    bound(log)
            if not told and (self.demo is None or self.demo.poll() is not None):
                told = True
                self._say(f"\nTowpath keeps serving on {self.settings.url}. Ctrl-C ends it.")
            time.sleep(_LOOK_SECONDS)

    def _write_endpoints(self) -> None:
        assert self.services is not None
        write_endpoints(self.layout.endpoints, self.services.gateways, self.servers, self.parts)

    # ending

    def _end_asked(self, *_: object) -> None:
        self.asked_to_end += 1
        if self.asked_to_end == 1:
            self._say("\nTowpath drains: running work ends or is handed back. Once more to end at once.")
        else:
            for part in self.parts:
                part.kill()

    def _stop(self) -> None:
        """Who asks ends before who answers; at the end nothing of ours runs."""
        self._stop_demo()
        stages: list[Sequence[Part]] = [*self.services.stages] if self.services else []
        for stage in [*stages, self.shop, self.servers.parts]:
            _all_at_once(stage)
        self.layout.endpoints.unlink(missing_ok=True)

    def _stop_demo(self) -> None:
        if self.demo is None or self.demo.poll() is not None:
            return
        self.demo.terminate()
        try:
            self.demo.wait(_DEMO_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.demo.kill()

    # telling

    def _say(self, line: str) -> None:
        print(line, flush=True)

    def _complain(self, line: str) -> None:
        print(f"towpath: {line}", file=sys.stderr, flush=True)

    def _elapsed(self) -> str:
        return f"{time.monotonic() - self.began:5.1f} s"

    def _tell_ready(self, part: Part) -> None:
        pids = ", ".join(map(str, part.pids))
        self._say(f"  {self._elapsed()}  {part.name:<18} {part.address:<36} process {pids}")

    def _say_where(self) -> None:
        assert self.services is not None
        settings = self.settings
        self._say("")
        for url in self.services.gateways:
            self._say(f"  REST        {url}/api/v2   (OpenAPI: {url}/api/v2/openapi.json)")
        self._say(f"  data        {self.layout.data}   (logs in {self.layout.logs.name}, addresses in endpoints.json)")
        if self.is_new:
            self._say(f"  API key     {settings.api_key.read_text().strip()}   (kept in {settings.api_key})")
        else:
            self._say(f"  API key     in {settings.api_key}")
        if settings.egress_allow:
            self._say(f"  egress      TOWPATH_EGRESS_ALLOW={settings.egress_allow}   (beside the public network)")
        if not settings.browser:
            self._say("  browser     none: only workflows without pages run, and no demo (set TOWPATH_BROWSER)")
        elif os.geteuid() == 0:
            self._say(
                "  WARNING     running as root: Chromium's sandbox is OFF. Be an ordinary user for foreign sites."
            )
        self._say("")


def _all_at_once(parts: Iterable[Part]) -> None:
    """End some parts side by side; blocks until all have."""
    stopping = list(parts)
    if stopping:
        with ThreadPoolExecutor(len(stopping)) as pool:
            list(pool.map(lambda part: part.stop(), stopping))
