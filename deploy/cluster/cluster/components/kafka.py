"""Apache Kafka as local processes, one or several nodes that are broker and controller at once (KRaft).

What makes it start in about two seconds is prepared once per machine, beside the jars: a formatted folder that each
node begins with, and an archive of loaded classes. The settings are those of a cluster on one loopback: it forgets a
node that was killed after two seconds instead of nine, so that a single one that comes back answers at once.

A node writes to the page cache and not through to the disk, as Kafka does everywhere: what was acknowledged survives a
killed process, and of a machine that loses power only with other nodes on other machines.
"""

from __future__ import annotations

import base64
import fcntl
import functools
import hashlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from cluster.components.metadata import brokers
from cluster.components.process import Process, free_port, kept_port
from cluster.components.tools import bring
from kernel.errors import Permanent

_START_SECONDS = 60.0
_STOP_SECONDS = 20.0
_MEMORY = (
    *("-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
    *("-XX:MaxDirectMemorySize=64m", "-XX:-UsePerfData", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"),
)
_PROPERTIES: Mapping[str, str] = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.session.timeout.ms": "1000",
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "500",
    "num.io.threads": "2",
    "num.network.threads": "2",
    "num.recovery.threads.per.data.dir": "2",
    "log.cleaner.dedupe.buffer.size": "4194304",
}


class LocalKafka:
    """A cluster in `folder`; `with` starts it, and stops it at the end. Node numbers begin with 1.

    The folder is kept between starts unless somebody removes it, addresses included as long as their ports are free.
    `start` raises `Permanent("component_missing")` without Java or jars, `Permanent("component_failed")` when a node
    does not come up. `advertised` names, per node, another port of 127.0.0.1 that clients and other nodes are told, as
    of a proxy; `voters` the same of the nodes as controllers, whose own ports are `controllers`.
    """

    def __init__(
        self,
        folder: Path,
        nodes: int = 1,
        advertised: Mapping[int, int] | None = None,
        voters: Mapping[int, int] | None = None,
    ) -> None:
        self.folder = folder
        self.nodes = range(1, nodes + 1)
        folder.mkdir(parents=True, exist_ok=True)
        self.ports = {node: kept_port(folder / f"port-{node}") for node in self.nodes}
        self.controllers = {node: kept_port(folder / f"controller-port-{node}") for node in self.nodes}
        self._advertised = {**self.ports, **(advertised or {})}
        self._voters = {**self.controllers, **(voters or {})}
        self._processes = {node: Process(f"Kafka node {node}", folder / f"node-{node}.log") for node in self.nodes}

    @property
    def bootstrap(self) -> str:
        """What clients are given: `host:port,host:port`."""
        return ",".join(f"127.0.0.1:{port}" for port in self._advertised.values())

    @property
    def pids(self) -> dict[int, int]:
        """Processes of the running nodes."""
        return {node: process.pid for node, process in self._processes.items() if process.pid is not None}

    @property
    def is_running(self) -> bool:
        """Whether every node exists, be it paused."""
        return len(self.pids) == len(self.nodes)

    def start(self, node: int | None = None) -> None:
        """Start what does not run, or one node, and wait until clients are answered by all that run."""
        prepared = _prepared()
        for each in [node] if node else self.nodes:
            if not self._processes[each].is_running:
                self._format(each, prepared)
                self._processes[each].start(prepared.command("kafka.Kafka", str(self._properties(each))))
        for each in self.nodes:
            if self._processes[each].is_running:
                self._processes[each].await_ready(functools.partial(self._is_whole, self.ports[each]), _START_SECONDS)

    def stop(self, node: int | None = None) -> None:
        """End it in order: leadership moves, logs are closed. A node that hangs is killed."""
        for each in [node] if node else self.nodes:
            self._processes[each].stop(signal.SIGTERM, _STOP_SECONDS)

    def kill(self, node: int | None = None) -> None:
        """End all nodes, or one, by SIGKILL."""
        for each in [node] if node else self.nodes:
            self._processes[each].kill()

    def pause(self, node: int | None = None) -> None:
        """Let all nodes, or one, hang until `resume`."""
        for each in [node] if node else self.nodes:
            self._processes[each].pause()

    def resume(self, node: int | None = None) -> None:
        """Let paused nodes go on."""
        for each in [node] if node else self.nodes:
            self._processes[each].resume()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _is_whole(self, port: int) -> bool:
        """Whether the node at `port` knows of every node that runs."""
        return brokers(port) >= max(1, len(self.pids))

    def _format(self, node: int, prepared: _Prepared) -> None:
        """What `kafka-storage format` would write, copied from the prepared folder, unless the node has it."""
        data = self.folder / f"node-{node}"
        if (data / "meta.properties").exists():
            return
        shutil.rmtree(data, ignore_errors=True)
        kept = self.folder / "cluster-id"
        if not kept.exists():
            kept.write_text(base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("="))
        making = self.folder / f"node-{node}.part"
        shutil.rmtree(making, ignore_errors=True)
        shutil.copytree(prepared.template, making)
        (making / "meta.properties").write_text(f"version=1\ncluster.id={kept.read_text()}\nnode.id={node}\n")
        making.rename(data)

    def _properties(self, node: int) -> Path:
        """The node's configuration, written anew at each start."""
        replicas = str(min(3, len(self.nodes)))
        in_sync = str(2 if len(self.nodes) >= 3 else 1)  # what a majority of three can still give
        voters = ",".join(f"{each}@127.0.0.1:{port}" for each, port in self._voters.items())
        own = {
            "node.id": str(node),
            "log.dirs": str(self.folder / f"node-{node}"),
            "controller.quorum.voters": voters,
            "listeners": f"PLAINTEXT://127.0.0.1:{self.ports[node]},CONTROLLER://127.0.0.1:{self.controllers[node]}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self._advertised[node]},"
            f"CONTROLLER://127.0.0.1:{self._voters[node]}",
            "offsets.topic.replication.factor": replicas,
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": in_sync,
            "share.coordinator.state.topic.replication.factor": replicas,
            "share.coordinator.state.topic.min.isr": in_sync,
            "default.replication.factor": replicas,
            "min.insync.replicas": in_sync,
        }
        path = self.folder / f"node-{node}.properties"
        path.write_text("".join(f"{name}={value}\n" for name, value in {**_PROPERTIES, **own}.items()))
        return path


class _Prepared:
    """The jars, and what was made from them for one installation of Java."""

    def __init__(self, java: str, jars: Path) -> None:
        real = Path(java).resolve()
        key = hashlib.sha256(f"{real} {real.stat().st_mtime_ns} {jars}".encode()).hexdigest()[:12]
        self._java = java
        self._jars = sorted(jars.glob("*.jar"))
        self.folder = jars.parent / f"prepared-{jars.name}-{key}"
        self.template = self.folder / "template"
        self._archive = self.folder / "classes.jsa"

    def command(self, main: str, *arguments: str) -> list[str]:
        """Java with our flags; the archive of classes is used when it is there."""
        archive = [f"-XX:SharedArchiveFile={self._archive}", "-Xshare:auto"] if self._archive.exists() else []
        return [self._java, *_MEMORY, *archive, "-cp", self._class_path, main, *arguments]

    @property
    def _class_path(self) -> str:
        """In one order always, as the archive holds for exactly this one."""
        return ":".join(map(str, self._jars))

    def make(self) -> None:
        """Format the folder that nodes begin with, and let a node write down the classes that it loads. Once, 8 s."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            port, controller = free_port(), free_port()
            properties = folder / "server.properties"
            own = {
                "node.id": "1",
                "log.dirs": str(folder / "data"),
                "controller.quorum.voters": f"1@127.0.0.1:{controller}",
                "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
            }
            properties.write_text("".join(f"{name}={value}\n" for name, value in {**_PROPERTIES, **own}.items()))
            _run(self.command("kafka.tools.StorageTool", "format", "-t", "template", "-c", str(properties)))
            making = self.folder.with_name(self.folder.name + ".part")
            shutil.rmtree(making, ignore_errors=True)
            shutil.copytree(folder / "data", making / "template")
            archiving = [self._java, *_MEMORY, f"-XX:ArchiveClassesAtExit={making / 'classes.jsa'}"]
            node = Process("Kafka, to be prepared,", folder / "node.log")
            node.start([*archiving, "-cp", self._class_path, "kafka.Kafka", str(properties)])
            node.await_ready(lambda: brokers(port) >= 1, _START_SECONDS)
            node.stop(signal.SIGTERM, _START_SECONDS)
            making.rename(self.folder)


def _prepared() -> _Prepared:
    """What nodes start from, made now if this machine has none yet. Several processes may ask at once."""
    jars = bring("kafka")
    java = shutil.which("java")
    if java is None:
        raise Permanent("component_missing", "Apache Kafka needs Java, and there is no `java` on PATH")
    prepared = _Prepared(java, jars)
    if not prepared.folder.exists():
        with (jars.parent / "prepare.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not prepared.folder.exists():
                prepared.make()
    return prepared


def _run(command: list[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "CLASSPATH"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        raise Permanent("component_failed", f"Kafka's storage cannot be formatted:\n{done.stdout}{done.stderr}")
