"""The option that names the records database."""

from __future__ import annotations

import click


def _dsn(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str:
    from anomaly import connections

    return value or connections.records_dsn()


dsn_option = click.option("--dsn", callback=_dsn, help="URI of the records database.  [default: Airflow's connection anomaly_db]")
