"""The command line's name in this installation, for sentences that ask somebody to run it."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def _program() -> str:
    if (_PACKAGE.parents[1] / "bin" / "anomaly").is_file():
        return "bin/anomaly"
    return "anomaly" if (_PACKAGE / "sql").is_dir() else "python -m anomaly"


PROGRAM = _program()
"""`bin/anomaly` in a checkout, `anomaly` where the wheel is installed, `python -m anomaly` where the package was copied."""
