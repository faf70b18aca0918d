"""Writes the file with the password of Airflow's user `admin`: `python -m deploy.server.login`."""

from __future__ import annotations

import json
import os
from pathlib import Path

FILE = "simple_auth_manager_passwords.json.generated"
"""File in AIRFLOW_HOME with the passwords. Airflow generates one if it is missing."""


def main() -> None:
    path = Path(os.environ["AIRFLOW_HOME"]) / FILE
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(json.dumps({"admin": os.environ["SERVER_ADMIN_PASSWORD"]}) + "\n")


if __name__ == "__main__":
    main()
