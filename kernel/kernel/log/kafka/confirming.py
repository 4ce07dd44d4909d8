"""The end of a partition as whoever leads it *now* knows it.

A leader that is cut off from the other brokers does not hear that another one was elected. It goes on answering, with
an end that moves no more, for as long as it is cut off. So the leader's word is not enough where something must not be
missed, and this asks the other copies at the same time: has any of you joined a later epoch than the leader's?

What a reader can see under an epoch, and what is acknowledged there, has at least `min.insync.replicas` copies, all of
brokers that have joined that epoch: a follower's fetch names its epoch, and is refused under another. Let N copies be
kept, M of them in sync at least, and let a leader answer under epoch e after we asked. If anything had been visible or
acknowledged under a later epoch before we asked, M others than this leader would have joined that. Of the N - 1 others,
N - M have said after we asked that they keep a copy and have joined nothing later than e; so at most M - 1 can have.
Hence everything that was visible before we asked stands under e or an earlier epoch, and the leader of e has all of it
below the end that it tells (until it has, it tells none, KIP-207).

An answer says which epoch a broker has joined because the broker compares before it looks at anything else: asked for
epoch e + 1 one that keeps a copy and is not yet there calls the epoch unknown. Nothing else counts as such a word.

What this stands on, beside the protocol: M as `topics.configuration` sets it; a broker that shows nothing which fewer
than M have (KIP-966, so by default since Kafka 4.1); one that starts answers nobody before it has caught up with the
controllers, so it forgets no epoch that it had joined. When the copies of a partition are moved to other brokers
meanwhile, "the others" are those of before; a broker that is in touch learns of the move within milliseconds and keeps
no copy any more, so this is wrong only if a second one is cut off together with the leader. With one copy or two
(M = 1) the leader's word is all there is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from kernel.errors import LogRefused, LogUnavailable
from kernel.log.kafka.brokers import Brokers, Lost, Stream, Unreached
from kernel.log.kafka.settings import KafkaSettings
from kernel.log.kafka.topics import in_sync_min
from kernel.log.kafka.wire import LATER, Code, EndRequest, Lead, end_of, name_of

_PATIENCE_SECONDS = 0.2
"""How long the copies that were asked first may take before the others are asked, too."""


class Confirmer:
    """Asks leaders for their ends, and others about them. Needs `close`."""

    def __init__(self, brokers: Brokers, settings: KafkaSettings) -> None:
        self._brokers = brokers
        self._seconds = settings.request_seconds
        self._asking: set[asyncio.Task[bool]] = set()
        self._late: set[int] = set()
        """Nodes whose last word is missing: others are asked first."""

    async def end(self, stream: Stream) -> int:
        """The high watermark, with everything below it that anybody could see before this was called.

        `LogUnavailable` when nobody can be shown to lead in time, `LogRefused` when the topic is gone.
        """
        now = asyncio.get_running_loop().time
        give_up = now() + self._seconds
        while True:
            lead, why = self._brokers.lead(stream), "no leader"
            if lead is not None:
                answer = await self._asked(stream, lead)
                if isinstance(answer, int):
                    return answer
                why = answer
            if now() > give_up:
                self._brokers.topic_id(stream[0])
                raise LogUnavailable(f"{stream[0]}/{stream[1]}: {why}", self._brokers.jitter(0.2))
            with suppress(LogUnavailable):
                await self._brokers.refresh()
            await asyncio.sleep(self._brokers.jitter(0.1))

    async def close(self) -> None:
        """Wait for no answer any more. Idempotent."""
        for task in self._asking:
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)

    async def _asked(self, stream: Stream, lead: Lead) -> int | str:
        """The end, or why it is not certain. No more copies are asked than are needed, unless one is late or unsure."""
        needed = words_needed(len(lead.copies))
        others = sorted([node for node in lead.copies if node != lead.node], key=self._late.__contains__)
        words = [self._word(stream, node, lead.epoch) for node in others[:needed]]
        try:
            code, end = await self._told(stream, lead.node, lead.epoch)
        except (Unreached, Lost) as error:
            return str(error)
        if code != Code.NONE:
            if code not in LATER:
                raise LogRefused(f"{stream[0]}/{stream[1]}: {name_of(code)}")
            return name_of(code)
        if await _has_enough(words, needed, _PATIENCE_SECONDS):
            return end
        words += [self._word(stream, node, lead.epoch) for node in others[needed:]]
        return end if await _has_enough(words, needed, None) else "too few of the copies know of no later leader"

    def _word(self, stream: Stream, node: int, epoch: int) -> asyncio.Task[bool]:
        """That of `node`; when nobody waits for it any more it ends with the answer, or with the connection."""
        task = asyncio.get_running_loop().create_task(self._has_joined_nothing_later(stream, node, epoch))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)
        return task

    async def _has_joined_nothing_later(self, stream: Stream, node: int, epoch: int) -> bool:
        self._late.add(node)
        with suppress(Unreached, Lost, LogRefused):
            code, _ = await self._told(stream, node, epoch + 1)
            if code == Code.UNKNOWN_LEADER_EPOCH:
                self._late.discard(node)
                return True
        return False

    async def _told(self, stream: Stream, node: int, epoch: int) -> tuple[int, int]:
        return end_of(await self._brokers.ask(node, EndRequest(*stream, epoch)))


def words_needed(copies: int) -> int:
    """How many of the other copies must have joined nothing later: see the module."""
    in_sync = in_sync_min(copies)
    return copies - in_sync if in_sync > 1 else 0


async def _has_enough(words: Sequence[asyncio.Task[bool]], needed: int, seconds: float | None) -> bool:
    """Whether so many of `words` are given within `seconds`."""
    with suppress(TimeoutError):
        for word in asyncio.as_completed(words, timeout=seconds):
            needed -= await word
            if needed <= 0:
                break
    return needed <= 0
