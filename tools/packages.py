"""Installs a package of Debian's for the other tools, where that may be done. Only the standard library."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys


def install_package(name: str, tool: str) -> bool:
    """Install `name` by apt-get, as root only; whether it worked. `tool` is who says so."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return False
    print(f"{tool}: installing {name} by apt-get (up to a minute)", file=sys.stderr, flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    steps = (["apt-get", "update", "-qq"], ["apt-get", "install", "-qq", "-y", name])
    return all(
        subprocess.run(step, env=environment, stdout=subprocess.DEVNULL, check=False).returncode == 0 for step in steps
    )
