"""What an operator types beside no platform: `python -m embedded` over a folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def typed(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What the command says, and its exit code. Blocks."""
    command = [sys.executable, "-m", "embedded", *arguments]
    environ = {**os.environ, "TOWPATH_DATA": str(data)}
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=60)
