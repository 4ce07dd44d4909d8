"""Signed URLs that were tampered with: nothing but the very URL that was signed is a grant."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from api_gateway.signed_url import LIFETIME_MS, SKEW_MS, Grant, SigningKeys, sign, verify
from kernel.domain.ids import ArtifactId, OrganizationId
from kernel.errors import Rejected

KEYS = SigningKeys("k2", {"k2": bytes(range(32)), "k1": bytes(range(32, 64))})
NOW_MS = 1_800_000_000_000
texts = st.text(max_size=30)
grants = st.builds(
    Grant,
    organization_id=texts.map(OrganizationId),
    artifact_id=texts.map(ArtifactId),
    disposition=st.sampled_from(["attachment", "inline"]),
    file_name=texts,
    expires_ms=st.just(NOW_MS + LIFETIME_MS),
)


def parts_of(url: str) -> tuple[str, dict[str, str]]:
    split = urlsplit(url)
    return split.path, dict(parse_qsl(split.query, keep_blank_values=True))


@given(grants.filter(lambda grant: "\r" not in grant.file_name))
def test_what_was_signed_is_granted_until_its_time_is_over(grant: Grant) -> None:
    path, query = parts_of(sign(grant, "/api/v2/artifacts/x/content", KEYS))
    assert verify(path, query, NOW_MS, KEYS) == grant
    with pytest.raises(Rejected, match="over") as late:
        verify(path, query, grant.expires_ms + SKEW_MS + 1, KEYS)
    assert late.value.code == "signed_url_expired"


@settings(max_examples=400)
@given(grants, st.data())
def test_any_change_is_refused_as_tampering(grant: Grant, data: st.DataObject) -> None:
    path, query = parts_of(sign(grant, "/api/v2/artifacts/x/content", KEYS))
    changed: dict[str, Any] = dict(query)
    name = data.draw(st.sampled_from([*query, "path"]))
    if name == "path":
        path = data.draw(st.text(max_size=40).filter(lambda other: other != path))
    elif data.draw(st.booleans()):
        del changed[name]
        assume(query[name] != "")
    else:
        changed[name] = data.draw(st.text(max_size=50).filter(lambda other: other != query[name]))
    with pytest.raises(Rejected) as refused:
        verify(path, changed, NOW_MS, KEYS)
    assert refused.value.code == "signature_invalid"


@given(st.dictionaries(st.sampled_from(["org", "artifact", "disposition", "name", "exp", "kid", "sig"]), texts))
def test_made_up_ones_are_refused(query: dict[str, str]) -> None:
    with pytest.raises(Rejected) as refused:
        verify("/api/v2/artifacts/x/content", query, NOW_MS, KEYS)
    assert refused.value.code == "signature_invalid"


@given(grants)
def test_a_key_that_is_gone_grants_nothing(grant: Grant) -> None:
    path, query = parts_of(sign(grant, "/x", SigningKeys("k1", {"k1": bytes(range(32, 64))})))
    with pytest.raises(Rejected):
        verify(path, query, NOW_MS, SigningKeys("k2", {"k2": bytes(range(32))}))
