"""Where the last snapshots of the ledgers start, kept as committed offsets of a group that never has members.

Only the speed of a restore depends on it (`kernel.processor.SnapshotHint`), so whatever goes wrong here is no hint: it
is waited for shortly, told to nobody, and made good by the next snapshot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from aiokafka.protocol.api import Request
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest

from kernel.errors import TowpathError
from kernel.log.kafka.brokers import Brokers, Lost, Unreached
from kernel.log.kafka.wire import Code

_SECONDS = 2.0
_AGAIN_SECONDS = 0.1
_NO_GENERATION = -1
_FOR_EVER = -1


class KafkaHint:
    """`SnapshotHint` in the cluster; `names` gives the broker's name of each ledger."""

    def __init__(self, brokers: Brokers, group: str, names: Mapping[str, str]) -> None:
        self._brokers = brokers
        self._group = group
        self._names = names
        self._coordinator: int | None = None

    async def get(self, ledger: str, partition: int) -> int | None:
        """The start that was set last, None when there is none or nobody tells."""
        answer = await self._ask(OffsetFetchRequest(self._group, [(self._names[ledger], [partition])]), _fetch_code)
        if answer is None:
            return None
        offset = answer.topics[0][1][0][1]
        return int(offset) if offset >= 0 else None

    async def set(self, ledger: str, partition: int, start: int) -> None:
        """Remember `start`, if that is possible now."""
        topics = [(self._names[ledger], [(partition, start, "")])]
        await self._ask(OffsetCommitRequest(self._group, _NO_GENERATION, "", _FOR_EVER, topics), _commit_code)

    async def _ask(self, request: Request[Any], code_of: Callable[[Any], int]) -> Any | None:
        """The answer of whoever coordinates the group; None when there is none, or none without an error in time."""
        with suppress(TowpathError, Unreached, Lost, TimeoutError):
            async with asyncio.timeout(_SECONDS):
                while True:
                    if self._coordinator is None:
                        self._coordinator = await self._brokers.coordinator(self._group)
                    answer = await self._brokers.ask(self._coordinator, request)
                    if code_of(answer) == Code.NONE:
                        return answer
                    self._coordinator = None
                    await asyncio.sleep(self._brokers.jitter(_AGAIN_SECONDS))
        self._coordinator = None
        return None


def _fetch_code(answer: Any) -> int:
    """A broker that does not coordinate the group names no topics at all."""
    return int(answer.topics[0][1][0][3]) if answer.topics else Code.NOT_COORDINATOR


def _commit_code(answer: Any) -> int:
    return int(answer.topics[0][1][0][1])
