"""A download appears whole and right, or not at all, however often it breaks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.fake_api import SETTINGS, FakeApi, Naps, an_id, problem
from towpath import ApiError, Client, DamagedDownload

CONTENT = bytes(range(256)) * 4000


class _Breaking(httpx.SyncByteStream):
    """Gives `content` and then loses the connection."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def __iter__(self) -> Iterator[bytes]:
        yield self._content
        raise httpx.ReadError("connection lost")


@pytest.fixture
def api() -> FakeApi:
    api = FakeApi()
    api.add_artifact(an_id("workflow_run", 1), "download", "orders.bin", "application/octet-stream", CONTENT)
    return api


@pytest.fixture
def client(api: FakeApi) -> Client:
    return Client(SETTINGS, surroundings=Naps().surroundings(), network=api.as_transport())


ARTIFACT = an_id("artifact", 1)


def _answered(api: FakeApi, *answers: httpx.Response) -> None:
    """The artifact as it is, then `answers` of its signed URL."""
    meta = httpx.Response(200, json=api._resource("artifacts", api.artifacts[ARTIFACT]))
    api.answers += [meta, *answers]


def _ranges(api: FakeApi) -> list[str | None]:
    return [r.headers.get("Range") for r in api.requests if r.url.path.startswith("/signed/")]


def test_the_bytes_arrive_and_nothing_else_is_left(client: Client, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    client.artifacts.download(ARTIFACT, tmp_path / "new" / "out", on_progress=lambda *now: seen.append(now))
    assert (tmp_path / "new" / "out").read_bytes() == CONTENT
    assert len(list((tmp_path / "new").iterdir())) == 1
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_the_api_key_is_not_sent_to_a_signed_url(client: Client, api: FakeApi, tmp_path: Path) -> None:
    client.artifacts.download(ARTIFACT, tmp_path / "out")
    assert "Authorization" not in api.requests[-1].headers


def test_a_break_is_resumed_where_it_happened(client: Client, api: FakeApi, tmp_path: Path) -> None:
    _answered(api, httpx.Response(200, stream=_Breaking(CONTENT[:300_000])))
    client.artifacts.download(ARTIFACT, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == CONTENT
    # Bytes of an unfilled chunk are lost with the connection.
    assert _ranges(api) == [None, f"bytes={256 * 1024}-"]


def test_a_server_that_ignores_the_range_is_read_from_the_start(client: Client, api: FakeApi, tmp_path: Path) -> None:
    _answered(api, httpx.Response(200, stream=_Breaking(CONTENT[:300_000])), httpx.Response(200, content=CONTENT))
    client.artifacts.download(ARTIFACT, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == CONTENT


def test_another_call_goes_on_with_what_an_earlier_one_left(client: Client, api: FakeApi, tmp_path: Path) -> None:
    digest = api.artifacts[ARTIFACT]["fileHash"]
    (tmp_path / f".out.{digest[:16]}.part").write_bytes(CONTENT[:1000])
    client.artifacts.download(ARTIFACT, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == CONTENT
    assert _ranges(api) == ["bytes=1000-"]


def test_a_whole_part_needs_no_request(client: Client, api: FakeApi, tmp_path: Path) -> None:
    digest = api.artifacts[ARTIFACT]["fileHash"]
    (tmp_path / f".out.{digest[:16]}.part").write_bytes(CONTENT)
    client.artifacts.download(ARTIFACT, tmp_path / "out")
    assert _ranges(api) == []


def test_an_expired_address_is_minted_anew(client: Client, api: FakeApi, tmp_path: Path) -> None:
    _answered(api, problem(410, "signed_url_expired"))
    client.artifacts.download(ARTIFACT, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == CONTENT


def test_an_address_that_expires_during_a_break_is_minted_anew(client: Client, api: FakeApi, tmp_path: Path) -> None:
    _answered(api, httpx.Response(200, stream=_Breaking(CONTENT[:300_000])), problem(410, "signed_url_expired"))
    client.artifacts.download(ARTIFACT, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == CONTENT


def test_an_address_that_is_always_expired_is_told(client: Client, api: FakeApi, tmp_path: Path) -> None:
    _answered(api, problem(410, "signed_url_expired"))
    _answered(api, problem(410, "signed_url_expired"))
    with pytest.raises(ApiError, match="signed_url_expired"):
        client.artifacts.download(ARTIFACT, tmp_path / "out")


@pytest.mark.parametrize("wrong", [CONTENT[:-1], CONTENT[:-1] + b"x", CONTENT + b"x"])
def test_wrong_bytes_are_never_kept(client: Client, api: FakeApi, tmp_path: Path, wrong: bytes) -> None:
    api.contents[ARTIFACT] = wrong
    with pytest.raises(DamagedDownload, match=r"orders\.bin"):
        client.artifacts.download(ARTIFACT, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DamagedDownload):
        client.artifacts.read(ARTIFACT)


def test_an_empty_artifact_is_an_empty_file(client: Client, api: FakeApi, tmp_path: Path) -> None:
    empty = api.add_artifact(an_id("workflow_run", 1), "download", "empty", "text/plain", b"")
    client.artifacts.download(empty, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b""


def test_small_ones_are_read_and_big_ones_are_not(client: Client) -> None:
    assert client.artifacts.read(ARTIFACT) == CONTENT
    with pytest.raises(DamagedDownload, match="more than 10"):
        client.artifacts.read(ARTIFACT, bytes_max=10)
