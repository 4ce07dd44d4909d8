"""What `make run` installs is enough for it: no client of Kafka, PostgreSQL or S3 is imported."""

from __future__ import annotations

import subprocess
import sys

_IMPORTS = """
import sys
import embedded.platform, embedded.launcher, embedded.watching, embedded.demo, embedded.erasing, embedded.organizations
import api_gateway.serving, browser_runner.browser
of_clusters = {"aiobotocore", "aiokafka", "asyncpg", "botocore", "faust", "opentelemetry"}
print(sorted(of_clusters & {name.partition(".")[0] for name in sys.modules}))
"""


def test_the_embedded_form_imports_no_library_of_the_cluster_form() -> None:
    done = subprocess.run([sys.executable, "-c", _IMPORTS], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
