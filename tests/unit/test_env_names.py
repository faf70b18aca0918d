"""A variable whose name is almost that of a connection or a setting is refused, since nothing would read it."""

from __future__ import annotations

import pytest

from anomaly import env_names
from anomaly.errors import Misconfigured
from anomaly.settings import Settings


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("AIRFLOW_CONN_ANOMALY_DETECTER", "AIRFLOW_CONN_ANOMALY_DETECTOR"),
        ("AIRFLOW_CON_ANOMALY_DB", "AIRFLOW_CONN_ANOMALY_DB"),
        ("AIRFLOW_CONN_ANOMALY_IMAGE", "AIRFLOW_CONN_ANOMALY_IMAGES"),
        ("AIRFLOW_CONN_ANOMALY_DBS", "AIRFLOW_CONN_ANOMALY_DB"),
        ("AIRFLOW_CONN_ANOMOLY_S3", "AIRFLOW_CONN_ANOMALY_S3"),
        ("AIRFLOW_CONNECTION_ANOMALY_DB", "AIRFLOW_CONN_ANOMALY_DB"),
        ("AIRFLOW__CONN__ANOMALY_DB", "AIRFLOW_CONN_ANOMALY_DB"),
        ("airflow_conn_anomaly_db", "AIRFLOW_CONN_ANOMALY_DB"),
        ("AIRFLOW_CONN_ANOMALY_S3_", "AIRFLOW_CONN_ANOMALY_S3"),
        ("AIRFLOW_CONN_ANOMALY_DATABASE", "AIRFLOW_CONN_ANOMALY_DB"),
        ("AIRFLOW_CONN_ANOMALY_POSTGRES", "AIRFLOW_CONN_ANOMALY_DB"),
        ("AIRFLOW_CONN_ANOMALY_BUCKET", "AIRFLOW_CONN_ANOMALY_S3"),
        ("ANOMALY_DB", "AIRFLOW_CONN_ANOMALY_DB"),
        ("ANOMALY_DETECTOR", "AIRFLOW_CONN_ANOMALY_DETECTOR"),
        ("ANOMALY_SCHEDUL", "ANOMALY_SCHEDULE"),
        ("ANOMALY_TIME_ZONE", "ANOMALY_TIMEZONE"),
        ("ANOMLY_SCHEDULE", "ANOMALY_SCHEDULE"),
        ("anomaly_lease_s", "ANOMALY_LEASE_S"),
        ("ANOMALY_DETECTOR_SLOT", "ANOMALY_DETECTOR_SLOTS"),
    ],
)
def test_a_name_that_is_almost_right_is_refused_with_the_right_one(name: str, right: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        env_names.check(["HOME", name])
    assert str(caught.value) == f"there is no variable {name}; did you mean {right}?"


@pytest.mark.parametrize(
    "name",
    [
        *env_names.CONNECTIONS,
        *Settings.variables(),
        "ANOMALY_TIMEZONE",
        "AIRFLOW_CONN_ANOMALY_DETECTOR_V2",
        "AIRFLOW_CONN_ANOMALY_DETECTOR2",
        "AIRFLOW_CONN_ANOMALY_CHAT",
        "AIRFLOW_CONN_ANOMALY_V2",
        "AIRFLOW_CONN_POSTGRES_DEFAULT",
        "AIRFLOW_CONN_DB",
        "AIRFLOW_CONN_AWS",
        "AIRFLOW_CONN_ANOMALY_MODEL",
        "AIRFLOW_HOME",
        "AIRFLOW__CORE__DAGS_FOLDER",
        "DB",
    ],
)
def test_right_names_other_connections_and_other_variables_pass(name: str) -> None:
    env_names.check([name])
