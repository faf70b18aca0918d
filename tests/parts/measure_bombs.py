"""Prints a line of JSON for each bomb: its name, the code, the processor seconds, and the growth of the peak of memory in bytes."""

from __future__ import annotations

import json
import time
from pathlib import Path

from anomaly.errors import AnomalyError
from anomaly.images.validation import validated
from tests.parts.image_bombs import bombs, png

MAX_PX = 50_000_000


def code_of(content: bytes) -> str:
    """Return the code of the rejection, or "" if *content* is accepted."""
    try:
        validated(content, max_px=MAX_PX, source="here")
    except AnomalyError as exc:
        return exc.code
    return ""


def _peak_bytes() -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


if __name__ == "__main__":
    code_of(png())
    for name, make, _ in bombs():
        content = make()
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before, began = _peak_bytes(), time.process_time()
        code = code_of(content)
        print(json.dumps([name, code, time.process_time() - began, _peak_bytes() - before]), flush=True)  # noqa: T201
