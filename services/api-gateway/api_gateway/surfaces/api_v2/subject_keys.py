"""`/subject-keys`: the data keys of subjects, for subscribers who may open what travels sealed in the event log.

Each key that leaves is a row of the vault's audit, with the API key that it was handed to. After an erasure there is no
key any more, and every sealed value of that subject is unreadable wherever it was copied to.
"""

from __future__ import annotations

import base64

from litestar import Response, get

from api_gateway.surfaces.access import AnyRequest, gateway_of, needs_events, principal_of
from api_gateway.surfaces.api_v2.about import UUID_SCHEMA, About, Param
from api_gateway.surfaces.api_v2.reading import json_answer, parameter_fault, uuid_of
from api_gateway.surfaces.api_v2.views import Resource
from kernel.domain.ids import SubjectId
from kernel.errors import SecretUnavailable
from kernel.store.port import GatewayOpener

SUBJECTS_MAX = 100
_SUBJECTS = Param(
    "subjectId",
    f"Whose keys; may be repeated, at most {SUBJECTS_MAX} at once.",
    (("type", "array"), ("items", dict(UUID_SCHEMA)), ("minItems", 1), ("maxItems", SUBJECTS_MAX)),
    required=True,
)


class SubjectKey(Resource, kw_only=True):
    """`key` is the 256-bit AES key of the subject, in base64."""

    subject_id: str
    key: str


class SubjectKeys(Resource, kw_only=True):
    """`gone` names subjects without a key: erased, or never of this organization."""

    data: list[SubjectKey]
    gone: list[str]


@get(
    "/subject-keys",
    guards=[needs_events],
    opt=About("Keys that open sealed values of the event log", SubjectKeys, params=(_SUBJECTS,)).opt(),
)
async def list_subject_keys(request: AnyRequest) -> Response[bytes]:
    asked = request.query_params.getall("subjectId", [])
    if not 0 < len(asked) <= SUBJECTS_MAX:
        raise parameter_fault("subjectId", f"must be given once to {SUBJECTS_MAX} times")
    wanted = dict.fromkeys(SubjectId(uuid_of(text, "subjectId")) for text in asked)
    by = principal_of(request)
    opener, vault = GatewayOpener(by.organization_id, handed_to=by.key_id), gateway_of(request).services.vault
    found = SubjectKeys(data=[], gone=[])
    for subject_id in wanted:
        try:
            key = await vault.subject_key(subject_id, opener)
        except SecretUnavailable:
            found.gone.append(subject_id)
        else:
            found.data.append(SubjectKey(subject_id=subject_id, key=base64.b64encode(key).decode()))
    return json_answer(found)


HANDLERS = (list_subject_keys,)
