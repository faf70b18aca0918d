"""Schedules and their time zone are refused with one sentence, before Airflow reads them."""

from __future__ import annotations

import pytest

from anomaly import schedules
from anomaly.errors import Misconfigured

BAD_SCHEDULES = [
    *("", "every day", "61 * * * *", "*/0 * * * *", "* * * *", "@once", "@continuous", "@dayly", "None", "none ", "PT15M", "15"),
    *("0 0 31 2 *", "0 */15 * * * *", "0 0 1 1 * * 2020", "H * * * *", "0 0 * * MON#6", "1" * 5000, "\uff11 * * * *", "\x1b[31m", "a\nb"),
]


@pytest.mark.parametrize("text", BAD_SCHEDULES, ids=repr)
def test_a_schedule_that_is_no_cron_expression_is_refused(text: str) -> None:
    with pytest.raises(Misconfigured, match=r"^ANOMALY_SCHEDULE is not a cron expression such as '\*/15 \* \* \* \*': '") as caught:
        schedules.detection_schedule({"ANOMALY_SCHEDULE": text})
    assert len(str(caught.value)) < 250
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", ["*/15 * * * *", "0 0 L * *", "0 6 * * MON-FRI", "@daily", "@quarterly", "0 0 29 2 *", "0 0 * * 7"])
def test_a_cron_expression_is_used_as_it_is(text: str) -> None:
    assert schedules.detection_schedule({"ANOMALY_SCHEDULE": text}) == text
    assert schedules.maintenance_schedule({"ANOMALY_MAINTENANCE_SCHEDULE": text}) == text


@pytest.mark.parametrize(
    "name", ["", "Mars/Base", "utc", "UTC+1", "+01:00", "Europe/Berlin ", "Europe", "../../etc/passwd", "a\0b", "a" * 5000]
)
def test_a_time_zone_that_does_not_exist_is_refused(name: str) -> None:
    with pytest.raises(Misconfigured, match=r"^ANOMALY_TIMEZONE is not a time zone such as Europe/Berlin: ") as caught:
        schedules.time_zone({"ANOMALY_TIMEZONE": name})
    assert len(str(caught.value)) < 150


def test_every_wrong_variable_is_named() -> None:
    wrong = dict.fromkeys(("ANOMALY_SCHEDULE", "ANOMALY_MAINTENANCE_SCHEDULE", "ANOMALY_TIMEZONE"), "nonsense")
    assert [sentence.partition(" ")[0] for sentence in schedules.refused(wrong)] == list(wrong)
    with pytest.raises(Misconfigured, match="ANOMALY_SCHEDULE"):
        schedules.check(wrong)


def test_the_defaults_are_right() -> None:
    schedules.check({})
    assert list(schedules.refused({})) == []
    assert schedules.detection_schedule({"ANOMALY_SCHEDULE": "none"}) is schedules.maintenance_schedule({}) is None
