"""Tests of the figures of a trace and of a pair, without servers."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks import run, tables
from benchmarks.checkout import HERE, Checkout
from benchmarks.measuring import Row
from benchmarks.trace import summary
from benchmarks.traced_task import Calls

if TYPE_CHECKING:
    from pathlib import Path


def test_calls_that_follow_each_other_in_one_module_count_once() -> None:
    names = ("db.record_store", "pipeline.worker", "pipeline.worker", "images.download", "pipeline.worker", "pipeline.stages")
    found = summary([(f"anomaly.{name}", "function") for name in names])
    assert (found["calls"], found["modules"], found["changes"]) == (6, 4, 4)
    assert (found["modules of orchestration"], found["changes into orchestration"]) == (2, 3)


def test_asyncio_is_one_module_and_counts_only_in_the_figure_that_names_it() -> None:
    found = summary([("anomaly.pipeline.worker", "a"), ("asyncio.events", "b"), ("asyncio.tasks", "c"), ("anomaly.pipeline.worker", "d")])
    assert (found["calls"], found["modules"], found["changes"], found["changes with asyncio"]) == (2, 1, 0, 2)


def test_modules_of_a_flat_package_are_orchestration_by_their_names() -> None:
    assert summary([("anomaly.images", "a"), ("anomaly.asking", "b")])["changes into orchestration"] == 1


def test_a_trace_begins_with_open_chunk_ends_with_the_commit_and_counts_a_resumed_generator_once() -> None:
    code = """
def open_chunk(): pass
def commit(): pass
def numbers():
    yield 1
    yield 2
def record():
    open_chunk()
    list(numbers())
    commit()
def work():
    record()
    record()
"""
    module = {"__name__": "anomaly.db.record_store"}
    exec(code, module)  # noqa: S102  # a module of the project's, as far as the trace can see
    calls = Calls()
    sys.setprofile(calls.profile)
    try:
        module["work"]()  # type: ignore[operator]
    finally:
        sys.setprofile(None)
    assert [function for _, function in calls.made] == ["open_chunk", "numbers", "commit"]


@pytest.fixture
def rows() -> list[Row]:
    """Two pairs, whose first runs are at 100 and 110 records/s, and whose second ones are at 200 and 231."""
    zeros: dict[str, Any] = dict.fromkeys(Row.__slots__, 1)
    names = ("ours" + tables.BASELINE, "ours", "ours", "ours" + tables.BASELINE)
    return [
        Row(**zeros | {"contestant": name, "slots": 32, "records_per_s": rate})
        for name, rate in zip(names, (100.0, 200.0, 231.0, 110.0), strict=True)
    ]


def test_a_pair_is_compared_by_medians_and_by_the_ratio_of_each_pair(rows: list[Row]) -> None:
    assert "| ours | 32 | records/s | 105.000 | 215.500 | 2.052 | 2.000, 2.100 |" in tables.pairs(rows)


def test_a_contestant_without_a_baseline_is_in_no_pair(rows: list[Row]) -> None:
    assert "ours" not in tables.pairs([row for row in rows if row.contestant == "ours"])


def test_the_checkout_that_runs_first_changes_with_each_repetition_and_contestants_of_others_run_once(tmp_path: Path) -> None:
    baseline = Checkout(root=tmp_path)
    assert run.sides("ours", baseline, baseline_first=True) == [("ours (baseline)", baseline), ("ours", HERE)]
    assert run.sides("ours", baseline, baseline_first=False) == [("ours", HERE), ("ours (baseline)", baseline)]
    assert run.sides("asyncio", baseline, baseline_first=True) == [("asyncio", HERE)]


def test_a_setting_of_the_baseline_without_a_value_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run.main(["--baseline-set", "ANOMALY_ONE_CORE"])
    assert "must be NAME=VALUE" in capsys.readouterr().err


def test_a_folder_without_the_package_is_no_baseline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run.main(["--baseline", str(tmp_path)])
    assert "is no checkout of the project" in capsys.readouterr().err


def test_processes_of_a_checkout_get_its_code_and_its_settings_and_no_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example")
    found = Checkout(root=tmp_path, settings={"ANOMALY_ONE_CORE": "0"}).environment()
    assert (found["PYTHONPATH"], found["ANOMALY_ONE_CORE"]) == (f"{tmp_path}:{tmp_path / 'plugins'}", "0")
    assert "HTTP_PROXY" not in found
