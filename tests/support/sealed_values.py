"""Sealed values inside events, found and opened with every key that a vault still gives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import fields, is_dataclass
from typing import Any

from kernel.domain.ids import OrganizationId, SubjectId
from kernel.domain.values import Sealed, SealedBody
from kernel.errors import SecretUnavailable
from kernel.sealing import PURPOSE_JSON, PURPOSE_TEXT, SubjectCipher
from kernel.store.port import GatewayOpener, Vault


def sealed_in(value: Any) -> Iterator[Sealed | SealedBody]:
    """Every sealed value inside an event."""
    if isinstance(value, Sealed | SealedBody):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from sealed_in(item)
    elif is_dataclass(value):
        for member in fields(value):
            yield from sealed_in(getattr(value, member.name))


def customer_of(events: Iterable[Any]) -> SubjectId:
    """The subject of most sealed values: the end customer of a story."""
    subjects = [box.subject_id for event in events for box in sealed_in(event) if box.subject_id]
    return max(set(subjects), key=subjects.count)


async def all_that_opens(
    vault: Vault,
    subjects: Iterable[tuple[SubjectId, OrganizationId]],
    events: Iterable[Any],
    tables: Iterable[tuple[str, Iterable[Iterable[Any]]]],
) -> list[bytes]:
    """What comes out of every box of every record and every cell, tried with the key of every subject."""
    boxes = {box.box for event in events for box in sealed_in(event) if box.box}
    boxes |= {cell for _, rows in tables for row in rows for cell in row if isinstance(cell, bytes)}
    opened = []
    for subject, organization in subjects:
        cipher = SubjectCipher(subject, await vault.subject_key(subject, GatewayOpener(organization)))
        for box in boxes:
            for purpose in (PURPOSE_TEXT, PURPOSE_JSON):
                with suppress(SecretUnavailable):
                    opened.append(cipher.unseal(box, purpose))
    return opened
