"""Which servers a backup or a restore of a local cluster uses, and when there are none to use."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cluster.backup.local import servers_for_backup, servers_for_restore
from cluster.components.process import answers
from cluster.layout import Layout, read_layout
from kernel.errors import LogRefused, Permanent
from kernel.ids import SystemEntropy
from kernel.sqlite_guard import FolderLock
from tests.support.components import needs_kafka, needs_postgres, needs_s3


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A folder of `make up` whose life is over."""
    made = read_layout({"TOWPATH_DATA": str(tmp_path)})
    made.keys.make(SystemEntropy())
    made.keys.keyring.write_text("{}")
    made.settings.api_key.write_text("a key\n")
    return made


@needs_kafka
@needs_postgres
@needs_s3
def test_servers_that_do_not_run_are_started_for_as_long_as_they_are_needed(layout: Layout) -> None:
    with servers_for_backup(layout) as where:
        url = Path(where["TOWPATH_POSTGRES_URL_FILE"]).read_text()
        places = (where["TOWPATH_KAFKA"], where["ARTIFACT_STORE_S3_ENDPOINT"], url)
        ports = [int(re.findall(r"127\.0\.0\.1:(\d+)", place)[0]) for place in places]
        assert all(answers(port) for port in ports)
        with pytest.raises(LogRefused, match="in use"):
            FolderLock(layout.data, "launcher.lock")
    assert not any(answers(port) for port in ports)
    FolderLock(layout.data, "launcher.lock").release()


def test_servers_that_run_are_used_where_the_launcher_says_that_they_are(layout: Layout) -> None:
    lock = FolderLock(layout.data, "launcher.lock")
    try:
        with pytest.raises(Permanent, match="not_started"), servers_for_backup(layout):
            pass
        layout.endpoints.write_text(json.dumps({"kafka": "127.0.0.1:1", "s3": "http://127.0.0.1:2", "s3_bucket": "b"}))
        with servers_for_backup(layout) as where:
            assert where["TOWPATH_KAFKA"] == "127.0.0.1:1"
            assert where["ARTIFACT_STORE_S3_ENDPOINT"] == "http://127.0.0.1:2"
        with pytest.raises(LogRefused, match="in use"), servers_for_restore(layout):
            pass
    finally:
        lock.release()
    assert not layout.kafka.exists()


def test_a_folder_without_a_cluster_or_without_its_keys_is_refused(layout: Layout, tmp_path: Path) -> None:
    layout.keys.keyring.unlink()
    with pytest.raises(Permanent, match=r"keys_missing.*keyring\.json is not there"), servers_for_restore(layout):
        pass
    elsewhere = read_layout({"TOWPATH_DATA": str(tmp_path / "nothing")})
    with pytest.raises(Permanent, match="no_cluster"), servers_for_backup(elsewhere):
        pass
    assert not elsewhere.data.exists()
