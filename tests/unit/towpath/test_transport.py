"""Retries, idempotency keys and refusals of the client."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fake_api import KEY, SETTINGS, FakeApi, Naps, an_id, problem
from towpath import ApiError, BadAnswer, Client, ErrorDetail, Unreachable
from towpath.transport import RETRY_SECONDS_MAX, TRIES_MAX, delay_seconds


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
def naps() -> Naps:
    return Naps()


@pytest.fixture
def client(api: FakeApi, naps: Naps) -> Client:
    return Client(SETTINGS, surroundings=naps.surroundings(), network=api.as_transport())


@given(st.integers(1, TRIES_MAX - 1), st.floats(0, 1, exclude_max=True), st.integers(0, int(RETRY_SECONDS_MAX)))
def test_a_delay_is_never_shorter_than_the_server_asked_and_never_long(tries: int, jitter: float, asked: int) -> None:
    delay = delay_seconds(tries, str(asked), jitter)
    assert delay is not None
    assert asked < delay <= asked + 0.2 * 2 ** (tries - 1)


def test_delays_grow() -> None:
    assert [delay_seconds(tries, None, 0.0) for tries in range(1, TRIES_MAX + 1)] == [0.1, 0.2, 0.4, 0.8, 1.6, None]


def test_a_server_that_asks_for_a_long_wait_is_not_waited_for() -> None:
    assert delay_seconds(1, "3600", 0.0) is None


def test_a_date_as_retry_after_falls_back_to_the_usual_delay() -> None:
    assert delay_seconds(1, "Sun, 22 Nov 2026 10:15:30 GMT", 0.0) == 0.1


@pytest.mark.parametrize(
    "first",
    [
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        problem(429, "rate_limited"),
        problem(503, "unavailable"),
        httpx.Response(502, text="<html>bad gateway</html>"),
        problem(409, "idempotency_in_progress", Retry_After="1"),
    ],
)
def test_a_post_is_retried_under_the_same_key(api: FakeApi, client: Client, first: httpx.Response | Exception) -> None:
    job = api.add_job("nightly", [])
    api.answers = [first]
    client.jobs.run(job)
    assert [r.headers["Idempotency-Key"] for r in api.requests] == ["key-1", "key-1"]
    assert len(api.job_runs) == 1


def test_each_call_has_its_own_key_unless_one_is_given(api: FakeApi, client: Client) -> None:
    job = api.add_job("nightly", [])
    client.jobs.run(job)
    client.jobs.run(job)
    client.jobs.run(job, idempotency_key="mine")
    assert [r.headers["Idempotency-Key"] for r in api.requests] == ["key-1", "key-2", "mine"]


def test_retry_after_is_respected(api: FakeApi, client: Client, naps: Naps) -> None:
    api.answers = [problem(429, "rate_limited", Retry_After="7")]
    client.jobs.list()
    assert naps.slept == [7.1]


def test_refusals_are_not_retried(api: FakeApi, client: Client, naps: Naps) -> None:
    spots = [{"path": "/name", "code": "too_long", "message": "At most 200 characters."}]
    api.answers = [problem(422, "validation_failed", "The job is not valid.", spots)]
    with pytest.raises(ApiError) as caught:
        client.jobs.create(name="x" * 201, source_provider="shop", workflow_ids=[])
    error = caught.value
    assert (error.status, error.code, error.message) == (422, "validation_failed", "The job is not valid.")
    assert error.details == (ErrorDetail("/name", "too_long", "At most 200 characters."),)
    assert error.request_id == "request-1"
    assert naps.slept == []


def test_a_server_error_is_told_and_not_retried(api: FakeApi, client: Client) -> None:
    api.answers = [httpx.Response(500, text="oops", headers={"X-Request-Id": "r-9"})]
    with pytest.raises(ApiError) as caught:
        client.jobs.list()
    assert (caught.value.status, caught.value.code, caught.value.request_id) == (500, "http_500", "r-9")


def test_giving_up_on_a_server_that_is_away_names_its_address(api: FakeApi, client: Client, naps: Naps) -> None:
    api.answers = [httpx.ConnectError("Connection refused")] * TRIES_MAX
    with pytest.raises(Unreachable, match=r"http://towpath\.test does not answer: Connection refused"):
        client.jobs.list()
    assert len(naps.slept) == TRIES_MAX - 1


def test_a_page_that_is_no_json_is_a_bad_answer(api: FakeApi, client: Client) -> None:
    api.answers = [httpx.Response(200, text="<html>welcome</html>")]
    with pytest.raises(BadAnswer):
        client.jobs.list()


def test_a_wrong_key_is_refused_and_no_error_shows_the_key(api: FakeApi) -> None:
    client = Client(SETTINGS.__class__(SETTINGS.url, "wrong-key"), network=api.as_transport())
    with pytest.raises(ApiError) as caught:
        client.jobs.list()
    assert caught.value.code == "unauthenticated"
    assert "wrong-key" not in repr(caught.value)
    assert KEY not in repr(SETTINGS)


def test_an_id_cannot_reach_another_path(api: FakeApi, client: Client) -> None:
    with pytest.raises(ApiError):
        client.jobs.get("../workflows")
    assert api.requests[0].url.raw_path == b"/api/v2/jobs/..%2Fworkflows"
    with pytest.raises(ValueError, match="empty"):
        client.jobs.get("")


def test_following_goes_on_behind_the_last_event_and_ends_with_the_run(
    api: FakeApi, client: Client, naps: Naps
) -> None:
    run = an_id("workflow_run", 1)
    first = b'id: 1\ndata: {"type":"workflow_run.started","data":{"sequence":1}}\n\nevent: reconnect\nretry: 50\n\n'
    second = b'id: 2\ndata: {"type":"workflow_run.completed","data":{"sequence":2}}\n\nid: 3\ndata: {"type":"x"}\n\n'
    api.answers = [httpx.Response(200, content=first), httpx.ReadError("cut"), httpx.Response(200, content=second)]
    assert [event.type for event in client.workflow_runs.follow(run)] == [
        "workflow_run.started",
        "workflow_run.completed",
    ]
    assert [r.headers.get("Last-Event-ID") for r in api.requests] == [None, "1", "1"]
    assert api.requests[0].headers["Accept"] == "text/event-stream"
    assert naps.slept[0] == 0.05


def test_following_a_run_that_ended_before_ends(api: FakeApi, client: Client) -> None:
    workflow = api.add_workflow("collect")
    run = api.start_workflow("", workflow, "open")
    api.end_workflow(run)
    assert list(client.workflow_runs.follow(run)) == []
