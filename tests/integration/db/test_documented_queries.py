"""The queries of docs/operations.md run, and the one for suspect verdicts finds them."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import dict_row

PAGE = Path(__file__).resolve().parents[3] / "docs" / "operations.md"
QUERIES = [query for query in re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.DOTALL) if query.startswith("select")]
[SUSPECT] = [query for query in QUERIES if "same_as" in query]
RESULT = """
    insert into anomaly.ai_results (record_id, token, detector, config, score, is_anomaly, image_sha256, image_key, answer_key, latency_ms,
                                    dag_id, run_id, map_index, try_number, created_at)
    values (%(id)s, 1, 'd', 'c', %(score)s, true, %(image)s, 'i', %(image)s, %(latency)s, 'dag', 'run', 0, 1,
            now() + %(id)s * interval '1 s')
"""


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.split("from", 1)[1].split()[0])
def test_a_documented_query_runs(database: str, query: str) -> None:
    with psycopg.connect(database) as connection:
        assert connection.execute(query.encode()).description


def test_a_verdict_that_repeats_that_of_another_image_at_once_is_suspect(database: str) -> None:
    rows = [(1, 0.25, "a", 80.0), (2, 0.25, "b", 0.3), (3, 0.5, "c", 0.3), (4, 0.25, "d", 90.0)]
    with psycopg.connect(database, row_factory=dict_row) as connection:
        for number, score, image, latency in rows:
            connection.execute(RESULT, {"id": number, "score": score, "image": image, "latency": latency})
        found = connection.execute(SUSPECT.encode()).fetchall()

    assert [(row["record_id"], row["same_as"]) for row in found] == [(2, 1)]
