"""Outlives its parent just long enough to end the parent's children: `python -m embedded.watchdog`.

The parent writes the path of a folder with session records to our stdin, one a line. The end of stdin means that the parent is gone,
by whatever signal, and everything recorded in those folders is ended. After an orderly stop there is nothing left to end.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from embedded.process_group import end_recorded


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    folders = {Path(line.rstrip("\n")) for line in sys.stdin}
    for folder in sorted(folders):
        end_recorded(folder)


if __name__ == "__main__":
    main()
