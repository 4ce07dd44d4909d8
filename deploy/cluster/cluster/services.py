"""The service processes of a local cluster: some of each, one for the health of providers, and what each is told."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from cluster.components.process import kept_port
from cluster.keys import Keys
from cluster.layout import Layout
from cluster.parts import Service
from embedded.settings import Settings

MARK_VARIABLE = "TOWPATH_FOLDER"
"""Stands in the environment of every service, so that what an earlier life left behind is found."""
_EXTRA_SECONDS = 15.0
"""What a process gets beyond its own drain before it is killed."""


class Services:
    """Makes the processes of one folder. Their ports are kept from start to start where they are free."""

    def __init__(self, layout: Layout, servers: Mapping[str, str]) -> None:
        """`servers` is where Kafka, PostgreSQL and the S3 server are, as environment."""
        self._layout = layout
        self._settings = layout.settings
        self._servers = servers
        self._tables = {"TOWPATH_POSTGRES_URL_FILE": servers["TOWPATH_POSTGRES_URL_FILE"]}
        self._common = {**os.environ, "TOWPATH_KAFKA": servers["TOWPATH_KAFKA"], MARK_VARIABLE: str(layout.data)}
        ports = layout.data / "ports"
        for folder in (ports, layout.logs):
            folder.mkdir(exist_ok=True)
        self._ports = ports
        numbers = range(1, layout.copies + 1)
        gateways = [layout.settings.port, *(self._port(f"api-gateway-{number}") for number in numbers[1:])]
        self.gateways = [f"http://127.0.0.1:{port}" for port in gateways]
        stores = [f"127.0.0.1:{self._port(f'artifact-store-{number}')}" for number in numbers]
        store = ",".join(stores)
        self.stores = [self._store(number, stores[number - 1]) for number in numbers]
        self.schedulers = [self._scheduler(number) for number in numbers]
        self.health = self._service("health-1", "", self._tables, command=("scheduler", "health"))
        self.runners = [self._runner(number, store) for number in numbers]
        self.gateway_processes = [self._gateway(number, gateways[number - 1], store) for number in numbers]

    def _port(self, name: str) -> int:
        return kept_port(self._ports / name)

    @property
    def all(self) -> Sequence[Service]:
        """In the order of their start."""
        return [*self.stores, *self.schedulers, *self.runners, *self.gateway_processes, self.health]

    @property
    def stages(self) -> Sequence[Sequence[Service]]:
        """In the order of their end: who asks before who answers, so that everybody can finish."""
        return [[*self.runners, *self.gateway_processes, self.health], self.schedulers, self.stores]

    def _service(
        self,
        name: str,
        address: str,
        environment: Mapping[str, str],
        *,
        health: str = "",
        drain: float = 5.0,
        command: Sequence[str] = (),
    ) -> Service:
        """`command` is what `python -m` gets; empty: the module of that name."""
        probes = health or f"127.0.0.1:{self._port(f'{name}-probes')}"
        told = {"TOWPATH_MEMBER": name, **({} if health else {"TOWPATH_PROBES": probes})}
        return Service(
            name,
            address,
            [sys.executable, "-m", *(command or (name.rpartition("-")[0].replace("-", "_"),))],
            {**self._common, **told, **environment},
            self._layout.logs / f"{name}.log",
            health=probes,
            drain_seconds=drain + _EXTRA_SECONDS,
        )

    def _store(self, number: int, address: str) -> Service:
        environment = {**self._servers, **store_keys(self._layout.keys), "ARTIFACT_STORE_ADDRESS": address}
        return self._service(f"artifact-store-{number}", address, environment, drain=30)

    def _scheduler(self, number: int) -> Service:
        return self._service(f"scheduler-{number}", "", {})

    def _runner(self, number: int, store: str) -> Service:
        settings, copies = self._settings, self._layout.copies
        browser_slots = share(settings.browser_slots, number, copies) if settings.browser else 0
        environment = {
            "BROWSER_RUNNER_STORE": store,
            "BROWSER_RUNNER_STORE_KEY_FILE": str(self._layout.keys.of("browser-runner", "store-key")),
            "BROWSER_RUNNER_HOST_ID": f"local-{number}",
            "BROWSER_RUNNER_BROWSER_PATH": settings.browser,
            "BROWSER_RUNNER_SANDBOX": "false" if os.geteuid() == 0 else "true",
            "BROWSER_RUNNER_BROWSER_SLOTS": str(browser_slots),
            "BROWSER_RUNNER_LIGHT_SLOTS": str(share(settings.light_slots, number, copies)),
            "BROWSER_RUNNER_ALLOWED_NETWORKS": settings.egress_allow,
            "BROWSER_RUNNER_DRAIN_SECONDS": str(settings.drain_seconds),
        }
        return self._service(f"browser-runner-{number}", "", environment, drain=settings.drain_seconds)

    def _gateway(self, number: int, port: int, store: str) -> Service:
        settings, keys = self._settings, self._layout.keys
        environment = {
            **self._tables,
            "API_GATEWAY_ADDRESS": f"127.0.0.1:{port}",
            "API_GATEWAY_PUBLIC_URL": f"http://127.0.0.1:{settings.port}",
            "API_GATEWAY_STORE": store,
            "API_GATEWAY_STORE_KEY_FILE": str(keys.of("api-gateway", "store-key")),
            "API_GATEWAY_PEPPER_FILE": str(keys.of("api-gateway", "pepper")),
            "API_GATEWAY_SIGNING_KEYS_FILE": str(keys.of("api-gateway", "signing-keys")),
            "API_GATEWAY_OPEN_HOSTS": "127.0.0.1,localhost" if settings.allows_loopback else "",
            **_limits(settings),
        }
        address = f"127.0.0.1:{port}"
        return self._service(f"api-gateway-{number}", self.gateways[number - 1], environment, health=address)


def store_keys(keys: Keys) -> Mapping[str, str]:
    """Where the artifact store finds its secrets."""
    files = {"KEYRING_PATH": "keyring.json", "GATEWAY_KEY_PATH": "gateway-key", "RUNNER_KEY_PATH": "runner-key"}
    return {f"ARTIFACT_STORE_{name}": str(keys.of("artifact-store", file)) for name, file in files.items()}


def share(slots: int, number: int, copies: int) -> int:
    """What of `slots` the process of that number has, of so many."""
    return (slots + copies - number) // copies


def _limits(settings: Settings) -> dict[str, str]:
    names = ("rate_per_minute", "rate_burst", "address_rate_per_minute", "address_rate_burst")
    others = ("open_requests_max", "open_streams_max", "trusted_proxies", "retention_days")
    return {f"API_GATEWAY_{name.upper()}": str(getattr(settings, name)) for name in (*names, *others)}
