"""`python -m kernel.log.kafka create-topics`: make the topics that are missing; nothing that is there is changed."""

from __future__ import annotations

import argparse
import os
import sys

from kernel.log.kafka.settings import kafka_settings
from kernel.log.kafka.topics import PARTITIONS, create_topics
from kernel.refusing import run_command


def main() -> int:
    """The exit code; refusals are one line."""
    parser = argparse.ArgumentParser(prog="python -m kernel.log.kafka", description="Topics at the broker.")
    creating = parser.add_subparsers(required=True).add_parser(
        "create-topics", help="create the topics that are missing"
    )
    creating.add_argument("--partitions", type=int, default=PARTITIONS, help="fixed at creation; default %(default)s")
    creating.add_argument("--replication", type=int, help="default: three, or as many as there are brokers")
    given = parser.parse_args()

    async def create() -> int:
        settings = kafka_settings(os.environ)
        await create_topics(settings, given.partitions, given.replication)
        print(f"the topics of {settings.prefix} are there")  # noqa: T201 (a command)
        return 0

    return run_command("kafka", create)


if __name__ == "__main__":
    sys.exit(main())
