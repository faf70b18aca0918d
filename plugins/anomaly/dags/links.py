"""Links from tasks to the project's page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class RunLink(BaseOperatorLink):
    """A button at a task that opens the page about its run. Airflow stores the address when the task ends."""

    name = "Records of this run"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002  # Airflow's signature
        from anomaly.tasks.links import run_path

        return run_path(ti_key.dag_id, ti_key.run_id)
