"""Entry point of `bin/run`: `python -m embedded`. An interrupt at any time ends it with one line and exit code 130."""

from __future__ import annotations

import sys

from embedded import signals

INTERRUPTED = 130


def main() -> int:
    signals.raise_interrupted()
    try:
        from embedded.run import main as run  # noqa: PLC0415  # takes a second, during which Ctrl-C must already work

        return run()
    except signals.Interrupted:
        print("stopped: all processes have ended and nothing is lost; the next start continues from here")  # noqa: T201
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
