"""The benchmark of the page fills a database whose parts agree with each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from benchmarks.page import fill

if TYPE_CHECKING:
    from embedded.postgres import Postgres

COUNTS = """
select (select count(*) from anomaly.records where status = 'done')::integer, (select count(*) from anomaly.ai_flags)::integer,
       (select count(*) from anomaly.ai_results as a join anomaly.ai_flags as f using (record_id, token, score, is_anomaly))::integer,
       (select sum(verdicts) from anomaly.verdict_hours)::integer, (select sum(claimed) from anomaly.batches)::integer,
       (select count(*) from anomaly.reviews)::integer = (select count(*) from anomaly.ai_flags where review is not null)::integer,
       (select count(*) from anomaly.ai_results where created_at > now())::integer
"""


def test_a_filled_database_has_one_verdict_for_each_record(postgres: Postgres) -> None:
    postgres.ensure_database("filled")
    fill(postgres.dsn("filled"), records=2000, waiting=50)
    with psycopg.connect(postgres.dsn("filled")) as connection:
        *counts, agree, later = connection.execute(COUNTS).fetchone() or ()
    assert (counts[0], counts[1], counts[2], counts[4], agree, later) == (2000, 2000, 2000, 2000, True, 0)
    assert 1990 <= counts[3] <= 2000  # those of the last five minutes are not summed
    postgres.drop_database("filled")
