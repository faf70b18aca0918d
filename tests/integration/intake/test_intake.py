"""Rows, files, buckets and queries become records once, whoever else adds them at the same time."""

from __future__ import annotations

import ast
import io
import json
import re
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

import anomaly
from anomaly.db.statements import default_statements
from anomaly.errors import Misconfigured
from anomaly.intake.adding import BATCH, add
from anomaly.intake.readers import Columns, read_addresses, read_csv
from anomaly.intake.rows import RowInvalid, key_of, new_record

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.parts.installation import Installation
    from tests.parts.record_builders import RecordsDb

NOW = datetime(2026, 1, 31, tzinfo=UTC)
PAGE = Path(__file__).resolve().parents[3] / "docs" / "commands.md"
URL = "https://images.example/{}.png"


def numbered(rows: Iterable[object]) -> list[tuple[str, object]]:
    return [(f"row {number}", row) for number, row in enumerate(rows, 1)]


# ── rows


def test_an_address_is_a_record_that_is_captured_now_and_known_by_its_address() -> None:
    made = new_record(" https://images.example/1.png\n", now=NOW)
    assert (made.image_url, made.key, made.captured_at, made.attributes) == (URL.format(1), URL.format(1), NOW, "{}")


def test_a_mapping_has_time_key_and_attributes() -> None:
    row = {
        "image_url": "s3://b/k",
        "captured_at": "2026-01-01T10:00+02:00",
        "key": 7,
        "attributes": {"at": NOW, "x": float("nan"), "n": [1]},
    }
    made = new_record(row, now=NOW)
    assert (made.key, made.captured_at) == ("7", datetime(2026, 1, 1, 8, tzinfo=UTC))
    assert json.loads(made.attributes) == {"at": "2026-01-31 00:00:00+00:00", "x": "nan", "n": [1]}
    assert new_record({"image_url": URL, "captured_at": "2026-01-01"}, now=NOW).captured_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert len(new_record({"image_url": URL, "key": "k" * 5000}, now=NOW).key) < 100


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("", "it has no address"),
        (None, "it is neither an address nor a mapping"),
        ({"image_url": None}, "it has no address"),
        ("ftp://images.example/1.png", "not a valid http or https address"),
        ("s3://bucket", "not an address such as s3://bucket/key"),
        ({"image_url": URL, "url": 1}, "there is no field 'url'"),
        ({"image_url": URL, "captured_at": "yesterday"}, "'yesterday' is not a time"),
        ({"image_url": URL, "captured_at": "9999-01-01"}, "is not between 1900 and 2200"),
        ({"image_url": URL, "captured_at": 5}, "'5' is not a time"),
        ({"image_url": URL, "key": "a\0"}, "zero byte"),
        ({"image_url": URL, "attributes": {"a": "\ud800"}}, "not UTF-8"),
        ({"image_url": URL, "attributes": 3}, "not a JSON object"),
    ],
)
def test_a_row_that_cannot_be_a_record_is_refused(row: object, sentence: str) -> None:
    with pytest.raises(RowInvalid, match=sentence):
        new_record(row, now=NOW)


# ── files


def test_a_csv_file_has_its_columns_by_name_and_bad_lines_by_number() -> None:
    text = 'id,url,camera\n1,https://a/1,north\n\n2,https://a/2\n"3","https://a/3","so\nuth"\n4,"https://a/4"x,y\n5,https://a/5,\n'
    rows = list(read_csv(io.StringIO(text), Columns(image_url="url", key="id", attributes=("camera",))))
    assert [place for place, _ in rows] == ["line 2", "line 4", "line 6", "line 7", "line 8"]
    assert rows[0][1] == {"image_url": "https://a/1", "captured_at": None, "key": "1", "attributes": {"camera": "north"}}
    assert [str(row) for _, row in rows if isinstance(row, RowInvalid)] == [
        "it has 2 fields, and the header 3",
        "not CSV: ',' expected after '\"'",
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "there is no column 'image_url'; there are none"),
        ("image_ulr,x\n", "there is no column 'image_url'; did you mean image_ulr?"),
        ('"a', "the header is not CSV"),
    ],
)
def test_a_header_is_required(text: str, sentence: str) -> None:
    with pytest.raises(Misconfigured, match=sentence.replace("?", r"\?")):
        list(read_csv(io.StringIO(text), Columns()))


