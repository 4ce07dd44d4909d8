"""What the gateway serves below `/events`: public, whole, and true of the messages it speaks of."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from tests.support.gateways import RunningGateway, gateway_in
from tools.events.__main__ import committed, made
from tools.events.public import public_contracts, public_events
from tools.events.released import RELEASED, breaks, found

EVENTS = public_events()
DOCUMENTS = committed()
ASYNCAPI: dict[str, Any] = json.loads(DOCUMENTS["asyncapi.json"])
EVERY_TYPE = pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.type)


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with gateway_in(tmp_path) as running:
        yield running


def test_the_documents_are_those_that_the_code_makes() -> None:
    assert made() == DOCUMENTS


def test_contracts_only_grow() -> None:
    kept = json.loads(RELEASED.read_text())
    now = found(public_contracts(), EVENTS, ASYNCAPI)
    assert not breaks(kept, now)
    assert kept == now, "something is new: `python -m tools.events` keeps it"


def test_what_goes_or_changes_is_told() -> None:
    kept = found(public_contracts(), EVENTS, ASYNCAPI)
    now = json.loads(json.dumps(kept))
    del now["contracts.v1.JobRunCreated"]["job_id"]
    now["contracts.v1.Sealed"]["box"] = "2 string box"
    del now["towpath.job_run.started.v1"]
    now["headers"]["ce_new"] = "string"
    assert breaks(kept, now) == [
        "contracts.v1.JobRunCreated.job_id was 2 string jobId and is gone",
        "contracts.v1.Sealed.box was 2 bytes box and is 2 string box",
        "towpath.job_run.started.v1.message was contracts.v1.JobRunStarted and is gone",
        "towpath.job_run.started.v1.source was /towpath/advance and is gone",
        "towpath.job_run.started.v1.topic was job_runs and is gone",
    ]


async def test_every_document_is_served_to_anybody(gateway: RunningGateway) -> None:
    for path, content in DOCUMENTS.items():
        answer = await gateway.stranger.get(f"/events/{path}")
        assert (answer.status_code, answer.content) == (200, content), path
        tag = answer.headers["etag"]
        again = await gateway.stranger.get(f"/events/{path}", headers={"If-None-Match": f'"other", {tag}'})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert answer.headers["cache-control"] == "public, no-cache"


async def test_the_index_names_what_is_there(gateway: RunningGateway) -> None:
    index = (await gateway.stranger.get("/events")).json()
    assert list(index["schemas"]) == sorted(event.type for event in EVENTS)
    named = [*index["asyncapi"], index["descriptors"], *index["schemas"].values(), *index["protos"]]
    assert sorted(named) == sorted(f"/events/{path}" for path in DOCUMENTS)


async def test_documents_say_what_they_are(gateway: RunningGateway) -> None:
    for path, media_type in (
        ("asyncapi.yaml", "application/vnd.aai.asyncapi+yaml;version=3.1.0"),
        ("asyncapi.json", "application/vnd.aai.asyncapi+json;version=3.1.0"),
        ("descriptors.pb", "application/octet-stream"),
        ("schemas/towpath.job_run.created.v1.json", "application/schema+json"),
        ("protos/contracts/v1/job_run.proto", "text/plain; charset=utf-8"),
    ):
        answer = await gateway.stranger.get(f"/events/{path}")
        assert answer.headers["content-type"] == media_type, path


@pytest.mark.parametrize("path", ["/events/schemas/none.json", "/events/../app.py", "/events/schemas", "/events/%2e/x"])
async def test_nothing_else_is_served(gateway: RunningGateway, path: str) -> None:
    answer = await gateway.stranger.get(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


@EVERY_TYPE
def test_an_example_is_an_instance_of_its_message_and_of_its_schema(event: Any) -> None:
    schema = json.loads(DOCUMENTS[f"schemas/{event.type}.json"])
    message = ASYNCAPI["components"]["messages"][event.type]
    (example,) = message["examples"]
    jsonschema_rs.validator_for(schema).validate(example["payload"])
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(DOCUMENTS["descriptors.pb"]).file:
        pool.Add(file)
    made_of = GetMessageClass(pool.FindMessageTypeByName(event.message))()
    json_format.ParseDict(example["payload"], made_of)
    assert set(example["payload"]) == set(message_properties(message))


@EVERY_TYPE
def test_a_schema_finds_what_is_no_such_message(event: Any) -> None:
    validator = jsonschema_rs.validator_for(json.loads(DOCUMENTS[f"schemas/{event.type}.json"]))
    first = next(iter(json.loads(DOCUMENTS[f"schemas/{event.type}.json"])["properties"]))
    assert validator.is_valid({})
    assert validator.is_valid({"ofALaterVersion": {"any": "thing"}})
    assert not validator.is_valid({first: {"no": "text"}})
    assert not validator.is_valid([])


def message_properties(message: dict[str, Any]) -> list[str]:
    name = message["payload"]["$ref"].rsplit("/", 1)[-1]
    return list(ASYNCAPI["components"]["schemas"][name]["properties"])


def test_the_gateway_package_holds_the_protos_as_they_are() -> None:
    root = Path(__file__).resolve().parents[3] / "protos"
    copies = {path for path in DOCUMENTS if path.startswith("protos/")}
    assert copies == {f"protos/{path.relative_to(root)}" for path in (root / "contracts/v1").glob("*.proto")}
