"""Addresses of the project's page inside Airflow's own frame."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from airflow.configuration import conf

if TYPE_CHECKING:
    from airflow.sdk import Context

PREFIX = "/anomaly"
"""Path of the page in the api-server."""
ROUTE = "anomaly"
"""Its part of the address of Airflow's frame, which the path of the page follows."""
RUN_LINK = "_link_RunLink"
"""Under this key Airflow looks for the address of `dags.links.RunLink`."""


def base_url() -> str:
    """Return the address of Airflow without a slash at its end."""
    return str(conf.get("api", "base_url", fallback="") or "http://localhost:8080").rstrip("/")


def base_path() -> str:
    """Return the path of Airflow's address, which is empty unless a proxy serves it below one."""
    return urlsplit(base_url()).path


def page_path(path: str = "/", **query: str) -> str:
    """Return the address of a part of the page, without Airflow's host."""
    parts = f"?{urlencode(query)}" if query else ""
    return f"{base_path()}/plugin/{ROUTE}{base_path()}{PREFIX}{path}{parts}"


def page_link(path: str = "/", **query: str) -> str:
    """Return the address of a part of the page."""
    return base_url().removesuffix(base_path()) + page_path(path, **query)


def run_path(dag_id: str, run_id: str) -> str:
    """Return the address of the page about a run, without Airflow's host."""
    return page_path("/run", dag_id=dag_id, run_id=run_id)


def store_run_link(context: Context) -> None:
    """Store the address for the link of a mapped task. Airflow 3.3 does so only for other tasks."""
    run = context["dag_run"]
    context["ti"].xcom_push(key=RUN_LINK, value=run_path(run.dag_id, run.run_id))
