"""Signed download URLs: whoever holds one may fetch one artifact for a quarter of an hour. Pure.

The signature covers method, path, organization, artifact, disposition, expiry, key id and file name, so that no part
can be exchanged. Two keys may be active, for rotation; the first one signs. A clock may be wrong by `SKEW_MS`.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

from kernel.domain.ids import ArtifactId, OrganizationId
from kernel.errors import Rejected

LIFETIME_MS = 15 * 60 * 1000
SKEW_MS = 5_000


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """Keys by id, at most two; `current` is the one that signs."""

    current: str
    keys: Mapping[str, bytes] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a signed URL allows."""

    organization_id: OrganizationId
    artifact_id: ArtifactId
    disposition: str
    """`attachment` or `inline`."""
    file_name: str
    expires_ms: int


def sign(grant: Grant, path: str, keys: SigningKeys) -> str:
    """`path` with the query that grants it."""
    expires = str(grant.expires_ms // 1000)
    query = {
        "org": grant.organization_id,
        "artifact": grant.artifact_id,
        "disposition": grant.disposition,
        "name": grant.file_name,
        "exp": expires,
        "kid": keys.current,
    }
    signature = _signature(keys.keys[keys.current], path, query)
    return f"{path}?{urlencode({**query, 'sig': signature})}"


def verify(path: str, query: Mapping[str, str], now_ms: int, keys: SigningKeys) -> Grant:
    """The grant behind a URL. `Rejected`: `signature_invalid` for anything changed, then `signed_url_expired`."""
    key = keys.keys.get(query.get("kid", ""))
    expected = _signature(key or b"no such key", path, query)
    if not hmac.compare_digest(expected.encode(), query.get("sig", "").encode()) or key is None:
        raise Rejected("signature_invalid", "the URL was changed, or signed with a key that is gone")
    expires_ms = int(query["exp"]) * 1000
    if now_ms > expires_ms + SKEW_MS:
        raise Rejected("signed_url_expired", "the URL is over; read the artifact again for a new one")
    return Grant(
        OrganizationId(query["org"]), ArtifactId(query["artifact"]), query["disposition"], query["name"], expires_ms
    )


def _signature(key: bytes, path: str, query: Mapping[str, str]) -> str:
    parts = ("org", "artifact", "disposition", "exp", "kid", "name")
    text = "\n".join(("GET", path, *(f"{len(query.get(part, ''))}:{query.get(part, '')}" for part in parts)))
    digest = hmac.digest(key, text.encode(errors="surrogatepass"), "sha256")
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
