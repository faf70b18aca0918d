"""The check of edited SQL files, and the page about using a table of your own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from anomaly.commands import main
from anomaly.db.contracts import CONTRACTS
from anomaly.db.statements import FOLDER
from tests.parts.record_builders import RecordsDb
from tests.parts.sql_files import checked_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the SQL files, to be edited."""
    return Path(shutil.copytree(FOLDER, tmp_path / "sql"))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def check(database: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, str]]:
    code = main(["check-sql", "--dsn", database, "--folder", str(folder)])
    said = capsys.readouterr()
    return code, dict(line.split(".sql: ", 1) for line in said.out.splitlines())


def test_the_shipped_files_are_all_well(database: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sorted(CONTRACTS) == checked_files(FOLDER)[: len(CONTRACTS)]
    assert check(database, folder, capsys) == (0, dict.fromkeys(checked_files(FOLDER), "ok"))


def test_the_check_changes_nothing(database: str, folder: Path) -> None:
    with RecordsDb(database) as db:
        db.claims(2)
        db.expire()
        before = db.everything()
        assert main(["check-sql", "--dsn", database, "--folder", str(folder)]) == 0
        assert db.everything() == before


@pytest.mark.parametrize(
    ("name", "edits", "fault"),
    [
        ("commit_verdict", ("status = 'done'", "state = 'done'"), 'column "state" of relation "records" does not exist'),
        ("claim_pending", ("anomaly.records", "shop.photos"), 'relation "shop.photos" does not exist'),
        ("commit_verdict", ("and token = %(token)s ", ""), "the parameter token is missing"),
        ("commit_verdict", ("and status || '' = 'claimed'", ""), "\"'claimed'\" is missing, without which the claims are not safe"),
        ("claim_done", ("skip locked", ""), "'skip locked' is missing, without which the claims are not safe"),
        ("renew_chunks", (" and ended_at is null", ""), "'ended_at is null' is missing, without which the claims are not safe"),
        ("renew_chunks", ("%(lease_s)s", "%(lease)s"), "the project passes no parameter lease; the parameter lease_s is missing"),
        ("open_chunk", ("taken.image_url, ", ""), "the column image_url is missing from what it returns"),
        ("backlog", ("select", "selct"), 'syntax error at or near "selct"'),
        ("source/page", ("as fault", "as reason"), "the column fault is missing from what it returns"),
        ("source/page", ("from {table}", "from shop.photos"), 'relation "shop.photos" does not exist'),
        ("source/page", ("limit %(size)s", "limit %(rows)s"), "the project passes no parameter rows; the parameter size is missing"),
        ("source/page", ("{condition}", "{where}"), "a placeholder in braces is none that the project fills: 'where'"),
        ("source/incomplete", ("count(*)", "counted(*)"), "function counted() does not exist"),
        ("source/drop_trigger", ("{function}", "{name}"), "a placeholder in braces is none that the project fills: 'name'"),
    ],
)
def test_a_wrong_edit_is_named_in_one_line_and_the_other_files_are_well(
    database: str, folder: Path, capsys: pytest.CaptureFixture[str], *, name: str, edits: tuple[str, str], fault: str
) -> None:
    edit(folder / f"{name}.sql", *edits)
    code, said = check(database, folder, capsys)
    assert (code, said.pop(name)) == (1, fault)
    assert set(said.values()) == {"ok"}


@pytest.mark.parametrize(
    ("name", "edits", "faults"),
    [
        (
            "write_back",
            ("r.source =", "r.origin ="),
            dict.fromkeys(["review", "write_back"], "column r.origin does not exist"),
        ),
        ("trigger_steps", ("{body}", "{text}"), {"create_trigger": "a placeholder in braces is none that the project fills: 'text'"}),
        ("trigger_body", None, {"create_trigger": "the file is missing"}),
        (
            "trigger_row",
            ("{again}", "{twice}"),
            dict.fromkeys(["create_trigger", "trigger_row"], "a placeholder in braces is none that the project fills: 'twice'"),
        ),
    ],
)
def test_a_wrong_part_is_named_in_each_statement_that_has_it(
    database: str, folder: Path, capsys: pytest.CaptureFixture[str], *, name: str, edits: tuple[str, str] | None, faults: dict[str, str]
) -> None:
    path = folder / "source" / f"{name}.sql"
    edit(path, *edits) if edits else path.unlink()
    code, said = check(database, folder, capsys)
    assert (code, {each: fault for each, fault in said.items() if fault != "ok"}) == (
        1,
        {f"source/{at}": fault for at, fault in faults.items()},
    )


def test_a_fence_that_stands_only_in_a_comment_is_no_fence(database: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(folder / "mark_alone.sql", " and ended_at is null", " -- and ended_at is null")
    assert check(database, folder, capsys)[1]["mark_alone"] == "'ended_at is null' is missing, without which the claims are not safe"


def test_missing_and_unknown_files_are_named(database: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "backlog.sql").rename(folder / "backlogs.sql")
    code, said = check(database, folder, capsys)
    assert (code, said["backlog"], said["backlogs"]) == (1, "the file is missing", "the project runs no statement of this name")


def test_a_database_that_cannot_be_asked_is_one_sentence_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-sql", "--dsn", "postgresql://nobody:secret@127.0.0.1:1/none"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("the records database is not available")
    assert len(said.splitlines()) == 1
    assert "secret" not in said


def test_without_a_database_the_command_says_what_to_set(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_ANOMALY_DB", raising=False)
    assert main(["migrate"]) == 1
    assert capsys.readouterr().err.startswith("there is no connection anomaly_db: add it in Airflow's UI")


def test_the_command_migrates_the_database_that_the_connection_names(
    database: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_ANOMALY_DB", database)
    assert main(["migrate"]) == 0
    assert capsys.readouterr().out == "applied nothing: the schema is up to date\n"
