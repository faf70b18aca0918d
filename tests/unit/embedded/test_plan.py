"""Which services `bin/run` embeds, and why: records of the user and of the demo never meet the other's services."""

from __future__ import annotations

from itertools import combinations

import pytest

from anomaly.connection_env import DB, DETECTOR, IMAGES, S3
from anomaly.errors import Misconfigured
from embedded.plan import LICENCE, Plan

VALUES = {
    DB: "postgresql://u:hidden-one@db.example:5432/records",
    S3: '{"conn_type": "aws", "password": "hidden-one", "extra": {"bucket": "images", "endpoint_url": "https://s3.example"}}',
    DETECTOR: '{"conn_type": "http", "host": "https://u:hidden-one@detector.example", "port": 8443, "password": "hidden-one"}',
    IMAGES: '{"conn_type": "http"}',
}
SETS = [names for size in range(len(VALUES) + 1) for names in combinations(VALUES, size)]


def environ(names: tuple[str, ...]) -> dict[str, str]:
    return {name: VALUES[name] for name in names}


@pytest.mark.parametrize("names", [names for names in SETS if names and DETECTOR not in names], ids=", ".join)
def test_records_of_the_user_never_meet_the_detector_of_the_demo(names: tuple[str, ...]) -> None:
    with pytest.raises(Misconfigured, match=rf"^{min(names)} is set and {DETECTOR} is not, .*--demo"):
        Plan.of(environ(names), demo=False)
    assert Plan.of(environ(names), demo=True).demo


@pytest.mark.parametrize("names", [names for names in SETS if DETECTOR in names], ids=", ".join)
def test_photos_of_the_demo_never_meet_a_service_of_the_user_unless_asked_for(names: tuple[str, ...]) -> None:
    plan = Plan.of(environ(names), demo=False)
    assert not plan.demo
    assert [plan.embeds(name) for name in VALUES] == [name not in names for name in VALUES]
    assert Plan.of(environ(names), demo=True).demo


@pytest.mark.parametrize("source", ["ANOMALY_SOURCE", "AIRFLOW_CONN_ANOMALY_SOURCE"])
def test_a_source_of_the_user_is_no_demo(source: str) -> None:
    with pytest.raises(Misconfigured, match=rf"^{source} is set and {DETECTOR} is not"):
        Plan.of({source: "x"}, demo=False)


def test_an_empty_variable_is_not_set() -> None:
    assert Plan.of({DB: "", DETECTOR: ""}, demo=False) == Plan.of({}, demo=False)


def test_the_demo_says_that_nothing_is_set_and_how_its_photos_are_licensed() -> None:
    first, second = Plan.of({}, demo=False).lines({})
    assert first.startswith("demo: no connection is set, so postgres, s3 and reference-detector are embedded")
    assert second == LICENCE


def test_what_is_embedded_and_what_is_the_users_is_said_without_secrets() -> None:
    given = environ((DB, DETECTOR))
    lines = list(Plan.of(given, demo=False).lines(given))
    assert lines == [
        f"embedded: s3, because {S3} is not set",
        f"yours: the database records at db.example:5432 ({DB})",
        f"yours: the detector at detector.example:8443 ({DETECTOR})",
    ]
    everything = environ(tuple(VALUES))
    assert "hidden-one" not in "".join(Plan.of(everything, demo=True).lines(everything))


def test_a_demo_beside_own_connections_names_the_option() -> None:
    given = environ((DETECTOR,))
    lines = list(Plan.of(given, demo=True).lines(given))
    assert lines[0] == f"embedded: postgres and s3, because {DB} and {S3} are not set"
    assert lines[-2:] == ["demo: photos of solar cells are added as records, because of --demo", LICENCE]