def test_a_list_has_an_address_in_each_line() -> None:
    assert list(read_addresses(io.StringIO("# photos\nhttps://a/1\n\n https://a/2 \n"))) == [
        ("line 2", "https://a/1"),
        ("line 4", "https://a/2"),
    ]


# ── records


def test_rows_are_added_once_in_batches_and_invalid_ones_are_skipped(db: RecordsDb) -> None:
    rows = [*(URL.format(number) for number in range(BATCH + 1)), "no address", URL.format(0)]
    added = add(db.database, numbered(rows))
    assert added.counts() == {"read": BATCH + 3, "new": BATCH + 1, "known": 1, "invalid": 1}
    assert added.faults == [f"row {BATCH + 2}: no address: not a valid http or https address"]
    assert add(db.database, numbered(rows[:5])).counts() == {"read": 5, "new": 0, "known": 5, "invalid": 0}
    assert add(db.database, numbered(rows[:5]), source="another").new == 5
    assert db.statuses() == {"pending": BATCH + 6}


@pytest.mark.parametrize(
    "row",
    [
        URL,
        f" {URL}\n",
        {"image_url": URL},
        {"image_url": f"{URL} ", "key": None},
        {"image_url": URL, "key": ""},
        {"image_url": URL, "key": " 7"},
        {"image_url": URL, "key": 0},
        {"image_url": URL, "key": "k" * 5000},
        {"image_url": f"{URL}?{'x' * 900}"},
        "s3://bucket/a b.png",
    ],
)
def test_a_known_row_is_known_by_the_key_that_it_was_added_with(db: RecordsDb, row: object) -> None:
    made = new_record(row, now=NOW)
    assert key_of(row) == made.key
    counts = [add(db.database, numbered([row])).counts() for _ in range(2)]
    assert [(each["new"], each["known"]) for each in counts] == [(1, 0), (0, 1)]


@pytest.mark.parametrize("row", [None, 7, {}, {"image_url": None}, {"image_url": 7}, {"key": "a\0b"}, "\ud800", RowInvalid("no")])
def test_a_row_that_has_no_key_is_invalid_and_the_others_are_added(db: RecordsDb, row: object) -> None:
    assert key_of(row) is None
    assert add(db.database, numbered([URL, row])).counts() == {"read": 2, "new": 1, "known": 0, "invalid": 1}


def test_an_enqueue_that_fails_halfway_can_be_repeated(db: RecordsDb) -> None:
    rows = [URL.format(number) for number in range(BATCH + 2)]
    gate = db.gate("records", "insert", f"new.source_key = '{rows[-1]}'")
    with gate.shut():
        halfway = db.meanwhile(lambda: add(db.database, numbered(rows)))
        db.await_blocked()
        db.do("select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'advisory' and datname = current_database()")
        db.await_blocked()
        assert db.statuses() == {"pending": BATCH}
    assert halfway.result(timeout=30).new == 2 + BATCH
    assert add(db.database, numbered(rows)).counts() == {"read": BATCH + 2, "new": 0, "known": BATCH + 2, "invalid": 0}


def test_strict_adds_nothing_if_a_row_is_invalid(db: RecordsDb) -> None:
    with pytest.raises(Misconfigured, match="1 of 2 rows are invalid, and nothing was added: row 2: it has no address"):
        add(db.database, numbered([URL, ""]), strict=True)
    assert db.statuses() == {}


@pytest.mark.parametrize("committed", [True, False])
def test_a_row_that_another_connection_adds_at_the_same_time_is_added_once(db: RecordsDb, *, committed: bool) -> None:
    one = {"source": "enqueue", "keys": [URL], "image_urls": [URL], "captured_ats": [NOW], "attributes": ["{}"]}
    with psycopg.connect(db.dsn) as other:
        other.execute(default_statements()["enqueue_records"], one)
        second = db.meanwhile(lambda: add(db.database, numbered([URL, f"{URL}?2"])).new)
        db.await_blocked()
        other.commit() if committed else other.rollback()
        assert second.result() == (1 if committed else 2)
    assert db.statuses() == {"pending": 2}


