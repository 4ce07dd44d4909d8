"""How partitions are spread over the members of a group: evenly, and with as few moves as that allows. Pure.

A member says what it owns as it joins, so a partition stays where its map is in memory, and a member that comes or goes
moves only what must move. What the members say may be wrong or overlap; the outcome is a proposal and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

Owned = Mapping[str, Iterable[int]]
"""Topic to partitions."""


def spread(topics: Mapping[str, int], owned: Mapping[str, Owned]) -> dict[str, dict[str, list[int]]]:
    """For each member of `owned` what it shall have of each topic; `topics` tells how many partitions there are.

    Of one topic no member gets more than one partition above another; who gets one more of one topic gets no more of
    the next as long as others can.
    """
    shares: dict[str, dict[str, list[int]]] = {member: {} for member in owned}
    if not shares:
        return shares
    for topic, partitions in sorted(topics.items()):
        said = {member: frozenset(of.get(topic, ())) for member, of in owned.items()}
        total = {member: sum(map(len, share.values())) for member, share in shares.items()}
        for member, share in _spread_one(partitions, said, total).items():
            shares[member][topic] = share
    return shares


def _spread_one(partitions: int, said: Mapping[str, frozenset[int]], total: Mapping[str, int]) -> dict[str, list[int]]:
    """One topic; `total` is what each member has of the topics before."""
    kept = _undisputed(partitions, said)
    least, more = divmod(partitions, len(kept))
    by_claim = sorted(kept, key=lambda member: (total[member], -len(kept[member]), member))
    room = {member: least + (place < more) for place, member in enumerate(by_claim)}
    shares = {member: kept[member][: room[member]] for member in kept}
    free = sorted(set(range(partitions)).difference(*shares.values()))
    for member, share in sorted(shares.items()):
        missing = room[member] - len(share)
        shares[member], free = sorted([*share, *free[:missing]]), free[missing:]
    return shares


def _undisputed(partitions: int, said: Mapping[str, frozenset[int]]) -> dict[str, list[int]]:
    """What each member may keep: of two that say they own the same one, the first by name."""
    taken: set[int] = set()
    kept = {}
    for member, owned in sorted(said.items()):
        kept[member] = sorted(partition for partition in owned - taken if 0 <= partition < partitions)
        taken |= owned
    return kept
