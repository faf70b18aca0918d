"""`.env` has the same meaning for this project, a shell and docker compose; what they would read differently is refused by its line."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import example
from hypothesis import strategies as st

from anomaly.errors import Misconfigured
from embedded.env_file import exports, load, read
from tests.parts.fuzzing import fuzz

if TYPE_CHECKING:
    from pathlib import Path

PASSWORD = "s3cret-one"  # noqa: S105  # of nobody


def values(text: str) -> dict[str, str]:
    return {name: value for name, (value, _) in read(text).items()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("\n# a comment\n  # another\n", {}),
        ("A=1", {"A": "1"}),
        ("A=\n", {"A": ""}),
        ("export A='x y'\n", {"A": "x y"}),
        ("A='x' # why\nB=2 # why\n", {"A": "x", "B": "2"}),
        ('A="x y"\n', {"A": "x y"}),
        ("A='a\\b'\n", {"A": "a\\b"}),
        ("A='{\n  \"b\": 1\n}'\nB=2\n", {"A": '{\n  "b": 1\n}', "B": "2"}),
        ("A=postgresql://u:p%40@h:5432/d?sslmode=require\n", {"A": "postgresql://u:p%40@h:5432/d?sslmode=require"}),
        ("\ufeffA='1'\r\nB='2'\r\n", {"A": "1", "B": "2"}),
        ("A='#; &'\n", {"A": "#; &"}),
        ("A=1\nA=2\n", {"A": "2"}),
    ],
)
def test_values_are_those_that_a_shell_reads(text: str, expected: dict[str, str]) -> None:
    assert values(text) == expected


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (f"A=postgresql://u:{PASSWORD}@h/d?sslmode=prefer&application_name=x", "cut or change the value of A at &"),
        (f"A=host;port={PASSWORD}", "cut or change the value of A at ;"),
        (f"A={PASSWORD} # b c#d" + "\nA=x#y", "cut or change the value of A at #"),
        (f"A={PASSWORD} b", "cut or change the value of A at a space"),
        (f"A={PASSWORD}$b", "cut or change the value of A at $"),
        (f"A={PASSWORD}\\b", "cut or change the value of A at \\"),
        (f"A=`{PASSWORD}`", "cut or change the value of A at `"),
        (f"export A={{{PASSWORD},b}}", "cut or change the value of A at {"),
        (f"A=“{PASSWORD}”", "cut or change the value of A at “"),
        (f"A={PASSWORD}\u200b", "cut or change the value of A at \\u200b"),
        (f"A=~/{PASSWORD}", "cut or change the value of A at ~"),
        (f"A=<{PASSWORD}>", "cut or change the value of A at <"),
        (f"A+={PASSWORD}", "'A+' cannot be the name of a variable"),
        (f"export A={PASSWORD} B=c", "cut or change the value of A at a space"),
        (f"A: {PASSWORD}", "it is neither NAME='value' nor a comment"),
        (f"A=({PASSWORD})", "cut or change the value of A at ("),
        (f'A={{"conn_type": "{PASSWORD}"}}', "cut or change the value of A at {"),
        (f"A='it's {PASSWORD}'", "the single quotes of A do not end with its value"),
        (f"A='{PASSWORD}", "the single quotes of A do not end with its value"),
        (f"A='{PASSWORD}'#b", "the single quotes of A do not end with its value"),
        (f'A="{PASSWORD}$b"', "put the value of A into single quotes: in double quotes"),
        (f'A="{PASSWORD}\\n"', "put the value of A into single quotes: in double quotes"),
        (f"A = {PASSWORD}", "no space may be next to the ="),
        (f"A= {PASSWORD}", "no space may be next to the ="),
        (PASSWORD, "it is neither NAME='value' nor a comment"),
        (f"={PASSWORD}", "it is neither NAME='value' nor a comment"),
        (f"2A={PASSWORD}", "'2A' cannot be the name of a variable"),
        (f"A-B={PASSWORD}", "'A-B' cannot be the name of a variable"),
        (f"A={PASSWORD}\0", "cut or change the value of A at \\x00"),
    ],
)
def test_a_line_that_a_shell_would_read_otherwise_is_refused_by_its_number_and_not_shown(line: str, fault: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        read(f"# first\nB='2\n3'\n{line}\n")
    number = 4 + line.count("\n")
    assert str(caught.value).startswith(f".env, line {number}: ")
    assert fault in str(caught.value)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "right"),
    [
        ("AIRFLOW_CONN_ANOMALY_DETECTER='x'", "AIRFLOW_CONN_ANOMALY_DETECTOR"),
        ("ANOMALY_SCHEDUL='x'", "ANOMALY_SCHEDULE"),
        ("AIRFLOW_CON_ANOMALY_DB='x'", "AIRFLOW_CONN_ANOMALY_DB"),
    ],
)
def test_a_name_that_is_almost_right_is_refused_by_its_line_with_the_right_one(tmp_path: Path, line: str, right: str) -> None:
    (tmp_path / ".env").write_text(f"# first\n{line}\n")
    with pytest.raises(Misconfigured) as caught:
        load(tmp_path / ".env")
    assert str(caught.value) == f".env, line 2: there is no variable {line.partition('=')[0]}; did you mean {right}?"


def test_a_file_that_is_missing_is_empty_and_one_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    assert load(tmp_path / ".env") == {}
    (tmp_path / "latin1").write_bytes("A=1\nB='ü'\n".encode("latin-1"))
    with pytest.raises(Misconfigured, match=r"^.env, line 2: it is not UTF-8 text$"):
        load(tmp_path / "latin1")
    with pytest.raises(Misconfigured, match=r"^.env cannot be read: Is a directory$"):
        load(tmp_path)


def test_a_variable_of_the_environment_takes_precedence() -> None:
    assert exports({"A": "x", "B": "it's $b"}, {"A": ""}) == "export B='it'\"'\"'s $b'\n"


@fuzz(st.text(alphabet=st.sampled_from('AB==\'""\\ \t\n\r#&;$`{}x\0é\xa0')))
@example("A=b\xa0\n")
@example("A=b\rB=c")
def test_any_text_is_read_as_bash_reads_it_or_refused(text: str) -> None:
    try:
        expected = values(text)
    except Misconfigured:
        return
    script = "set -a; " + text.replace("\r\n", "\n") + '\nprintf "%s\\0" "${A-unset}" "${B-unset}" "${AB-unset}"'
    ended = subprocess.run(["bash"], input=script.encode(), env={}, capture_output=True, check=True)  # noqa: S607  # it only assigns
    assert ended.stdout.decode().split("\0")[:3] == [expected.get(name, "unset") for name in ("A", "B", "AB")]
