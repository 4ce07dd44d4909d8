"""Derived ids are UUIDv5, as the standard library makes them."""

from __future__ import annotations

import hashlib
import uuid

from hypothesis import given
from hypothesis import strategies as st

from kernel.ids import NAMESPACE, derived_id


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=4))
def test_a_derived_id_is_the_uuid_of_its_parts(parts: list[str]) -> None:
    digest = hashlib.sha1(NAMESPACE.bytes + "\x1f".join(parts).encode()).digest()
    assert derived_id(*parts) == str(uuid.UUID(bytes=digest[:16], version=5))
