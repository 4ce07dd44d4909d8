"""The services of the cluster form as real processes, over topics, a schema and a folder of one test's own.

Everything that is started ends with the test: by SIGTERM, and by SIGKILL for what does not follow it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

from kernel.ids import SystemEntropy
from kernel.log.kafka.settings import KafkaSettings
from kernel.log.kafka.topics import create_topics
from kernel.log.topics import Topic
from tests.support.components import kafka_bootstrap
from tests.support.databases import schema_of_its_own
from tests.support.kafka_topics import KafkaTopics
from tests.support.platform_process import free_ports
from towpath.client import Client
from towpath.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PARTITIONS = 4
READY_SECONDS = 60.0
_END_SECONDS = 15.0


@dataclass(slots=True)
class Running:
    """One service process; what it says goes into files below the folder of the test."""

    name: str
    process: subprocess.Popen[bytes]
    probes: str
    told: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def said(self) -> str:
        """Its log lines and its last words."""
        return self.told.read_text()

    def lines(self, event: str) -> list[dict[str, Any]]:
        """What it logged under this name, in lines that it has finished."""
        found = [json.loads(line) for line in self.said.split("\n")[:-1] if line.startswith("{")]
        return [line for line in found if line.get("event") == event]

    def ask(self, path: str) -> tuple[int, str]:
        """Status and body of a probe; 0 when nobody listens, or dies while it answers."""
        try:
            with urllib.request.urlopen(f"http://{self.probes}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except (OSError, HTTPException):
            return 0, ""

    async def ready(self, seconds: float = READY_SECONDS) -> Running:
        """Wait until it may be sent work."""
        deadline = time.monotonic() + seconds
        while (await asyncio.to_thread(self.ask, "/health/ready"))[0] != 200:
            ended = self.process.poll()
            assert ended is None, f"{self.name} ended with {ended}: {self.said[-2000:]}"
            assert time.monotonic() < deadline, f"{self.name}: {self.ask('/health/ready')} {self.said[-2000:]}"
            await asyncio.sleep(0.05)
        return self

    async def ended(self, seconds: float = _END_SECONDS) -> int:
        """Wait for its end; the exit code."""
        return await asyncio.to_thread(self.process.wait, seconds)

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


@dataclass(slots=True)
class ServiceProcesses:
    """What the processes of one test share."""

    folder: Path
    kafka: KafkaSettings
    common: dict[str, str]
    own: dict[str, dict[str, str]] = field(default_factory=dict)
    """What processes of one module have beside, and instead."""
    running: list[Running] = field(default_factory=list)
    store_address: str = ""
    gateway_url: str = ""
    api_key: str = ""

    def environ(self, module: str, **more: str) -> dict[str, str]:
        """The environment of one process of `module`."""
        ours = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
        return {**ours, **self.common, **self._settings()[module], **self.own.get(module, {}), **more}

    def start(self, module: str, number: int = 1, *arguments: str, **more: str) -> Running:
        """Start the `number`-th process of `module` (`scheduler`, `api_gateway` and so on)."""
        name = f"{module}-{number}"
        environ = self.environ(module, TOWPATH_MEMBER=name, **more)
        probes = environ.get("API_GATEWAY_ADDRESS") if module == "api_gateway" else ""
        if not probes:
            probes = environ.setdefault("TOWPATH_PROBES", f"127.0.0.1:{free_ports(1)}")
        told = self.folder / f"{name}-{len(self.running)}.log"
        with told.open("wb") as out:
            command = [sys.executable, "-m", module, *arguments]
            process = subprocess.Popen(command, env=environ, stdout=out, stderr=out, cwd=ROOT, start_new_session=True)
        self.running.append(Running(name, process, probes, told))
        return self.running[-1]

    def run(self, module: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command of `module` to its end."""
        command = [sys.executable, "-m", module, *arguments]
        environ = self.environ(module, **more)
        return subprocess.run(command, env=environ, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    async def start_all(self) -> None:
        """One of each, ready; `client` may be asked for then."""
        store = self.start("artifact_store")
        scheduler = self.start("scheduler")
        created = await asyncio.to_thread(self.run, "api_gateway", "create-organization")
        assert created.returncode == 0, created.stderr
        self.api_key = created.stdout.splitlines()[1].split()[2]
        await store.ready()
        gateway, runner = self.start("api_gateway"), self.start("browser_runner")
        for one in (scheduler, gateway, runner):
            await one.ready()

    def client(self) -> Client:
        """Asks the first gateway as an administrator; blocks, as people's scripts do."""
        return Client(Settings(self.gateway_url, self.api_key))

    def stop_all(self) -> None:
        """End everything; what does not follow SIGTERM is killed with all below it."""
        for one in self.running:
            if one.process.poll() is None:
                one.send(signal.SIGTERM)
        for one in self.running:
            try:
                one.process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(one.pid, signal.SIGKILL)
                one.process.wait()

    def _settings(self) -> Mapping[str, Mapping[str, str]]:
        keys = self.folder / "keys"
        return {
            "scheduler": {},
            "kernel.log.kafka": {},
            "artifact_store": {
                "ARTIFACT_STORE_FOLDER": str(self.folder / "bytes"),
                "ARTIFACT_STORE_KEYRING_PATH": str(keys / "keyring.json"),
                "ARTIFACT_STORE_GATEWAY_KEY_PATH": str(keys / "gateway"),
                "ARTIFACT_STORE_RUNNER_KEY_PATH": str(keys / "runner"),
                "ARTIFACT_STORE_ADDRESS": self.store_address,
                "ARTIFACT_STORE_DRAIN_SECONDS": "5",
            },
            "browser_runner": {
                "BROWSER_RUNNER_STORE": self.store_address,
                "BROWSER_RUNNER_STORE_KEY_FILE": str(keys / "runner"),
                "BROWSER_RUNNER_BROWSER_SLOTS": "0",
                "BROWSER_RUNNER_LIGHT_SLOTS": "16",
                "BROWSER_RUNNER_DRAIN_SECONDS": "5",
            },
            "api_gateway": {
                "API_GATEWAY_ADDRESS": self.gateway_url.removeprefix("http://"),
                "API_GATEWAY_STORE": self.store_address,
                "API_GATEWAY_STORE_KEY_FILE": str(keys / "gateway"),
                "API_GATEWAY_PEPPER_FILE": str(keys / "pepper"),
                "API_GATEWAY_SIGNING_KEYS_FILE": str(keys / "signing"),
                "API_GATEWAY_RATE_PER_MINUTE": "0",
                "API_GATEWAY_ADDRESS_RATE_PER_MINUTE": "0",
            },
        }


@asynccontextmanager
async def service_processes(folder: Path, bootstrap: str = "") -> AsyncIterator[ServiceProcesses]:
    """Topics, schema, keys and addresses for processes that the test starts."""
    topics = KafkaTopics(
        KafkaSettings(bootstrap or await asyncio.to_thread(kafka_bootstrap), f"t{SystemEntropy().nonce()[:12]}")
    )
    keys, entropy = folder / "keys", SystemEntropy()
    keys.mkdir(parents=True, mode=0o700)
    for name in ("gateway", "runner", "pepper"):
        (keys / name).write_text(entropy.bytes(32).hex())
    (keys / "signing").write_text(f"k1 {entropy.bytes(32).hex()}")
    await create_topics(topics.settings, partitions=PARTITIONS)
    try:
        async with schema_of_its_own() as (url, schema):
            common = {
                "TOWPATH_KAFKA": topics.settings.bootstrap,
                "TOWPATH_TOPIC_PREFIX": topics.settings.prefix,
                "TOWPATH_POSTGRES_URL": url,
                "TOWPATH_POSTGRES_SCHEMA": schema,
                "TOWPATH_POSTGRES_CONNECTIONS": "4",
            }
            processes = ServiceProcesses(folder, topics.settings, common)
            port = free_ports(2)
            processes.store_address, processes.gateway_url = f"127.0.0.1:{port}", f"http://127.0.0.1:{port + 1}"
            try:
                yield processes
            finally:
                await asyncio.to_thread(processes.stop_all)
    finally:
        if not bootstrap:  # the test's own broker goes with its topics
            await topics.delete(tuple(Topic))
