"""`airflow dags backfill` through Airflow's own command line, on a metadata database of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]

DAGS = """
from datetime import datetime
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Param
from airflow.timetables.interval import CronDataIntervalTimetable

for dag_id in ("daily", "paused"):
    with DAG(
        dag_id,
        schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
        start_date=datetime(2025, 1, 1),
        params={"chunk_size": Param(250, type="integer", minimum=1, maximum=1000)},
        is_paused_upon_creation=dag_id == "paused",
    ) as dag:
        EmptyOperator(task_id="nothing")
    globals()[dag_id] = dag

import runpy
params = runpy.run_path("DETECTION")["PARAMS"]
daily = CronDataIntervalTimetable("0 0 * * *", timezone="UTC")
with DAG("detection", schedule=daily, start_date=datetime(2025, 1, 1), params=params) as detection:
    EmptyOperator(task_id="nothing")
""".replace("DETECTION", str(ROOT / "plugins" / "anomaly" / "dags" / "detection.py"))

# Airflow's imports take seconds, so they are paid once: each command line runs in a fork of a process that has them.
COMMAND_LINES = """
import json, os, sys, traceback
sys.argv = ["airflow", "dags"]
from airflow.__main__ import main
from airflow.cli.cli_parser import get_parser
import airflow.serialization.serialized_objects, dags_backfill
get_parser()
for line in sys.stdin:
    request = json.loads(line)
    if not (child := os.fork()):
        code = 1
        try:
            for stream, name in ((1, "out"), (2, "err")):
                os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
            sys.argv = ["airflow", *request["args"]]
            main()
            code = 0
        except SystemExit as exc:
            code = exc.code if isinstance(exc.code, int) else 0 if exc.code is None else print(exc.code, file=sys.stderr) or 1
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


