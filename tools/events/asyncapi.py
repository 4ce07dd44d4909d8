"""The AsyncAPI 3 document of the public topics, with Kafka's bindings and CloudEvents headers in binary mode."""

from __future__ import annotations

from typing import Any

from kernel.log.kafka.topics import PARTITIONS, configuration
from kernel.log.topics import GENERATION, TOPICS, Topic
from tools.events.public import Contracts, PublicEvent
from tools.events.schemas import about_of, all_schemas, component_name, example_id, example_of

Document = dict[str, Any]
_KAFKA = "0.5.0"
_PREFIX = "towpath"
_BASE = "#/components/schemas/"
_HEADERS = "CloudEventsHeaders"
_UUID = {"type": "string", "format": "uuid"}
_REPLICAS = 3
_INFO = """Facts of a Towpath platform as plain Kafka records: CloudEvents 1.0 in binary mode, the value a plain
protobuf message. Payload schemas are those of its JSON mapping; the messages themselves are in `descriptors.pb` and
`protos/` beside this document.

Order is total per key, delivery is at least once: drop what is not above the highest `ce_sequence` of its key. Public
topics are kept for ever, so a reader may begin at the start. Contracts only grow; step over types you do not know."""


def document(contracts: Contracts, events: list[PublicEvent]) -> Document:
    """The whole document."""
    topics = [topic for topic, row in TOPICS.items() if row.public]
    return {
        "asyncapi": "3.1.0",
        "id": "urn:towpath:events:v1",
        "info": {
            "title": "Towpath events",
            "version": "1.0.0",
            "description": _INFO,
            "license": {"name": "Apache License 2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/protobuf",
        "servers": {
            "kafka": {
                "host": "{bootstrap}",
                "protocol": "kafka",
                "description": "The brokers of the installation; `read_committed` readers see the same.",
                "variables": {"bootstrap": {"default": "localhost:9092", "description": "host:port of a broker"}},
            }
        },
        "channels": {topic.value: _channel(topic, events) for topic in topics},
        "operations": {f"publish_{topic}": _operation(topic, events) for topic in topics},
        "components": {
            "messages": {event.type: _message(contracts, event) for event in events},
            "schemas": {_HEADERS: headers_schema(), **all_schemas(contracts, _BASE)},
        },
    }


def _channel(topic: Topic, events: list[PublicEvent]) -> Document:
    name = f"{_PREFIX}.{topic}.{GENERATION}"
    return {
        "address": name,
        "title": topic.value,
        "description": (
            f"{TOPICS[topic].about[0].upper()}{TOPICS[topic].about[1:]}. Key: {TOPICS[topic].key}."
            f" The first part of the name is the installation's prefix, the last one the topic's generation."
        ),
        "servers": [{"$ref": "#/servers/kafka"}],
        "messages": {
            event.type: {"$ref": f"#/components/messages/{event.type}"} for event in events if event.topic == topic
        },
        "bindings": {
            "kafka": {
                "topic": name,
                "partitions": PARTITIONS,
                "replicas": _REPLICAS,
                "topicConfiguration": _configuration(topic),
                "bindingVersion": _KAFKA,
            }
        },
    }


def _configuration(topic: Topic) -> Document:
    """As the broker has it; the binding wants numbers and lists where the broker has texts."""
    found: Document = dict(configuration(topic, _REPLICAS))
    numbers = {name: int(value) for name, value in found.items() if value.lstrip("-").isdecimal()}
    return {**found, **numbers, "cleanup.policy": found["cleanup.policy"].split(",")}


def _operation(topic: Topic, events: list[PublicEvent]) -> Document:
    return {
        "action": "send",
        "summary": f"The platform appends to `{topic}`; subscribe to receive.",
        "channel": {"$ref": f"#/channels/{topic}"},
        "messages": [{"$ref": f"#/channels/{topic}/messages/{event.type}"} for event in events if event.topic == topic],
    }


def _message(contracts: Contracts, event: PublicEvent) -> Document:
    about = about_of(contracts, event.message)
    return {
        "name": event.type,
        "title": component_name(event.message),
        "summary": about,
        "contentType": "application/protobuf",
        "headers": message_headers(event),
        "payload": {"$ref": _BASE + component_name(event.message)},
        "bindings": {"kafka": {"key": _key(event.topic), "bindingVersion": _KAFKA}},
        "examples": [{"headers": _example_headers(event), "payload": example_of(contracts, event.message)}],
        "x-protobuf-message": event.message,
        "x-json-schema": f"/events/schemas/{event.type}.json",
    }


def _key(topic: Topic) -> Document:
    shape = _UUID if topic == Topic.JOB_RUNS else {"type": "string"}
    return {**shape, "description": f"{TOPICS[topic].key}, UTF-8; the same as ce_partitionkey"}


def message_headers(event: PublicEvent) -> Document:
    """The headers of one event type: what all have, and what tells this one apart."""
    own = {
        "ce_type": {"type": "string", "const": event.type},
        "ce_source": {"type": "string", "const": f"/towpath/{event.writer}"},
        "ce_dataschema": {"type": "string", "const": event.data_schema},
    }
    return {"type": "object", "allOf": [{"$ref": _BASE + _HEADERS}], "properties": own}


def headers_schema() -> Document:
    """The headers that every public record has; all are UTF-8 text."""

    def text(about: str, **more: Any) -> Document:
        return {"description": about, "type": "string", **more}

    properties = {
        "content-type": text("Of the value.", const="application/protobuf"),
        "ce_specversion": text("CloudEvents version.", const="1.0"),
        "ce_id": text("Identifies the fact; a repetition has the same one.", minLength=1),
        "ce_source": text("Who decided it.", pattern="^/towpath/[a-z]+$"),
        "ce_type": text("Names the event type.", pattern=r"^towpath\.[a-z_]+\.[a-z_]+\.v1$"),
        "ce_time": text("When it was decided, UTC.", format="date-time", pattern=r"^.{19}\.[0-9]{3}Z$"),
        "ce_dataschema": text("Names the message of the value.", pattern=r"^urn:towpath:contracts\.v1\.[A-Za-z]+$"),
        "ce_partitionkey": text("The key of the record.", minLength=1),
        "ce_subject": text("What the fact is about, if it says so.", minLength=1),
        "ce_sequence": text(
            "Gapless per key, from 1. Absent from `run.request_rejected` and `registry.request_rejected`, which are no"
            " part of a history.",
            pattern="^[1-9][0-9]*$",
        ),
        "ce_organizationid": text("The organization that owns it.", minLength=1),
        "ce_correlationid": text("Shared by everything that one request led to.", minLength=1),
        "ce_causationid": text("Id of the decision that the fact was derived from.", minLength=1),
        "ce_traceparent": text(
            "W3C trace context of what led here, if there is one.",
            pattern="^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
        ),
        "ce_tracestate": text(
            "What goes along with ce_traceparent, by the same standard: opaque, as the request had it.",
            pattern="^[ -~]{3,512}$",
        ),
        "towpath_source": text("For our own services: the decision's place in its ledger."),
    }
    always = ("content-type", "ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "ce_dataschema")
    required = [*always, "ce_partitionkey", "ce_organizationid", "ce_causationid"]
    return {"type": "object", "required": required, "properties": properties}


def _example_headers(event: PublicEvent) -> Document:
    return {
        "content-type": "application/protobuf",
        "ce_specversion": "1.0",
        "ce_id": example_id("fact"),
        "ce_source": f"/towpath/{event.writer}",
        "ce_type": event.type,
        "ce_time": "2026-01-01T00:00:00.000Z",
        "ce_dataschema": event.data_schema,
        "ce_partitionkey": example_id("job_run_id"),
        "ce_sequence": "1",
        "ce_organizationid": example_id("organization_id"),
        "ce_correlationid": example_id("request_id"),
        "ce_causationid": example_id("decision"),
        "ce_traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "ce_tracestate": "congo=t61rcWkgMzE",
    }
