"""What a projector stands between, in both forms of the product: a public log, and a database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api_gateway.migrations import migrations
from kernel.clock import SystemClock
from kernel.log.port import EventLog
from kernel.log.topics import Topic
from kernel.sql.port import Database, migrate
from tests.support.grounds import FORMS, ground_in

PARTITIONS = {Topic.JOB_RUNS.value: 2, Topic.DEFINITIONS.value: 2}


@pytest.fixture(params=FORMS)
async def ground(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Database, EventLog]]:
    """A database without tables, and a log with the public topics, two partitions each."""
    database, log = FORMS[request.param]
    async with ground_in(tmp_path, SystemClock(), database=database, log=log, partitions=PARTITIONS) as opened:
        yield opened


@pytest.fixture
async def db(ground: tuple[Database, EventLog]) -> Database:
    """An empty database with the gateway's tables."""
    await migrate(ground[0], migrations(ground[0].dialect))
    return ground[0]


@pytest.fixture
def log(ground: tuple[Database, EventLog]) -> EventLog:
    """An empty log with the public topics."""
    return ground[1]
