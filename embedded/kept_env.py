"""The variables of the last `bin/run`, kept in `.state/env`: `python -m embedded.kept_env PATH` prints them as commands for a shell."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from anomaly.env_names import AIRFLOW_PREFIX, CONNECTIONS
from embedded.env_file import exports

if TYPE_CHECKING:
    from collections.abc import Mapping


def write(path: Path, values: Mapping[str, str]) -> None:
    """Write variables, readable by the file's owner only."""
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in sorted(values.items())))
    draft.replace(path)


def usable(kept: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the kept variables without those connections that a start with this environment would not use.

    A connection that is set now and led elsewhere at that start means that the kept ones are of another set of services.
    """
    if all(kept.get(name) == environ[name] for name in CONNECTIONS if environ.get(name)):
        return dict(kept)
    return {name: value for name, value in kept.items() if not name.startswith(AIRFLOW_PREFIX)}


def main() -> None:
    kept = dict(word.split("=", 1) for word in shlex.split(Path(sys.argv[1]).read_text()))
    found = usable(kept, os.environ)
    if found.keys() != kept.keys():
        sys.stderr.write("the connections have changed since the last bin/run, so those of its own services are not used\n")
    sys.stdout.buffer.write(exports(found, os.environ).encode())


if __name__ == "__main__":
    main()
