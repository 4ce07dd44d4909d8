"""A whole cluster that can be hurt: three brokers, PostgreSQL, S3, two of each service, a target site; proxies between.

Every connection between two processes goes through a proxy that knows who talks, so any process can be cut off from all
others. The services are those of `make up`, with the same settings. A process that died is started again, as an
orchestrator would; one that is stopped or cut off is left alone.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from enum import StrEnum
from pathlib import Path
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from browser_runner.process_tree import descendants
from cluster.components.kafka import LocalKafka
from cluster.components.postgres import LocalPostgres
from cluster.components.process import free_port
from cluster.components.s3 import LocalS3
from cluster.keeping import Keeper
from cluster.layout import Layout, read_layout
from cluster.parts import Service
from cluster.services import Services, store_keys
from embedded.folder import write_private
from tests.support.pid_proxy import PidProxy, ProxyThread

BUCKET = "towpath"
SITE_SLOW_MS = 700
_READY_SECONDS = 120.0
_KEEP_SECONDS = 0.1
_FULL_BYTES = 8192
"""No file of a broker whose disk is full grows beyond this; those of its metadata have long been larger."""


class Role(StrEnum):
    """What can be hurt."""

    GATEWAY = "api-gateway"
    SCHEDULER = "scheduler"
    RUNNER = "browser-runner"
    STORE = "artifact-store"
    BROWSER = "browser"
    BROKER = "one broker of three"
    POSTGRES = "PostgreSQL"
    S3 = "S3 server"
    TOPIC = "topic of public facts"
    EVERYTHING = "everything, one after the other"


class FaultyCluster:
    """A cluster in `folder`; a context manager. `told` gets a line for each process that was started again."""

    def __init__(self, folder: Path, *, browser: str, brokers: int = 3) -> None:
        self.folder = folder
        self.told: list[str] = []
        environ = {
            "TOWPATH_DATA": str(folder / "data"),
            "TOWPATH_PORT": str(free_port()),
            "TOWPATH_BROWSER": browser,
            "TOWPATH_EGRESS_ALLOW": "127.0.0.0/8",
            "TOWPATH_RATE_PER_MINUTE": "0",
            "TOWPATH_ADDRESS_RATE_PER_MINUTE": "0",
            "TOWPATH_OPEN_REQUESTS_MAX": "0",
            "TOWPATH_OPEN_STREAMS_MAX": "0",
        }
        self.environ = environ
        self.layout: Layout = read_layout(environ)
        self.layout.data.mkdir(parents=True, exist_ok=True)
        self._stack = ExitStack()
        self._brokers = brokers
        self._ending = threading.Event()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # what it is made of

    def _start(self) -> None:
        self.net = self._stack.enter_context(ProxyThread())
        self._start_servers()
        self._start_site()
        self._prepare()
        self._start_services()
        keeping = threading.Thread(target=self._keep, name="keeper", daemon=True)
        keeping.start()
        self._stack.callback(keeping.join, 60)
        self._stack.callback(self._ending.set)

    def _start_servers(self) -> None:
        layout = self.layout
        kafka = LocalKafka(layout.kafka, self._brokers)
        self.broker_proxies = {node: self.net.open(port) for node, port in kafka.ports.items()}
        advertised = {node: proxy.port for node, proxy in self.broker_proxies.items()}
        self.kafka = self._stack.enter_context(LocalKafka(layout.kafka, self._brokers, advertised))
        self._stack.callback(self.kafka.kill)
        self.postgres = self._stack.enter_context(LocalPostgres(layout.postgres))
        self.s3 = self._stack.enter_context(LocalS3(layout.s3))
        self.postgres_proxy = self.net.open(self.postgres.port)
        self.s3_proxy = self.net.open(int(self.s3.endpoint.rpartition(":")[2]))

    def _start_site(self) -> None:
        port = free_port()
        self.site_log = self.folder / "ordered.log"
        command = [sys.executable, "-m", "tests.support.once_site", str(port), str(self.site_log), str(SITE_SLOW_MS)]
        self.site = Service("site", "", command, os.environ, self.folder / "site.log")
        self.site.start()
        self._stack.callback(self.site.kill)
        self.site_proxy = self.net.open(port)
        self.site_url = f"http://127.0.0.1:{self.site_proxy.port}"

    def _servers_environment(self) -> dict[str, str]:
        url = self.layout.keys.of("postgres", "url")
        proxied = self.postgres.url.replace(f":{self.postgres.port}/", f":{self.postgres_proxy.port}/")
        write_private(url, proxied + "\n")
        return {
            "TOWPATH_KAFKA": self.kafka.bootstrap,
            "TOWPATH_POSTGRES_URL_FILE": str(url),
            "ARTIFACT_STORE_S3_BUCKET": BUCKET,
            "ARTIFACT_STORE_S3_ENDPOINT": f"http://127.0.0.1:{self.s3_proxy.port}",
            "ARTIFACT_STORE_S3_ACCESS_KEY_PATH": str(self.s3.access_key_file),
            "ARTIFACT_STORE_S3_SECRET_KEY_PATH": str(self.s3.secret_key_file),
        }

    def _prepare(self) -> None:
        environment = {**os.environ, **self.environ, **self._servers_environment(), **store_keys(self.layout.keys)}
        done = subprocess.run(
            [sys.executable, "-m", "cluster", "prepare"], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"topics, tables and keys could not be made: {done.stderr}"

    def _start_services(self) -> None:
        self.services = Services(self.layout, self._servers_environment())
        self.store_proxies = [self.net.open(int(store.address.rpartition(":")[2])) for store in self.services.stores]
        stores = ",".join(f"127.0.0.1:{proxy.port}" for proxy in self.store_proxies)
        for service in (*self.services.runners, *self.services.gateway_processes):
            name = "BROWSER_RUNNER_STORE" if service in self.services.runners else "API_GATEWAY_STORE"
            service.environment = {**service.environment, name: stores}
        for service in self.services.all:
            service.start()
            self._stack.callback(service.kill)
        self.await_ready()
        self.key = self.layout.settings.api_key.read_text().strip()

    def await_ready(self) -> None:
        """Wait until every service says that it is."""
        self._await(lambda: [service.name for service in self.services.all if not service.is_ready], "not ready")

    def await_in_sync(self) -> None:
        """Wait until every broker has all that it should have: only then the next one may go."""
        client = AdminClient({"bootstrap.servers": self.kafka.bootstrap, "log_level": 0})

        def behind() -> list[str]:
            try:
                topics = client.list_topics(timeout=5).topics.values()
            except KafkaException as error:
                return [str(error)]
            every = [(topic.topic, one) for topic in topics for one in topic.partitions.values()]
            return [f"{name}/{one.id}" for name, one in every if len(one.isrs) < len(one.replicas)]

        self._await(behind, "not in sync")

    def _await(self, late: Callable[[], Sequence[object]], what: str) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while those := late():
            assert time.monotonic() < deadline, f"{what}: {those}; see {self.layout.logs}"
            time.sleep(0.1)

    def _keep(self) -> None:
        keeper = Keeper(self.services.all, self.told.append, lambda: None)
        while not self._ending.wait(_KEEP_SECONDS):
            keeper.look()

    @property
    def gateways(self) -> Sequence[str]:
        """Where callers reach the two gateways; callers are outside and not cut off from them."""
        return self.services.gateways

    def service(self, role: Role, number: int) -> Service:
        """One service process, `number` 0 or 1; of the browser: the runner above it."""
        return {
            Role.GATEWAY: self.services.gateway_processes,
            Role.SCHEDULER: self.services.schedulers,
            Role.RUNNER: self.services.runners,
            Role.BROWSER: self.services.runners,
            Role.STORE: self.services.stores,
        }[role][number]

    # faults

    def kill(self, role: Role, number: int) -> Callable[[], None]:
        """SIGKILL; what is returned brings back what nobody else would."""
        match role:
            case Role.BROKER:
                self.kafka.kill(number + 1)
                return lambda: self.kafka.start(number + 1)
            case Role.POSTGRES:
                self.postgres.kill()
                return self.postgres.start
            case Role.S3:
                self.s3.kill()
                return self.s3.start
            case Role.BROWSER:
                _signal(self.browser_pids(number), signal.SIGKILL)
            case Role.RUNNER:
                _signal(self.life_pids(number)[:1], signal.SIGKILL)
            case _:
                self.service(role, number).kill()
        return _nothing

    def stop(self, role: Role, number: int) -> Callable[[], None]:
        """SIGSTOP of the process and all below it; what is returned lets it go on."""
        match role:
            case Role.BROKER:
                self.kafka.pause(number + 1)
                return lambda: self.kafka.resume(number + 1)
            case Role.POSTGRES:
                self.postgres.pause()
                return self.postgres.resume
            case Role.S3:
                self.s3.pause()
                return self.s3.resume
            case Role.BROWSER:
                pids = self.browser_pids(number)
            case _:
                service = self.service(role, number)
                pids = [pid for one in service.pids for pid in (one, *descendants(one))]
        _signal(pids, signal.SIGSTOP)
        return lambda: _signal(pids, signal.SIGCONT)

    def cut(self, role: Role, number: int, *, reset: bool) -> Callable[[], None]:
        """Cut it off from all others, silently; what is returned lets packets pass again (or resets what is left)."""
        match role:
            case Role.BROKER:
                return self._pause([self.broker_proxies[number + 1]], reset=reset)
            case Role.POSTGRES:
                return self._pause([self.postgres_proxy], reset=reset)
            case Role.S3:
                return self._pause([self.s3_proxy], reset=reset)
            case Role.BROWSER:
                return self._pause([self.site_proxy], reset=reset)
            case _:
                service = self.service(role, number)
                pids = [pid for one in service.pids for pid in (one, *descendants(one))]
                own = [self.store_proxies[number]] if role is Role.STORE else []
                return _both(self._silence(pids, reset=reset), self._pause(own, reset=reset))

    def drain(self, role: Role, number: int) -> Callable[[], None]:
        """SIGTERM, as in an update: it finishes or hands back, ends, and is started again."""
        service = self.service(role, number)
        _signal(list(service.pids), signal.SIGTERM)
        return _nothing

    def restart(self, service: Service) -> None:
        """SIGTERM, and wait until another process has its place and is ready."""
        before = list(service.pids)
        _signal(before, signal.SIGTERM)
        self._await(
            lambda: [] if list(service.pids) not in ([], before) and service.is_ready else [service.name],
            "not started again",
        )

    def move(self, role: Role, number: int, times: int) -> Callable[[], None]:
        """Restart one and then the other, so that what each owns moves to and fro."""
        for turn in range(times):
            self.restart(self.service(role, (number + turn) % 2))
        return _nothing

    def roll(self) -> Callable[[], None]:
        """Restart every service and every broker in good order, one after the other, as for an update."""
        for service in self.services.all:
            self.restart(service)
        for node in self.kafka.nodes:
            self.kafka.stop(node)
            self.kafka.start(node)
            self.await_in_sync()
        return _nothing

    def fill_disk(self, number: int) -> Callable[[], None]:
        """Let no file of a broker grow any more until it gives up; what is returned starts it with room again."""
        node = number + 1
        resource.prlimit(self.kafka.pids[node], resource.RLIMIT_FSIZE, (_FULL_BYTES, _FULL_BYTES))
        self._await(lambda: [node] if node in self.kafka.pids else [], "a broker goes on without a disk")

        def heal() -> None:
            self.kafka.start(node)
            self.await_in_sync()

        return heal

    def _silence(self, pids: Sequence[int], *, reset: bool) -> Callable[[], None]:
        for proxy in self.net.proxies:
            self.net.tell(proxy.silence, pids)

        def heal() -> None:
            for proxy in self.net.proxies:
                self.net.tell(proxy.heal, reset=reset)

        return heal

    def _pause(self, proxies: Sequence[PidProxy], *, reset: bool) -> Callable[[], None]:
        for proxy in proxies:
            self.net.tell(proxy.pause)

        def heal() -> None:
            for proxy in proxies:
                if reset:
                    self.net.tell(proxy.cut)
                self.net.tell(proxy.resume)

        return heal

    def life_pids(self, number: int) -> list[int]:
        """The runner below its watchdog, and everything below that; the runner first."""
        return [pid for one in self.services.runners[number].pids for pid in descendants(one)]

    def browser_pids(self, number: int) -> list[int]:
        """Every process of the browsers of one runner."""
        return [pid for pid in self.life_pids(number) if _is_browser(pid)]

    def ordered(self) -> list[str]:
        """What the site counted, one reference per order."""
        return self.site_log.read_text().split() if self.site_log.exists() else []

    def logs(self) -> Iterator[Path]:
        """What the services said."""
        yield from sorted(self.layout.logs.glob("*.log"))


def _nothing() -> None:
    pass


def _both(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
    def done() -> None:
        first()
        second()

    return done


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _is_browser(pid: int) -> bool:
    with suppress(OSError):
        return b"chrom" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
    return False
