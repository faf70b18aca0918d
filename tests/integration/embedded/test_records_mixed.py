"""Records that wait in the database decide as well: none goes to a detector that is not meant for it."""

from __future__ import annotations

import psycopg
import pytest

from anomaly.connection_env import DETECTOR
from embedded.errors import RecordsMixed
from embedded.plan import Plan, check_records

DEMO = Plan.of({}, demo=False)
DEMO_ASKED_FOR = Plan.of({DETECTOR: "x"}, demo=True)
OWN = Plan.of({DETECTOR: "x"}, demo=False)
PHOTO = ("http://127.0.0.1:9000/images/cell0.png", '{"demo": "images/cell0.png"}')
THEIRS = ("https://images.example/1.png", '{"demo": "a key of theirs"}')


def add(dsn: str, record: tuple[str, str], status: str = "pending") -> None:
    with psycopg.connect(dsn) as connection:
        query = "insert into anomaly.records (image_url, captured_at, attributes, status) values (%s, now(), %s, %s)"
        connection.execute(query, [*record, status])


def test_records_of_the_user_in_the_demos_database_are_not_sent_to_its_detector(database: str) -> None:
    add(database, PHOTO)
    check_records(DEMO, database)
    add(database, THEIRS)
    with pytest.raises(RecordsMixed, match=rf"set {DETECTOR}$"):
        check_records(DEMO, database)


def test_photos_of_an_earlier_demo_in_the_users_database_are_not_sent_to_their_detector(database: str) -> None:
    add(database, THEIRS)
    check_records(OWN, database)
    add(database, PHOTO)
    with pytest.raises(RecordsMixed, match=r"start with --demo to send them, or delete them: delete from anomaly.records where"):
        check_records(OWN, database)
    check_records(DEMO_ASKED_FOR, database)
    with psycopg.connect(database) as connection:
        connection.execute("delete from anomaly.records where status in ('pending', 'claimed') and image_url = %s", [PHOTO[0]])
    check_records(OWN, database)


def test_records_that_have_their_verdict_do_not_matter(database: str) -> None:
    add(database, PHOTO, "done")
    add(database, THEIRS, "done")
    check_records(DEMO, database)
    check_records(OWN, database)
