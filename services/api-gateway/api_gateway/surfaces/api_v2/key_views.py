"""Shapes of `/api-keys`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta

from api_gateway.api_key import Brand
from api_gateway.key_store import ApiKeyAnswer, CreatedKey
from api_gateway.principal import Level
from api_gateway.surfaces.api_v2.views import PRINTABLE_PATTERN, Body, Resource, stamp

Description = Annotated[str, Meta(max_length=200, pattern=PRINTABLE_PATTERN)]


class CreateApiKey(Body, kw_only=True):
    """`prefix` is what the key begins with, for clients of the published product that look at it."""

    description: Description = ""
    level: Level
    expires_at: Annotated[datetime, Meta(tz=True)] | None = None
    prefix: Brand = Brand.TOWPATH


class ApiKey(Resource, kw_only=True):
    """`publicId` is the part of the key that is no secret; `userId` the service user in whose name the key acts."""

    id: str
    organization_id: str
    description: str
    level: Level
    public_id: str
    user_id: str
    created_at: str
    created_by_user_id: str
    last_used_at: str | None
    expires_at: str | None
    revoked_at: str | None


class CreatedApiKey(ApiKey, kw_only=True):
    """`key` is in this answer and nowhere else; a repetition by `Idempotency-Key` has null there."""

    key: str | None


def api_key_view(answer: ApiKeyAnswer) -> ApiKey:
    return ApiKey(
        id=answer.id,
        organization_id=answer.organization_id,
        description=answer.description,
        level=answer.level,
        public_id=answer.public_id,
        user_id=answer.user_id,
        created_at=stamp(answer.created_ms),
        created_by_user_id=answer.created_by,
        last_used_at=_stamp_or_none(answer.last_used_ms),
        expires_at=_stamp_or_none(answer.expires_ms),
        revoked_at=_stamp_or_none(answer.revoked_ms),
    )


def created_key_view(created: CreatedKey, *, shown: bool) -> CreatedApiKey:
    """With the key itself, or, as it is kept for repetitions, without."""
    view = api_key_view(created.answer)
    fields = {name: getattr(view, name) for name in view.__struct_fields__}
    return CreatedApiKey(**fields, key=created.text if shown else None)


def _stamp_or_none(milliseconds: int) -> str | None:
    return stamp(milliseconds) if milliseconds else None