def test_two_connections_that_add_the_same_rows_in_another_order_add_each_once(db: RecordsDb) -> None:
    rows = [URL.format(number) for number in range(3 * BATCH)]
    both = [db.meanwhile(partial(add, db.database, numbered(order))) for order in (rows, rows[::-1])]
    assert sum(each.result().new for each in both) == len(rows)
    assert db.statuses() == {"pending": len(rows)}


# ── as a function, and as a command


def test_the_function_adds_rows_and_the_objects_of_a_bucket(installation: Installation) -> None:
    assert anomaly.enqueue([URL, {"image_url": URL, "key": "1"}]) == {"read": 2, "new": 2, "known": 0, "invalid": 0}
    prefix = f"s3://{installation.s3.bucket}/{installation.prefix}/new/"
    for name in ("1.PNG", "2.jpg", "notes.txt"):
        installation.put(f"new/{name}", b"x")
    assert anomaly.enqueue(prefix)["new"] == 2
    assert anomaly.enqueue(prefix) == {"read": 2, "new": 0, "known": 2, "invalid": 0}
    urls = [
        row["image_url"] for row in installation.db.rows("select image_url from anomaly.records where image_url like 's3:%%' order by 1")
    ]
    assert urls == [f"{prefix}1.PNG", f"{prefix}2.jpg"]
    for address, sentence in (("s3://other/x/", "images may not come from the bucket other"), (URL, "not an address such as s3://")):
        with pytest.raises(Misconfigured, match=sentence):
            anomaly.enqueue(address)


def test_the_documented_task_adds_its_rows(installation: Installation) -> None:
    (task,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (body,) = re.findall(r"( +import anomaly\n.*?return .*?)\n", task, re.DOTALL)
    names: dict[str, Any] = {}
    exec("def add():\n" + body, names)  # noqa: S102  # the page's own text
    assert names["add"]() == ast.literal_eval(body.rpartition("# ")[2])
    assert installation.db.statuses() == {"pending": 2}


def write(path: Path, text: str | bytes) -> str:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_the_command_names_bad_lines_and_says_how_many_rows_were_new(installation: Installation, tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.csv",
        "\ufeffimage_url,captured_at,camera\nhttps://a/1,2026-01-01,n\n,2026-01-01,n\n".encode() + b"https://a/2,,\xff\n",
    )
    said = installation.run("enqueue", path, "--attribute", "camera")
    assert (said.status, said.out) == (0, "3 read, 1 new, 0 known, 2 invalid\n")
    assert said.err == "line 3: it has no address of an image\nline 4: it has a zero byte, or is not UTF-8\n"
    (row,) = installation.db.rows("select image_url, captured_at, attributes from anomaly.records")
    assert row == {"image_url": "https://a/1", "captured_at": datetime(2026, 1, 1, tzinfo=UTC), "attributes": {"camera": "n"}}
    strict = installation.run("enqueue", path, "--attribute", "camera", "--strict")
    assert (strict.status, strict.out) == (1, "")
    assert installation.run("enqueue", str(tmp_path / "missing.csv")).status == 1


def test_a_query_only_reads(installation: Installation, tmp_path: Path) -> None:
    installation.db.do("create table public.photos as select 'https://a/' || i as image_url, i as n from generate_series(1, 2500) as i")
    query = write(tmp_path / "q.sql", "select image_url, n as half from public.photos -- 100%\n;")
    found: Any = installation.run("enqueue", "--sql", query, "--key-column", "half", "--json").json
    assert found == {"read": 2500, "new": 2500, "known": 0, "invalid": 0}
    for text, sentence in (
        ("delete from public.photos", "the query failed"),
        ("with d as (delete from public.photos returning *) select * from d", "the query failed"),
        ("select 1 as x", "there is no column 'image_url'; there are x"),
        ("select nothing", "the query failed: column"),
    ):
        said = installation.run("enqueue", "--sql", write(tmp_path / "bad.sql", text))
        assert (said.status, sentence in said.err) == (1, True), said
    assert installation.db.rows("select count(*) as n from public.photos") == [{"n": 2500}]
