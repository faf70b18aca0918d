"""Virtual environments for contestants whose packages conflict with the project's."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

_OWN = {"asyncio_script": Path(__file__).parent / "requirements-asyncio.txt"}


def python(contestant: str, *, folder: Path) -> str:
    """Return the contestant's interpreter. A virtual environment is created below *folder* when its requirements change."""
    requirements = _OWN.get(contestant)
    if requirements is None:
        return sys.executable
    made = folder / f"venv-{requirements.stem}"
    installed = made / requirements.name
    interpreter = str(made / "bin" / "python")
    if not installed.exists() or installed.read_text() != requirements.read_text():
        print(f"installing {requirements.name} into {made} …", file=sys.stderr, flush=True)  # noqa: T201  # it takes a while
        venv.create(made, clear=True, with_pip=True)
        command = [interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(requirements)]
        subprocess.run(command, check=True)  # noqa: S603  # our own words
        installed.write_text(requirements.read_text())
    return interpreter
