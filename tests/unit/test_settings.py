from __future__ import annotations

import dataclasses

import pytest

from anomaly.errors import Misconfigured
from anomaly.settings import Settings


def test_the_defaults_are_the_designs() -> None:
    settings = Settings()
    assert (settings.image_retries, settings.image_backoff_s, settings.image_retry_after_cap_s, settings.image_read_timeout_s) == (
        3,
        1,
        30,
        30,
    )
    assert (settings.detector_retries, settings.detector_backoff_s, settings.detector_hold_s) == (2, 1, 60)
    assert (settings.s3_attempts, settings.s3_pool) == (3, 50)
    assert (settings.db_pool_min, settings.db_pool_max, settings.db_connect_timeout_s, settings.db_idle_check_s) == (2, 10, 5, 5)
    assert (settings.lease_s, settings.queue_lease_s, settings.attempts_max) == (60, 3600, 5)
    assert (settings.defer_backoff_s, settings.defer_cap_s) == (60, 3600)
    assert (settings.task_backoff_s, settings.task_backoff_cap_s) == (30, 600)


def test_every_number_can_be_set_by_its_variable() -> None:
    numbers = [field for field in dataclasses.fields(Settings) if field.metadata]
    roomy = {"ANOMALY_DB_POOL_MAX": "64", "ANOMALY_CHUNK_MAX": "10000"}
    for field in numbers:
        settings = Settings.from_environ({**roomy, f"ANOMALY_{field.name.upper()}": str(field.metadata["high"])})
        assert getattr(settings, field.name) == field.metadata["high"]


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("ANOMALY_LEASE_S", "abc", "ANOMALY_LEASE_S must be a number, not 'abc'"),
        ("ANOMALY_LEASE_S", "9", "ANOMALY_LEASE_S must be from 10 to 3600, not 9"),
        ("ANOMALY_LEASE_S", "nan", "ANOMALY_LEASE_S must be from 10 to 3600, not nan"),
        ("ANOMALY_DETECTOR_SLOTS", "1.5", "ANOMALY_DETECTOR_SLOTS must be a whole number, not '1.5'"),
        ("ANOMALY_DETECTOR_SLOTS", "0", "ANOMALY_DETECTOR_SLOTS must be from 1 to 1024, not 0"),
        ("ANOMALY_DB_POOL_MIN", "11", "ANOMALY_DB_POOL_MIN must not be larger than ANOMALY_DB_POOL_MAX"),
        ("ANOMALY_LEASES", "60", "there is no setting ANOMALY_LEASES; did you mean ANOMALY_LEASE_S?"),
    ],
)
def test_a_bad_value_is_refused_with_a_sentence(variable: str, value: str, sentence: str) -> None:
    with pytest.raises(Misconfigured) as raised:
        Settings.from_environ({variable: value})
    assert str(raised.value) == sentence


def test_other_variables_are_left_alone() -> None:
    assert Settings.from_environ({"PATH": "x", "AIRFLOW_CONN_ANOMALY_DB": "y", "ANOMALY_SCHEDULE": "@daily"}) == Settings()
