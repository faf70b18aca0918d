"""The SQL of the project, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from anomaly.db.contracts import CONTRACTS, SAMPLES
from anomaly.db.source_sample import PLANNED
from anomaly.db.statements import FOLDER, Statements, default_statements
from anomaly.errors import Misconfigured

if TYPE_CHECKING:
    from pathlib import Path


def test_a_statement_is_its_files_text_whatever_becomes_of_the_file_later(tmp_path: Path) -> None:
    (tmp_path / "one.sql").write_text("select 1")
    statements = Statements(tmp_path)
    (tmp_path / "one.sql").write_text("select 2")
    assert statements == {"one": "select 1"}


def test_an_unknown_statement_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "one.sql").write_text("select 1")
    with pytest.raises(Misconfigured, match=r"there is no statement two\.sql"):
        Statements(tmp_path)["two"]


def test_a_folder_without_sql_files_is_refused_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=f"there are no SQL files in {tmp_path}: install the project's wheel, or copy include/sql to "):
        Statements(tmp_path)


def test_the_shipped_statements_are_read_once_and_hold_no_migrations() -> None:
    assert default_statements() is default_statements()
    assert sorted(default_statements()) == sorted(path.stem for path in FOLDER.iterdir() if path.is_file())


def test_the_check_knows_a_sample_for_each_parameter_and_no_other() -> None:
    assert {name for contract in [*CONTRACTS.values(), *PLANNED.values()] for name in contract.params.split()} == set(SAMPLES)
