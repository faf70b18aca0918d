"""Runs the command line: `python -m anomaly`."""

from __future__ import annotations

import sys

from anomaly.commands import main

# In a plugins folder whose .airflowignore is lost, Airflow executes this file under the same name, but outside the package.
if __name__ == "__main__" and __package__ == "anomaly":
    sys.exit(main())
