"""`anomaly init`."""

from __future__ import annotations

from pathlib import Path

import click

from anomaly.commands.output import examples, json_option, print_json, print_line
from anomaly.dags import MODULES
from anomaly.errors import Misconfigured

FILE = '''"""The DAG {dag_id} for Airflow. The package defines it."""

from anomaly.dags import {dag_id}
'''
"""A file of a DAGs folder. Airflow's safe mode reads only files that have the words airflow and dag."""


@click.command(epilog=examples("anomaly init /opt/airflow/dags"))
@click.argument("dags_folder", type=click.Path(path_type=Path, file_okay=False))
@json_option
def command(*, dags_folder: Path, as_json: bool) -> None:
    """Write a file for each DAG into Airflow's DAGs folder.

    The files only import the DAGs, so an update of the package updates them. A file of the same name with other contents is never
    overwritten.
    """
    files = {dags_folder / f"{dag_id}.py": FILE.format(dag_id=dag_id) for dag_id in MODULES}
    try:
        dags_folder.mkdir(exist_ok=True)
        missing = [path for path, text in files.items() if not _is_there(path, text)]
        for path in missing:
            path.write_text(files[path], encoding="utf-8")
    except OSError as exc:
        raise Misconfigured(f"{exc.filename or dags_folder} cannot be written: {exc.strerror}") from exc
    if as_json:
        print_json({"written": [str(path) for path in missing]})
        return
    for path in files:
        print_line(f"{'wrote' if path in missing else 'unchanged'} {path}")


def _is_there(path: Path, text: str) -> bool:
    """Return whether the file exists.

    Raises:
        Misconfigured: it has other contents.
    """
    if not path.exists():
        return False
    if path.read_bytes() != text.encode():
        raise Misconfigured(f"{path} has other contents, and nothing was written: remove or rename it, and run init again")
    return True