class CommandLine:
    """Airflow's CLI with a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "ANOMALY", "PYTEST"))}
        self.env |= {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
            "PYTHONPATH": f"{ROOT / 'config'}:{ROOT / 'plugins'}",
            "COLUMNS": "200",
        }
        self.process = subprocess.Popen(  # noqa: S603 - our own text
            [sys.executable, "-c", COMMAND_LINES], env=self.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, *args: str) -> Ended:
        assert self.process.stdin
        assert self.process.stdout
        out, err = self.home / "out", self.home / "err"
        self.process.stdin.write(json.dumps({"args": args, "out": str(out), "err": str(err)}) + "\n")
        self.process.stdin.flush()
        return Ended(int(self.process.stdout.readline()), out.read_text(), err.read_text())

    def backfill(self, *args: str) -> Ended:
        return self.run("dags", "backfill", *args)

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(self.home / "airflow.db")) as connection, connection:
            return connection.execute(statement, values).fetchall()

    def runs(self) -> list[tuple[str, str]]:
        """The day and the state of every run that there is."""
        return self.sql("select substr(logical_date, 1, 10), state from dag_run order by logical_date")

    def end_all(self, state: str) -> None:
        """What the scheduler would do when every run has ended."""
        self.sql("update dag_run set state = ?", state)
        self.sql("update backfill set completed_at = created_at")

    def close(self) -> None:
        self.process.communicate(timeout=10)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    home = tmp_path_factory.mktemp("airflow")
    (home / "dags").mkdir()
    (home / "dags" / "dags_of_the_tests.py").write_text(DAGS)
    airflow = CommandLine(home)
    with contextlib.closing(airflow):
        for command in (("db", "migrate"), ("dags", "reserialize")):
            ended = airflow.run(*command)
            assert ended.code == 0, ended
        airflow.sql("pragma wal_checkpoint(truncate)")
        shutil.copy(home / "airflow.db", home / "template.db")
        yield airflow


@pytest.fixture
def airflow(started: CommandLine) -> CommandLine:
    for leftover in started.home.glob("airflow.db*"):
        leftover.unlink()
    shutil.copy(started.home / "template.db", started.home / "airflow.db")
    return started


def test_the_literal_command_queues_a_run_for_each_day_and_says_how_to_follow_them(airflow: CommandLine) -> None:
    command = [str(Path(sys.executable).parent / "airflow"), "dags", "backfill", "daily", "-s", "2026-01-01", "-e", "2026-01-07"]
    ended = subprocess.run(command, env=airflow.env, capture_output=True, text=True, check=True, timeout=60)  # noqa: S603
    assert airflow.runs() == [(f"2026-01-0{day}", "queued") for day in range(1, 8)]
    first, last = "[2026-01-01 00:00+0000, 2026-01-02 00:00+0000)", "[2026-01-07 00:00+0000, 2026-01-08 00:00+0000)"
    assert ended.stdout.splitlines() == [
        f"backfill 1 of daily: 7 runs queued, from the interval {first} to {last}",
        "follow them: airflow dags list-runs daily, or /dags/daily/backfills in the Airflow UI",
    ]
    assert "paused" not in ended.stderr


def test_the_command_is_there_for_python_m_airflow_too(airflow: CommandLine) -> None:
    command = [sys.executable, "-m", "airflow", "dags", "backfill", "--help"]
    ended = subprocess.run(command, env=airflow.env, capture_output=True, text=True, check=True, timeout=60)  # noqa: S603
    assert "usage: airflow dags backfill" in ended.stdout.lower()
    assert "the last interval's start, itself included" in ended.stdout


def test_one_date_alone_is_one_interval(airflow: CommandLine) -> None:
    ended = airflow.backfill("daily", "-s", "2026-01-05")
    assert "1 run queued, for the interval [2026-01-05 00:00+0000, 2026-01-06 00:00+0000)" in ended.out
    assert airflow.runs() == [("2026-01-05", "queued")]


def test_a_dry_run_shows_the_runs_and_queues_none(airflow: CommandLine) -> None:
    ended = airflow.backfill("daily", "-s", "2026-01-01", "-e", "2026-01-02", "--dry-run")
    assert ended.code == 0
    assert "2026-01-01" in ended.out
    assert "2026-01-02" in ended.out
    assert airflow.runs() == []
    assert airflow.sql("select * from backfill") == []


def test_the_conf_reaches_every_run(airflow: CommandLine) -> None:
    airflow.backfill("daily", "-s", "2026-01-01", "-e", "2026-01-02", "-c", '{"chunk_size": 50}')
    assert [json.loads(conf) for (conf,) in airflow.sql("select conf from dag_run")] == [{"chunk_size": 50}] * 2


def test_backwards_takes_the_newest_interval_first(airflow: CommandLine) -> None:
    airflow.backfill("daily", "-s", "2026-01-01", "-e", "2026-01-03", "-B")
    order = airflow.sql("select substr(logical_date, 1, 10) from backfill_dag_run order by sort_ordinal")
    assert [day for (day,) in order] == ["2026-01-03", "2026-01-02", "2026-01-01"]


@pytest.mark.parametrize(
    ("flags", "states"),
    [
        pytest.param([], ["success", "failed"], id="none is left as it is"),
        pytest.param(["--rerun-failed-tasks"], ["success", "queued"], id="only what failed"),
        pytest.param(["--reset-dagruns"], ["queued", "queued"], id="all that ended"),
        pytest.param(["--reset-dagruns", "--rerun-failed-tasks", "-y"], ["queued", "queued"], id="the wider of the two"),
    ],
)
def test_runs_that_ended_are_queued_again_only_when_asked_to(flags: list[str], states: list[str], airflow: CommandLine) -> None:
    window = ("daily", "-s", "2026-01-01", "-e", "2026-01-02")
    airflow.backfill(*window)
    airflow.end_all("success")
    airflow.sql("update dag_run set state = 'failed' where logical_date like '2026-01-02%'")
    ended = airflow.backfill(*window, *flags)
    again = states.count("queued")
    assert [state for _, state in airflow.runs()] == states
    assert f"{again} run{'' if again == 1 else 's'} queued" in ended.out
    assert ("(already exists)" in ended.out) == (again < len(states))


def test_a_paused_dag_is_warned_about(airflow: CommandLine) -> None:
    ended = airflow.backfill("paused", "-s", "2026-01-01")
    assert ended.code == 0
    assert "warning: paused is paused, so its runs stay queued until `airflow dags unpause paused`" in ended.err


def test_a_second_backfill_while_one_runs_is_refused_and_named(airflow: CommandLine) -> None:
    airflow.backfill("daily", "-s", "2026-01-01", "-e", "2026-01-02")
    ended = airflow.backfill("daily", "-s", "2026-02-01")
    assert ended.code == 1
    assert "a backfill of daily is already running (number 1, from 2026-01-01 00:00+0000 to 2026-01-02 00:00+0000)" in ended.err
    assert len(airflow.runs()) == 2


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["daily"], "give the first interval's start with -s"),
        (["daily", "-s", "2026-01-07", "-e", "2026-01-01"], "the end 2026-01-01 00:00+0000 is before the start 2026-01-07 00:00+0000"),
        (["daily", "-s", "2999-01-01", "-e", "2999-01-02"], "future"),
        (["no_such_dag", "-s", "2026-01-01"], "there is no DAG 'no_such_dag' in Airflow's database"),
        (["daily", "-s", "2026-01-01", "-c", "{"], "-c is no JSON"),
        (["daily", "-s", "2026-01-01", "-c", "[1]"], "-c must be a JSON object"),
        (["daily", "-s", "2026-01-01", "-c", "[" * 100_000], "-c is nested too deeply"),
        (["daily", "-s", "2026-01-01", "-c", '{"chunk_size": NaN}'], "-c is no JSON: NaN is not a number in JSON"),
        (["daily", "-s", "2026-01-01", "-c", '{"chunk_size": ' + "9" * 4301 + "}"], "-c is no JSON: "),
        (["daily", "-s", "2026-01-01", "-c", '{"\x1b[2J\\n": 1}'], "-c is no JSON: "),
        (["daily", "-s", "2026-01-01", "-c", '{"\\u001b[2J\\n\\ud800": 1}'], "-c: there is no param '\\x1b[2J\\n\\ud800'"),
        (["no\x1b[31m\u202e_dag", "-s", "2026-01-01"], "there is no DAG 'no\\x1b[31m\\u202e_dag'"),
        (["daily", "-s", "2026-01-01", "-c", '{"chunk_sise": 50}'], "-c: there is no param 'chunk_sise'; did you mean chunk_size?\n"),
        (
            ["daily", "-s", "2026-01-01", "-c", '{"chunk_size": 50, "chunksize": 5}', "-n"],
            "there is no param 'chunksize'; did you mean chunk_size?",
        ),
        (["daily", "-s", "2026-01-01", "-c", '{"Chunk_Size": 50}'], "there is no param 'Chunk_Size'; "),
        (["daily", "-s", "2026-01-01", "-c", '{"xyz": 1}'], "-c: there is no param 'xyz'; there are chunk_size\n"),
        (
            ["daily", "-s", "2026-01-01", "-c", '{"chunk_size": 0}'],
            "-c does not fit the DAG's params: Invalid input for param chunk_size: 0 is less than the minimum of 1\n",
        ),
        (["daily", "-s", "2026-01-01", "-c", '{"chunk_size": 0}', "-n"], "-c does not fit the DAG's params"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_with_one_sentence(args: list[str], sentence: str, airflow: CommandLine) -> None:
    ended = airflow.backfill(*args)
    assert ended.code == 1
    assert sentence in ended.err
    assert ended.err.count("\n") == 1, ended.err
    assert airflow.runs() == []
    assert airflow.sql("select * from backfill") == []


WRONG_VALUES: dict[str, list[Any]] = {
    "select": [None, "", "PENDING", ["pending"], {}, 1],
    "window_start": [5, True, [], {"at": "2026-01-01"}],
    "window_end": [5, False, ["2026-01-01T00:00:00Z"]],
    "max_records": [0, -1, 1.5, "5", True, [5], {}, 10**400, float("inf"), float("nan")],
    "batch_size": [0, 100_001, "all", [[]], 2**63],
    "chunk_size": [0, 10_001, 0.5, "250", False],
    "detector": [None, "", 1, ["anomaly_detector"], "x" * 251, "a\nb", "a\x1b[31m", "a b", "\ud800", "\x00"],
    "fresh": [None, 1, "yes", []],
    "dry_run": [None, 0, "false", {}],
    "max_failure_rate": [None, -0.1, 1.1, "0.5", True, [0.5], 10**400, float("nan"), float("-inf")],
}


def test_every_param_of_the_detection_dag_refuses_wrong_values_with_one_sentence(airflow: CommandLine) -> None:
    for name, values in WRONG_VALUES.items():
        for value in values:
            ended = airflow.backfill("detection", "-s", "2026-01-01", "-c", json.dumps({name: value}))
            assert ended.code == 1, (name, value)
            assert ended.err.count("\n") == 1, (name, value, ended.err)
            assert ended.err.startswith("airflow dags backfill: -c "), (name, value, ended.err)
            assert ended.err.rstrip("\n").isprintable(), (name, value)
    known = airflow.backfill("detection", "-s", "2026-01-01", "-c", '{"xyz": 1}').err.partition("there are ")[2]
    assert known.strip().split(", ") == list(WRONG_VALUES)
    assert airflow.runs() == []


def test_a_window_in_which_no_interval_starts_queues_nothing(airflow: CommandLine) -> None:
    ended = airflow.backfill("daily", "-s", "2026-01-01T01:00", "-e", "2026-01-01T23:00")
    assert ended.code == 1
    assert "No runs to create" in ended.out
    assert airflow.sql("select * from backfill") == []


@pytest.mark.parametrize(
    "with_value", [("-S", "f"), ("--subdir", "f"), ("--pool", "p"), ("--delay-on-limit", "1"), ("-t", "t"), ("--task-regex", "t")]
)
def test_an_option_without_a_meaning_any_more_is_refused_with_one_sentence(with_value: tuple[str, str], airflow: CommandLine) -> None:
    assert_refused(airflow, *with_value)


@pytest.mark.parametrize("flag", ["-m", "-l", "-x", "-i", "-I"])
def test_a_short_flag_without_a_meaning_any_more_is_refused_with_one_sentence(flag: str, airflow: CommandLine) -> None:
    assert_refused(airflow, flag)


@pytest.mark.parametrize(
    "flag",
    [
        "--mark-success",
        "--local",
        "--donot-pickle",
        "--continue-on-failures",
        "--disable-retry",
        "--ignore-dependencies",
        "--ignore-first-depends-on-past",
        "--treat-dag-as-regex",
        "--treat-dag-id-as-regex",
    ],
)
def test_a_flag_without_a_meaning_any_more_is_refused_with_one_sentence(flag: str, airflow: CommandLine) -> None:
    assert_refused(airflow, flag)


def assert_refused(airflow: CommandLine, flag: str, *value: str) -> None:
    ended = airflow.backfill("daily", "-s", "2026-01-01", flag, *value)
    assert ended.code == 2
    assert ended.err.startswith(f"airflow dags backfill: {flag} is refused: ")
    assert ended.err.count("\n") == 1
    assert airflow.runs() == []
