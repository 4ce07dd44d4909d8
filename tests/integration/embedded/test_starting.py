"""What a start of the platform loads before it takes up interrupted work, and whose port it may have."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from embedded.ports import check_free
from kernel.errors import Permanent

LOADED = """
import sys
from embedded.slim import leave_out
leave_out()
import embedded.platform
from kernel.steps.expressions import evaluate_bool
from kernel.steps.templates import render_text
assert evaluate_bool("size(inputs.names) == 1", {"inputs": {"names": ["ada"]}})
assert render_text("{{ inputs.name | upcase }}", {"inputs": {"name": "ada"}}) == "ADA"
print(" ".join(sys.modules))
"""


def test_interrupted_work_does_not_wait_for_server_browser_or_terminal_libraries_to_load() -> None:
    loaded = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True).stdout.split()
    assert not {"litestar", "granian", "playwright", "prompt_toolkit", "typer"} & set(loaded)


def test_a_port_that_somebody_shares_is_not_free() -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        other.listen()
        with pytest.raises(Permanent, match=f"port {port} cannot be used"):
            check_free(port)
    check_free(port)
