"""What a route says about itself, beside its guard; the OpenAPI document is made from this and from nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Param:
    """A query parameter. `schema` is JSON Schema."""

    name: str
    about: str
    schema: tuple[tuple[str, Any], ...] = (("type", "string"),)
    required: bool = False


@dataclass(frozen=True, slots=True)
class About:
    """One operation. `body` and `answer` are structs; `answer` None is described by `media`."""

    summary: str
    answer: Any = None
    status: int = 200
    body: type | None = None
    params: tuple[Param, ...] = ()
    paged: bool = False
    media: str = "application/json"
    public: bool = False
    tagged: bool = False
    """Reads have an `ETag`, changes may name one."""
    body_may_be_empty: bool = False
    """No body stands for `{}`."""

    def opt(self) -> dict[str, Any]:
        """For a route's `opt`."""
        return {"about": self, "public": self.public}


UUID_SCHEMA = (("type", "string"), ("format", "uuid"))
FLAG_SCHEMA = (("type", "boolean"),)
PAGING = (
    Param("page", "From 1; not together with limit and offset.", (("type", "integer"), ("minimum", 1))),
    Param("page_size", "Default 10.", (("type", "integer"), ("minimum", 1), ("maximum", 100))),
    Param("limit", "Default 10; not together with page and page_size.", (("type", "integer"), ("maximum", 100))),
    Param("offset", "Rows passed over.", (("type", "integer"), ("minimum", 0))),
)


def uuid_query(name: str, about: str) -> Param:
    """A UUID filter."""
    return Param(name, about, UUID_SCHEMA)
