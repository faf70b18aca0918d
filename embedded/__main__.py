"""The entry of `bin/run`: `python -m embedded`. An interruption ends it with one line, whatever it is doing."""

from __future__ import annotations

import sys

from embedded import signals

INTERRUPTED = 130


def main() -> int:
    signals.listen()
    try:
        from embedded.run import main as run  # noqa: PLC0415  # it takes a second, in which somebody may change their mind

        return run()
    except signals.Interrupted:
        print("stopped: nothing of ours runs any more and nothing is lost; the next start goes on from here")  # noqa: T201
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
