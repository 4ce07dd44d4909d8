"""The owning loop: it drives every decider over append and read of a log, and nothing is lost or doubled (design 4).

`run_decider` (all partitions) and `run_in_group` (those that a group proposes) are what a composition root calls.
`Owner` is one owner of one partition as single actions, which a simulator may take one by one.
"""

from kernel.processor.group import Group, run_in_group
from kernel.processor.loop import run_decider, run_owner, run_partition, run_proposed
from kernel.processor.owner import Action, Owner
from kernel.processor.ports import (
    Bounds,
    Codec,
    NoHint,
    Parked,
    Ports,
    ProcessorObserver,
    QuietObserver,
    SnapshotHint,
)

__all__ = [
    "Action",
    "Bounds",
    "Codec",
    "Group",
    "NoHint",
    "Owner",
    "Parked",
    "Ports",
    "ProcessorObserver",
    "QuietObserver",
    "SnapshotHint",
    "run_decider",
    "run_in_group",
    "run_owner",
    "run_partition",
    "run_proposed",
]
