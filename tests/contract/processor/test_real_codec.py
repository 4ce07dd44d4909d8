"""The owner's own records through the codec that services use: they come back as they were appended."""

from __future__ import annotations

from kernel.domain.owner import OwnerCheckpointed, OwnerClaimed, OwnerSnapshotChunked, OwnerSnapshotCompleted
from kernel.log import codec
from kernel.log.envelope import Envelope, Message, Source
from kernel.processor import Codec, Owner, Ports
from tests.support.crash_points import MakeBench
from tests.support.toy_decider import ASKED, Thing, Things, ToyDecider


class _OneThing(ToyDecider):
    """Its map holds one thing from the beginning, so that a snapshot has a chunk."""

    def empty(self) -> Things:
        return Things({"A": Thing(1, "live")})


async def test_an_owners_records_pass_the_real_codec(make: MakeBench) -> None:
    bench = await make()
    real: Codec = codec
    owner = Owner(_OneThing(ASKED), 0, Ports(bench.log, real, bench.clock, bench.entropy, owner="bench"))
    await owner.claim()
    await owner.restore()
    owner.partition._marks[ASKED, "elsewhere", 3] = (5, 1)
    for action in (owner.checkpoint, owner.snapshot_step, owner.snapshot_step, owner.snapshot_step):
        await action()
        await owner.read_back()
    messages = [codec.decode(stored) for stored in await bench.log.read("run_ledger", 0, 0)]
    kinds = [OwnerClaimed, OwnerCheckpointed, OwnerClaimed, OwnerSnapshotChunked, OwnerSnapshotCompleted]
    assert [type(message.event) for message in messages] == kinds
    assert messages[1].envelope.claim == messages[0].event.claim_id
    assert messages[3].event.key == messages[3].key == "A"
    successor = Owner(ToyDecider(ASKED), 0, owner.ports)
    await successor.claim()
    await successor.restore()
    assert dict(successor.partition.state.items()) == {"A": Thing(1, "live")}
    assert not successor.partition._accepts(_derived(Source("elsewhere", 3, 5, 1)))


def _derived(source: Source) -> Message:
    envelope = Envelope("id", 0, source=source)
    return Message(ASKED, 0, 0, "A", None, envelope, 0)
