"""Which blobs a record names: what is found by the annotations is what is there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import pytest

from artifact_store.naming import blobs_of
from kernel.domain.artifact import ArtifactCreated, StagedArtifact
from kernel.domain.values import Document, SealedBody
from kernel.log.topics import TYPES
from tests.support.events import sample


def found_by_looking_everywhere(value: Any) -> Iterator[str]:
    """The slow way: every field and every member, whatever its annotation says."""
    if isinstance(value, SealedBody | Document):
        yield from [value.blob] if value.blob else []
    elif isinstance(value, StagedArtifact | ArtifactCreated):
        yield value.sha256
    elif isinstance(value, tuple):
        for item in value:
            yield from found_by_looking_everywhere(item)
    elif is_dataclass(value):
        for field in fields(value):
            yield from found_by_looking_everywhere(getattr(value, field.name))


@pytest.mark.parametrize("cls", list(TYPES), ids=lambda cls: cls.__name__)
def test_every_blob_that_stands_in_a_record_is_named(cls: type) -> None:
    event = sample(cls)
    named = list(blobs_of(event))
    assert named == list(found_by_looking_everywhere(event))
