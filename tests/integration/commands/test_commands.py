"""Output, exit status and refusals of the commands that read and requeue records."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from typing import TYPE_CHECKING

import pytest

from anomaly.export.formats import FORMATS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.parts.installation import Installation


def test_status_counts_the_backlog_and_names_runs_and_the_oldest_due_record(installation: Installation) -> None:
    installation.with_two_detectors()
    found = installation.run("status", "--json").json
    assert found["backlog"] == [{"source": None, "due": 1, "later": 0, "claimed": 0, "quarantined": 1}]
    assert found["oldest_due"]["record_id"] == 3
    assert [run["run_id"] for run in found["open_runs"]] == ["again", "run"]
    shown = installation.run("status").out
    for word in ("quarantined", "Oldest due record", "Runs in work", "again"):
        assert word in shown


def test_errors_have_an_example_and_what_to_do(installation: Installation) -> None:
    assert installation.run("errors").out == "no record has an error\n"
    installation.with_two_detectors()
    (found,) = installation.run("errors", "--json").json
    assert (found["code"], found["quarantined"], found["record_id"]) == ("image_not_found", 1, 2)
    assert found["fix"] == "restore the image or correct `image_url`, then requeue"
    assert "restore the image or correct image_url, then requeue" in installation.run("errors").out


def test_a_record_is_shown_with_its_story_and_one_that_is_not_there_is_refused(installation: Installation) -> None:
    installation.with_two_detectors()
    story = installation.run("records", "show", "1", "--json").json
    assert [verdict["detector"] for verdict in story["results"]] == ["padim@1", "padim@2"]
    assert "answers/ab.json" in installation.run("records", "show", "1").out
    missing = installation.run("records", "show", "41")
    assert (missing.status, missing.err) == (1, "Error: there is no record 41\n")


def test_requeued_records_are_pending_and_the_log_has_the_user(installation: Installation) -> None:
    installation.set("LOGNAME", "ann")
    installation.with_two_detectors()
    assert installation.run("requeue", "--code", "image_not_found", "--dry-run").out == "image_not_found: 1 would be requeued\n"
    assert installation.db.statuses() == {"done": 1, "quarantined": 1, "pending": 1}
    assert installation.run("requeue", "--id", "2", "--json").json == {"dry_run": False, "records": {"image_not_found": 1}}
    assert installation.db.statuses() == {"done": 1, "pending": 2}
    (actor,) = installation.db.rows("select actor from anomaly.processing_log where event = 'requeued'")
    assert actor == {"actor": "ann"}
    assert installation.run("requeue", "--id", "2").out == "no quarantined record matches\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("requeue", "Choose records by --code, --id, --window-start or --window-end."),
        ("requeue --code image_notfound", "there is no error code 'image_notfound'; did you mean image_not_found?"),
        ("compare padim@1 padim2", "there is no detector 'padim2'; did you mean padim@2?"),
        ("export --detector resnet@7", "there is no detector 'resnet@7'; there are padim@1, padim@2"),
        ("export --window-start yesterday", "'yesterday' is not a time such as 2026-01-31"),
    ],
)
def test_wrong_usage_is_refused_with_the_nearest_name(installation: Installation, arguments: str, sentence: str) -> None:
    installation.with_two_detectors()
    said = installation.run(*arguments.split())
    assert (said.status, said.out) == (2, "")
    assert sentence in said.err


def test_detectors_are_compared_with_the_records_on_which_they_differ(installation: Installation) -> None:
    installation.with_two_detectors()
    found = installation.run("compare", "padim@1", "padim@2", "--json").json
    assert (found["records"], found["only_first"], found["agreement"]) == (1, 1, 0.0)
    assert [each["record_id"] for each in found["changed"]] == [1]
    assert "1 records, agreement 0.0%" in installation.run("compare", "padim@1", "padim@2").out


def test_an_export_is_csv_or_json_lines(installation: Installation) -> None:
    installation.with_two_detectors()
    rows = list(csv.DictReader(io.StringIO(installation.run("export").out)))
    assert [(row["record_id"], row["status"], row["score"]) for row in rows] == [
        ("3", "pending", ""),
        ("1", "done", "0.1"),
        ("2", "quarantined", ""),
    ]
    lines = [json.loads(line) for line in installation.run("export", "--json").out.splitlines()]
    assert [line["record_id"] for line in lines] == [3, 1, 2]
    assert list(lines[0]) == list(rows[0])
    assert lines[1]["regions"] == json.loads(rows[1]["regions"])
    assert installation.run("export", "--format", "json").out == installation.run("export", "--json").out


def test_an_export_takes_the_conditions_of_the_gallery(installation: Installation) -> None:
    installation.with_two_detectors()
    installation.db.do('update anomaly.records set attributes = \'{"line": "L1"}\' where id = 1')

    def ids(*arguments: str) -> list[str]:
        return [row["record_id"] for row in csv.DictReader(io.StringIO(installation.run("export", *arguments).out))]

    conditions = "--verdict normal --label crack --min-score 0.1 --max-score 0.2 --detector padim@2 --attribute line=L1"
    assert ids(*conditions.split()) == ["1"]
    assert ids("--verdict", "anomaly") == ids("--review", "open") == ids("--label", "x", "--status", "done") == []
    assert "write NAME=VALUE" in installation.run("export", "--attribute", "line").err


def test_images_are_exported_into_a_folder_for_each_verdict(installation: Installation, tmp_path: Path) -> None:
    installation.with_two_detectors()
    installation.put("ab.png", b"an image")
    installation.db.do("update anomaly.ai_results set image_key = %(key)s", key=f"{installation.prefix}/ab.png")
    assert installation.run("export", "--format", "images", "--output", str(tmp_path / "new")).status == 0
    files = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    [(name, content)] = files.items()
    assert (name[:13], content) == ("new/normal/1-", b"an image")
    assert "needs --output FOLDER" in installation.run("export", "--format", "images").err


def test_an_export_that_cannot_be_written_is_one_sentence(installation: Installation, tmp_path: Path) -> None:
    installation.with_two_detectors()
    said = installation.run("export", "--output", str(tmp_path))
    assert (said.status, said.err.splitlines()[-1]) == (1, f"Error: Could not open file '{tmp_path}': Is a directory")
    written = installation.run("export", "--format", "parquet", "--output", str(tmp_path / "a" / "records.parquet"))
    assert written.status == 0
    assert (tmp_path / "a" / "records.parquet").read_bytes().startswith(b"PAR1")


def test_a_format_whose_package_is_missing_is_one_sentence(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, "parquet", dataclasses.replace(FORMATS["parquet"], needs="no_such_package"))
    said = installation.run("export", "--format", "parquet")
    assert (said.status, said.out) == (1, "")
    assert said.err == "Parquet needs the package no_such_package, which is not installed here: pip install no_such_package\n"


def test_a_database_that_is_not_there_is_one_sentence_and_status_1(installation: Installation) -> None:
    installation.connect("anomaly_db", conn_type="postgres", host="127.0.0.1", port=1, login="x", schema="none")
    said = installation.run("status")
    assert (said.status, said.out, len(said.err.splitlines())) == (1, "", 1)
    assert said.err.startswith("the records database is not available")
