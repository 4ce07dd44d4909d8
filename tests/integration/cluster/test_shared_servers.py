"""The servers that a run of pytest shares: started once, and gone with the last process that used them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from cluster.components.process import answers
from tests.support.components import needs_s3
from tests.support.eventually import until

ROOT = Path(__file__).resolve().parents[3]
ASKING = "from tests.support.components import s3_server; print(s3_server().endpoint, flush=True); input()"


def worker(folder: Path) -> subprocess.Popen[str]:
    """Another worker of one run, which asks for the server and then lives until it is killed."""
    given = {name: value for name, value in os.environ.items() if not name.startswith("TOWPATH_TEST_")}
    environment = given | {"PYTEST_XDIST_TESTRUNUID": "one-run", "TMPDIR": str(folder)}
    return subprocess.Popen(
        [sys.executable, "-c", ASKING],
        cwd=ROOT,
        env=environment,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


@needs_s3
async def test_workers_share_one_server_and_it_ends_with_the_last_though_they_are_killed(tmp_path: Path) -> None:
    with worker(tmp_path) as first, worker(tmp_path) as second:
        assert first.stdout is not None
        assert second.stdout is not None
        endpoint = first.stdout.readline()
        port = int(endpoint.rpartition(":")[2])
        assert second.stdout.readline() == endpoint

        first.send_signal(signal.SIGKILL)
        first.wait()
        assert answers(port)
        second.send_signal(signal.SIGKILL)

    await until(lambda: not answers(port))
    await until(lambda: not [name for _, folders, _ in os.walk(tmp_path) for name in folders if "s3" in name])
