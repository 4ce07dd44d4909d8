"""Derived ids are UUIDv5, as the standard library makes them, and random ones UUIDv4."""

from __future__ import annotations

import hashlib
import uuid

from hypothesis import given
from hypothesis import strategies as st

from kernel.ids import NAMESPACE, SystemEntropy, derived_id


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=4))
def test_a_derived_id_is_the_uuid_of_its_parts(parts: list[str]) -> None:
    digest = hashlib.sha1(NAMESPACE.bytes + "\x1f".join(parts).encode()).digest()
    assert derived_id(*parts) == str(uuid.UUID(bytes=digest[:16], version=5))


def test_a_random_id_is_a_uuid_of_version_4() -> None:
    texts = {SystemEntropy().uuid() for _ in range(1000)}
    assert len(texts) == 1000
    found = [uuid.UUID(text) for text in texts]
    assert {str(one) for one in found} == texts
    assert {(one.version, one.variant) for one in found} == {(4, uuid.RFC_4122)}
