"""The access list of the manual against the code: deciders, table of types, and what each service's source names."""

from __future__ import annotations

import re
from pathlib import Path

from api_gateway.registry.decider import RegistryDecider
from kernel.log.kafka.access import PROCESSES
from kernel.log.topics import TYPES, Topic, Writer
from scheduler.advance import Advance
from scheduler.dispatch import Dispatch
from tools.events.access import commands

SERVICES = Path(__file__).resolve().parents[3] / "services"
BY_NAME = {one.name: one for one in PROCESSES}
NAMED = re.compile(r"\bTopic\.([A-Z_]+)")


def test_a_process_reads_the_inputs_and_the_ledger_of_its_deciders() -> None:
    for name, decider in (("api-gateway", RegistryDecider()), ("scheduler", Advance()), ("scheduler", Dispatch())):
        assert {*decider.inputs, decider.ledger} <= set(BY_NAME[name].reads)
        assert decider.ledger in BY_NAME[name].ledgers


def test_every_writer_of_the_table_is_some_process() -> None:
    known = {writer for one in PROCESSES for writer in one.writers} | {Writer.OWNER}
    assert known >= {writer for row in TYPES.values() for writer in row.topics.values()}


def test_no_service_names_a_topic_that_it_may_neither_read_nor_write() -> None:
    for folder in SERVICES.iterdir():
        asked = BY_NAME[folder.name]
        allowed = {*asked.reads, *asked.writes}
        if folder.name == "scheduler":
            allowed |= {*BY_NAME["health"].reads, *BY_NAME["health"].writes}
        for path in folder.rglob("*.py"):
            if path.name == "cluster_checks.py":
                continue  # asks how many partitions each topic has
            named = {Topic[name] for name in NAMED.findall(path.read_text())}
            if named == {Topic.RUN_REQUESTS} and path.name == "main.py":
                continue  # asks where it ends, to see whether the log answers
            assert named <= allowed, path


def test_a_subscriber_reads_public_topics_and_nothing_else() -> None:
    mine = [command for command in commands() if "User:SUBSCRIBER" in command]
    assert len(mine) == 2
    assert not any("Write" in command or "ledger" in command or "prefixed --topic" in command for command in mine)
