"""Reading a ledger partition up to our own claim, and what its inputs still add to that."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import suppress

from kernel.domain.decider import Decider
from kernel.domain.owner import OwnerCheckpointed, OwnerSnapshotCompleted
from kernel.errors import LogRefused, NotOwner, UnknownType
from kernel.log.envelope import Message
from kernel.log.port import Stored
from kernel.log.topics import TOPICS
from kernel.processor.deriving import Ledger
from kernel.processor.ledger import LedgerFold, Mark, MarkKey, Restored, raise_mark
from kernel.processor.ports import Codec, Ports
from kernel.processor.turns import giving_way
from kernel.processor.values import StateValues

_READ_RECORDS = 1000
_LOOKED_AT_RECORDS = 100
"""Of a partition that others write to as well; among so many of the first ones there is one of the decider's. Of a
ledger the last ones: an owner whose inputs are all decided writes a checkpoint, and then nothing but claims."""


async def restore_partition(
    decider: Decider, values: StateValues, ports: Ports, ledger: Ledger, claim_offset: int
) -> Restored:
    """The partition as the ledger tells it up to the claim at `claim_offset`. Reads only; may be repeated.

    It begins at the hinted snapshot, and when that is none at the first kept record. Raises `LogRefused` when neither
    leads to a whole state, `NotOwner` when the ledger has gone on without us, and what the codec raises.
    """
    hinted = await ports.hint.get(ledger.topic, ledger.partition)
    while True:
        first = await ports.log.start_offset(ledger.topic, ledger.partition)
        if first > claim_offset:
            raise NotOwner(f"the claim in {ledger.topic}/{ledger.partition} is deleted: others claimed since")
        base = hinted if hinted is not None and first < hinted < claim_offset else first
        restored = await _fold(decider, values, ports, ledger, base=base, claim_offset=claim_offset)
        # An owner that claimed after us may delete while we read; what it left out would be missing in the fold.
        if await ports.log.start_offset(ledger.topic, ledger.partition) > base:
            continue
        if restored is not None:
            return restored
        if base == first:
            raise LogRefused(f"{ledger.topic}/{ledger.partition} begins at {first} without a complete snapshot")
        hinted = None


async def _fold(
    decider: Decider, values: StateValues, ports: Ports, ledger: Ledger, *, base: int, claim_offset: int
) -> Restored | None:
    fold = LedgerFold(base)
    add, decode = fold.add, ports.codec.decode
    async for batch in _batches(ports, ledger.topic, ledger.partition, base, claim_offset + 1):
        for stored in batch:
            try:
                add(decode(stored))
            except UnknownType as error:
                where = f"{ledger.topic}/{ledger.partition} holds a {error} at {stored.offset}"
                raise LogRefused(
                    f"{where}, which this build does not know: run the build that wrote it, or a newer one"
                ) from error
    return await giving_way(fold.finish(decider, values))


def known_messages(codec: Codec, records: Iterable[Stored]) -> Iterator[Message]:
    """What of `records` this build can read. Of what others wrote only claims matter, which every build knows."""
    for stored in records:
        try:
            yield codec.decode(stored)
        except UnknownType:
            continue


async def marks_of_inputs(decider: Decider, ports: Ports, partition: int, restored: Restored) -> dict[MarkKey, Mark]:
    """The watermarks as the restored positions imply them.

    Those that a checkpoint carries, raised by the sources of all inputs that were decided since: also of inputs that
    led to nothing, which no ledger record tells.
    """
    marks = dict(restored.carried.watermarks)
    for topic in decider.inputs:
        begin, end = restored.carried.positions.get(topic, 0), restored.positions.get(topic, 0)
        async for batch in _batches(ports, topic, partition, begin, end):
            for stored in batch:
                try:
                    source = ports.codec.decode(stored).envelope.source
                except Exception:  # noqa: BLE001, S112 (it was parked when it was its turn: nothing was accepted from it)
                    continue
                if source is not None:
                    key = (topic, source.topic_id, source.partition)
                    raise_mark(marks, key, (source.offset, source.index))
    return marks


async def _batches(ports: Ports, topic: str, partition: int, begin: int, end: int) -> AsyncIterator[list[Stored]]:
    """The kept records of [begin, end), which is all readable or about to be, as they are read."""
    while begin < end:
        records = await ports.log.read(
            topic, partition, begin, max_records=min(end - begin, _READ_RECORDS), wait_seconds=1.0
        )
        if records:
            begin = records[-1].offset + 1
            yield records if begin <= end else [stored for stored in records if stored.offset < end]
        elif await ports.log.start_offset(topic, partition) >= end:
            return


async def refuse_recreated(
    decider: Decider, ports: Ports, topic_ids: dict[str, str], partition: int, restored: Restored
) -> None:
    """Raise `LogRefused` when an input or the ledger is another topic than the one that decisions were made in."""
    _refuse_other_topics(restored, topic_ids)
    await _refuse_lost_ledger(decider, ports, partition, restored)


def _refuse_other_topics(restored: Restored, topic_ids: dict[str, str]) -> None:
    """No stored position belongs to another topic than the one of its name today."""
    for topic, topic_id in restored.topic_ids.items():
        if topic_ids.get(topic, topic_id) != topic_id:
            raise LogRefused(
                f"{topic} was recreated or belongs to another cluster: {topic_id} became {topic_ids[topic]}"
            )


async def _refuse_lost_ledger(decider: Decider, ports: Ports, partition: int, restored: Restored) -> None:
    """Nothing was ever decided here, or nobody knows of decisions of another ledger of this name.

    A ledger that was deleted and made anew is empty, and an owner that began in it would decide again what its inputs
    still hold. It is looked for only in a partition that has inputs and no decision yet.
    """
    log = ports.log
    if restored.now_ms or not any([await log.end_offset(topic, partition) for topic in decider.inputs]):
        return
    ledgers = await _ids_of_ledgers(ports)
    async for where, topic_id in _sources_that_others_know(decider, ports, ledgers):
        if topic_id not in ledgers.values():
            raise LogRefused(
                f"{decider.ledger} was recreated: it is empty, and {where} holds what was decided in"
                f" {topic_id}; restore a backup, or begin anew with every topic of another prefix"
            )


async def _sources_that_others_know(
    decider: Decider, ports: Ports, ledgers: Iterable[str]
) -> AsyncIterator[tuple[str, str]]:
    """Where a ledger is named that decisions were made in, and its id.

    `Decider.told` was told of them, though perhaps only for a time; what was accepted of that stands for ever in the
    ledger of whoever accepted it, in its last checkpoint or snapshot, which is near its end.
    """
    log = ports.log
    for at in range(log.partitions(decider.told)):
        records = await log.read(decider.told, at, 0, max_records=_LOOKED_AT_RECORDS)
        for message in known_messages(ports.codec, records):
            if message.envelope.source is not None:
                yield f"{decider.told}/{at}", message.envelope.source.topic_id
    for topic in (topic for topic in ledgers if topic != decider.ledger):
        for at in range(log.partitions(topic)):
            begin = max(0, await log.end_offset(topic, at) - _LOOKED_AT_RECORDS)
            records = await log.read(topic, at, begin, max_records=_LOOKED_AT_RECORDS)
            for message in known_messages(ports.codec, records):
                if isinstance(message.event, OwnerCheckpointed | OwnerSnapshotCompleted):
                    for mark in message.event.watermarks:
                        yield f"{topic}/{at}", mark.topic_id


async def _ids_of_ledgers(ports: Ports) -> dict[str, str]:
    found = {}
    for topic, row in TOPICS.items():
        if row.ledger:
            with suppress(KeyError):  # a log with fewer topics than ours: one of a test
                found[topic.value] = await ports.log.topic_id(topic)
    return found


async def await_inputs(decider: Decider, ports: Ports, partition: int, restored: Restored) -> None:
    """Wait until each input reaches as far as it was decided.

    A new leader of a partition may know its high watermark late. An input that stays shorter has lost records, and what
    would be appended to it next would be taken for decided: `LogRefused` after `Bounds.end_wait_seconds`.
    """
    begin = ports.clock.boot_ms()
    for topic in decider.inputs:
        while await ports.log.end_offset(topic, partition) < restored.positions.get(topic, 0):
            if ports.clock.boot_ms() - begin >= ports.bounds.end_wait_seconds * 1000:
                raise LogRefused(f"{topic}/{partition} ends before {restored.positions[topic]}, which was decided")
            await ports.clock.sleep(0.1)
