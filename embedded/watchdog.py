"""Ends the child processes of a parent that died: `python -m embedded.watchdog`.

The parent writes the paths of folders with process records to stdin, one a line. The end of stdin means that the parent has ended,
even by SIGKILL; then every process recorded in those folders is ended. After an orderly shutdown there are no records left.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from embedded.process_group import stop_recorded


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    folders = {Path(line.rstrip("\n")) for line in sys.stdin}
    for folder in sorted(folders):
        stop_recorded(folder)


if __name__ == "__main__":
    main()
