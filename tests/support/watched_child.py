"""A child for the watchdog's tests: beats, has detached descendants, and does what the files in its folder say.

`pids` collects one process id a line. `hang` stops the beat, `exit` holds an exit code to end with, `stubborn` makes it
ignore SIGTERM; `asked` is there once it had one. Run as a script; imports nothing of ours, so that it starts fast.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def main(folder: Path) -> None:
    def drain(*_: object) -> None:
        (folder / "asked").touch()
        if not (folder / "stubborn").exists():
            (folder / "drained").touch()
            sys.exit(0)

    signal.signal(signal.SIGTERM, drain)
    direct = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    orphan = subprocess.check_output(["sh", "-c", "setsid sleep 1000 >/dev/null & echo $!"], text=True)
    piped = subprocess.Popen(["cat"], stdin=subprocess.PIPE, start_new_session=True)
    if (folder / "exit").exists():
        sys.exit(int((folder / "exit").read_text()))
    with (folder / "pids").open("a") as pids:
        pids.write(f"{os.getpid()} {direct.pid} {int(orphan)} {piped.pid}\n")
    fd = int(os.environ["TOWPATH_LIVENESS_FD"])
    while True:
        if not (folder / "hang").exists():
            os.write(fd, b".")
        time.sleep(0.05)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
