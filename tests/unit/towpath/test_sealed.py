"""Sealed values as a subscriber opens them: the published algorithm, against what the platform seals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.v1 import job_run_pb2, values_pb2
from kernel import sealing
from kernel.domain.ids import SubjectId
from kernel.ids import SystemEntropy
from towpath.errors import Unreadable
from towpath.event_log.sealed import opened, unseal

SUBJECT = "00000000-0000-4000-8000-000000000001"
KEY = bytes(range(32))
VECTOR = "01000102030405060708090a0b2666b75ba09da376fd2df2a5d28615a53ed55f5d62cede6276c11e60e25a00"
"""Stands in the manual, for those who write this in another language."""


@given(text=st.text(), purpose=st.sampled_from(["text", "json"]))
def test_what_the_platform_seals_a_subscriber_opens(text: str, purpose: str) -> None:
    box = sealing.seal(SubjectId(SUBJECT), KEY, text.encode(), SystemEntropy(), purpose).box
    assert unseal(box, KEY, SUBJECT, purpose) == text.encode()


def test_the_vector_of_the_manual_opens() -> None:
    assert unseal(bytes.fromhex(VECTOR), KEY, SUBJECT) == b"ada@example.com"


def test_a_box_opens_under_its_own_key_subject_and_purpose_only() -> None:
    box = sealing.seal(SubjectId(SUBJECT), KEY, b"ada", SystemEntropy()).box
    other = SUBJECT.replace("1", "2")
    for wrong in (
        (box, bytes(32), SUBJECT, "text"),
        (box, KEY, other, "text"),
        (box, KEY, SUBJECT, "json"),
        (box[:-1], KEY, SUBJECT, "text"),
        (b"\x02" + box[1:], KEY, SUBJECT, "text"),
        (b"", KEY, SUBJECT, "text"),
    ):
        with pytest.raises(Unreadable):
            unseal(*wrong)


def test_everything_sealed_in_a_message_is_found_wherever_it_stands() -> None:
    entropy, subject = SystemEntropy(), SubjectId(SUBJECT)
    cipher = sealing.SubjectCipher(subject, KEY)
    body = sealing.seal_body(cipher, {"user": "ada"}, entropy)
    created = job_run_pb2.JobRunCreated(
        job_run_id="run",
        external_id=values_pb2.Sealed(subject_id=SUBJECT, box=cipher.seal(b"ada", entropy)),
        inputs=[
            values_pb2.SealedBody(subject_id=SUBJECT, box=body.box, size=body.size),
            values_pb2.SealedBody(subject_id=SUBJECT, blob="ab" * 32, size=99_999),
        ],
    )
    assert opened(created, lambda _: KEY) == {
        "externalId": "ada",
        "inputs[0]": {"user": "ada"},
        "inputs[1]": {"blob": "ab" * 32},
    }
    failed = job_run_pb2.JobRunFailed(failure=values_pb2.Failure(code="x", message=created.external_id))
    assert opened(failed, lambda _: KEY) == {"failure.message": "ada"}


def test_without_its_key_a_value_is_none() -> None:
    box = sealing.seal(SubjectId(SUBJECT), KEY, b"ada", SystemEntropy()).box
    created = job_run_pb2.JobRunCreated(external_id=values_pb2.Sealed(subject_id=SUBJECT, box=box))
    assert opened(created, lambda _: None) == {"externalId": None}


def test_what_is_absent_is_no_lost_value() -> None:
    absent = values_pb2.Sealed(subject_id=SUBJECT)
    created = job_run_pb2.JobRunCreated(external_id=absent, inputs=[values_pb2.SealedBody()])
    assert opened(created, lambda _: None) == {}
