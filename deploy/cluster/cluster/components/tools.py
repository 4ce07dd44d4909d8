"""Where the programs of the components come from: this machine, or the scripts in `tools/` that bring them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from kernel.errors import Permanent

_ROOT = Path(__file__).resolve().parents[4]


def bring(tool: str) -> Path:
    """What `tools/<tool>.py` prints: the path of something that is on this machine afterwards. It may take minutes.

    Raises `Permanent("component_missing")` with what the tool said about why it cannot be had.
    """
    command = [sys.executable, "-m", f"tools.{tool}"]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Permanent("component_missing", done.stderr.strip() or f"tools.{tool} ended with code {done.returncode}")
    return Path(done.stdout.strip())
