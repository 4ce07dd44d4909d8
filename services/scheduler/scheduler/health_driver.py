"""Faust's own driver for Kafka, without what costs it several times as much as all the counting.

It takes records from the broker as each comes, where figures may wait for a second; and of each record that it hands
on it makes four tasks, only to find that nobody has to wait. What an agent gets is the same, in the same order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from inspect import iscoroutine
from typing import Any

from faust.transport.drivers import aiokafka
from mode.services import WaitResults

PAUSE_SECONDS = 0.9
"""Between two fetches, unless nothing comes or a lot does: what comes within it is taken at once."""
MANY_RECORDS = 1000
"""So many at once are a backlog, which is taken without a pause."""

_OF_A_RECORD = 2


class _Thread(aiokafka.AIOKafkaConsumerThread):
    _pause_seconds = 0.0

    async def getmany(self, active_partitions: Any, timeout: float) -> Any:  # noqa: ASYNC109 (Faust's own shape)
        """Records by partition, as soon as there are any; after some of them not before the pause is over."""
        await asyncio.sleep(self._pause_seconds)
        records = await super().getmany(active_partitions, timeout)
        count = sum(map(len, records.values()))
        self._pause_seconds = PAUSE_SECONDS if 0 < count < MANY_RECORDS else 0.0
        return records


class _Consumer(aiokafka.Consumer):
    def _new_consumer_thread(self) -> _Thread:
        return _Thread(self, loop=self.loop, beacon=self.beacon)

    async def wait_first(self, *coros: Any, timeout: Any = None) -> WaitResults:  # noqa: ASYNC109 (Faust's own shape)
        """As Faust's; of two, the first one may be over before a task is made of either.

        Faust waits so for each record: until it is handed on, or until partitions move meanwhile.
        """
        if timeout is not None or len(coros) != _OF_A_RECORD or not all(map(iscoroutine, coros)):
            return await super().wait_first(*coros, timeout=timeout)
        handing_on, suspended = coros
        try:
            waits_for = handing_on.send(None)
        except StopIteration as ended:
            suspended.close()
            return WaitResults([handing_on], [ended.value], stopped=False)
        except BaseException:
            suspended.close()
            raise
        return await super().wait_first(_Begun(handing_on, waits_for), suspended)


class _Begun:
    """A coroutine that has begun and waits for something: whoever awaits this goes on with it."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], waits_for: Any) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, Any]:
        waits_for = self._waits_for
        while True:
            go_on: Callable[[Any], Any] = self._coroutine.send
            try:
                told = yield waits_for
            except BaseException as error:  # noqa: BLE001 (it is the coroutine's: a cancellation, for one)
                go_on, told = self._coroutine.throw, error
            try:
                waits_for = go_on(told)
            except StopIteration as ended:
                return ended.value


class Transport(aiokafka.Transport):
    """What a Faust app is given as its `transport`."""

    Consumer = _Consumer
