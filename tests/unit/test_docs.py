"""What the documentation says about names, figures, examples and links is so."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from anomaly import detectors, errors
from anomaly.advice import ADVICE, Advice
from anomaly.archive.encryption import ALGORITHM, KEY_ID, Encryption
from anomaly.connection_env import EnvConnection, read
from anomaly.db.errors import SourceWriteFailed
from anomaly.detectors import DetectorConnection
from anomaly.images.rules import ImageRules
from anomaly.models.runs import BatchReport, Released, Run, Window
from anomaly.models.source import ROW_INVALID
from anomaly.notifications.message import TYPES
from anomaly.notifications.notifier import from_setting
from anomaly.notifications.webhook import Webhook
from anomaly.pipeline import runs
from anomaly.settings import PREFIX, READ_BY_THE_DAG, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
RUNS, ERROR_CODES, ARCHITECTURE, OPERATIONS = (
    ROOT / "docs" / f"{name}.md" for name in ("runs", "error-codes", "architecture", "operations")
)
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
DB, S3, IMAGES, WEBHOOK, DETECTOR = "anomaly_db", "anomaly_s3", "anomaly_images", "anomaly_webhook", "anomaly_detector"
SOURCE_DB = "anomaly_source"
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def table(page: Path, heading: str) -> list[list[str]]:
    """The cells of the last table under a heading, row by row, without its own head."""
    section = re.split(r"^#+ ", page.read_text().partition(f"# {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in section.splitlines() if line.startswith("|")]
    return rows[max(number for number, row in enumerate(rows) if "---" in row[0]) + 1 :]


def bare(cell: str) -> str:
    return cell.strip(" `|")


# ── settings, params, codes


def setting_row(field: dataclasses.Field[Any]) -> list[str]:
    low, high = (f"{field.metadata[name]:.10g}" for name in ("low", "high"))
    return [f"`{PREFIX}{field.name.upper()}`", f"{field.default:.10g}", f"{low} to {high}", field.metadata["about"]]


def test_the_table_of_settings_is_that_of_the_code() -> None:
    numbers = [field for field in dataclasses.fields(Settings) if field.metadata]
    assert [[cell.strip(" |") for cell in row] for row in table(OPERATIONS, "Settings")] == [setting_row(field) for field in numbers]


def test_every_setting_is_explained_and_none_is_named_that_does_not_exist() -> None:
    known = {f"{PREFIX}{field.name.upper()}" for field in dataclasses.fields(Settings)} | READ_BY_THE_DAG
    named = {page: set(re.findall(r"(?<![A-Z_])ANOMALY_[A-Z0-9_]+", page.read_text())) for page in [*PAGES, ROOT / ".env.example"]}
    assert {short(page): names - known for page, names in named.items() if names - known} == {}
    assert known <= named[OPERATIONS]


def test_a_figure_before_the_name_of_a_setting_is_its_default() -> None:
    defaults = {f"{PREFIX}{field.name.upper()}": field.default for field in dataclasses.fields(Settings)}
    pattern = r"([0-9.]+)(?: [a-z ]+)? \(`(ANOMALY_[A-Z0-9_]+)`\)"
    said = [(short(page), name, float(figure)) for page in PAGES for figure, name in re.findall(pattern, page.read_text())]
    assert len(said) > 20
    assert [(page, name, figure) for page, name, figure in said if figure != defaults[name]] == []


def params_of_the_dag() -> dict[str, Any]:
    """The DAG's params and their defaults, read and not imported: Airflow takes seconds."""
    tree = ast.parse((ROOT / "plugins" / "anomaly" / "dags" / "detection.py").read_text())
    (found,) = (node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PARAMS")
    assert isinstance(found, ast.Dict)
    names = [ast.literal_eval(key) for key in found.keys if key]
    return dict(zip(names, [ast.literal_eval(value.args[0]) for value in found.values if isinstance(value, ast.Call)], strict=True))


def test_the_table_of_params_is_that_of_the_dag() -> None:
    words: dict[Any, str] = {None: "none", False: "false", True: "true"}
    said = {bare(row[0]): bare(row[1]) for row in table(RUNS, "Params")}
    assert said == {
        name: str(default) if isinstance(default, float) else words.get(default, str(default))
        for name, default in params_of_the_dag().items()
    }


def kinds(kind: type[errors.AnomalyError]) -> Iterator[type[errors.AnomalyError]]:
    """The errors below this one that are raised and stored: those that have no further ones below."""
    below = kind.__subclasses__()
    for each in below:
        yield from kinds(each)
    if not below or kind is errors.Throttled:
        yield kind


def test_the_table_of_error_codes_has_every_code_and_no_other() -> None:
    sql = "".join(path.read_text() for path in (ROOT / "include" / "sql").glob("*.sql"))
    of_sql = set(re.findall(r"then '(\w+)' else r\.last_error_code", sql))
    assert of_sql == {"worker_lost"}
    codes = {bare(row[0]) for row in table(ERROR_CODES, "Codes")}
    assert codes == {kind.code for kind in kinds(errors.AnomalyError)} | of_sql | {ROW_INVALID, SourceWriteFailed.code}


def test_causes_and_fixes_of_errors_are_those_that_the_command_prints() -> None:
    assert {bare(row[0]): Advice(row[1], row[3].removesuffix(" |")) for row in table(ERROR_CODES, "Codes")} == ADVICE


# ── names of files, modules and commands


def test_architecture_names_every_package_and_the_modules_beside_them() -> None:
    package = ROOT / "plugins" / "anomaly"
    there = {path.stem for path in package.glob("*.py")} | {path.parent.name for path in package.glob("*/__init__.py")}
    named = re.findall(r"`(\w+)`", "\n".join(row[0] for row in table(ARCHITECTURE, "Packages")))
    assert sorted(there - {"__init__", "__main__"}) == sorted(named)


def test_architecture_names_the_statements_that_write_each_table() -> None:
    writes: dict[str, set[str]] = {}
    for path in (ROOT / "include" / "sql").glob("*.sql"):
        for name in re.findall(r"(?:insert into|update|delete from) anomaly\.(\w+)", path.read_text()):
            writes.setdefault(name, set()).add(path.name)
    rows = table(ARCHITECTURE, "Which statement writes which table")
    assert {bare(row[0]): set(re.findall(r"`(\w+\.sql)`", row[2])) for row in rows if "function" not in row[2]} == writes


def test_architecture_names_methods_that_exist() -> None:
    methods = set()
    for path in (ROOT / "plugins" / "anomaly").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                methods |= {f"{node.name}.{item.name}" for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)}
    named = set(re.findall(r"`([A-Z]\w+\.\w+)`", ARCHITECTURE.read_text()))
    assert len(named) > 2
    assert named - methods - {"Session.send"} == set()


@pytest.mark.parametrize("page", PAGES, ids=short)
def test_files_and_commands_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text()
    folders = ("include", "plugins", "dags", "config", "deploy", "embedded", "tests", "benchmarks", "docs")
    there = [f"/{short(path)}" for folder in folders for path in (ROOT / folder).rglob("*.*")]
    named = re.findall(r"`([\w./-]+\.(?:sql|py))`", text)
    assert [name for name in named if not any(path.endswith(f"/{name}") for path in there)] == []
    assert [name for name in re.findall(r"(?<![\w/])bin/(\w+)", text) if not (ROOT / "bin" / name).is_file()] == []


# ── examples


def examples() -> list[tuple[str, str, EnvConnection]]:
    """Each connection that a page shows: its page, its id, and how Airflow reads it."""
    found = []
    for page in [*PAGES, ROOT / ".env.example"]:
        for variable, value in re.findall(r"^(?:# )?(AIRFLOW_CONN_\w+)='(.*)'$", page.read_text(), re.MULTILINE):
            found.append((short(page), variable.removeprefix("AIRFLOW_CONN_").lower(), read(variable, value)))
        blocks = re.findall(r"^```json\n(\{\"conn_type\".*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
        found += [(short(page), DETECTOR, read(DETECTOR, block)) for block in blocks]
    return found


@pytest.mark.parametrize(("page", "conn_id", "given"), examples())
def test_an_example_of_a_connection_is_one_that_the_project_takes(page: str, conn_id: str, given: EnvConnection) -> None:
    if conn_id in {DB, SOURCE_DB}:
        assert given.host, page
        assert given.schema, page
    elif conn_id == S3:
        assert set(given.extra) <= {"bucket", "prefix", "region_name", "endpoint_url", "config_kwargs", ALGORITHM, KEY_ID}, page
        assert given.extra["bucket"], page
        assert Encryption.from_extra(given.extra), page
    elif conn_id == IMAGES:
        assert ImageRules.from_extra(given.extra, host=given.host).allow_networks, page
    elif conn_id == WEBHOOK:
        assert Webhook(given.host or "", given.password or "").host == "hooks.example", page
    else:
        assert conn_id == DETECTOR, page
        settings, base_url = Settings(), given.host or ""
        spec = DetectorConnection(base_url=base_url, login=given.login, password=given.password, extra=given.extra)
        with detectors.session(settings, base_url) as session:
            assert detectors.from_connection(spec, session, settings).config, page


def test_the_table_of_notifications_has_every_type_and_the_examples_of_notifiers_are_read() -> None:
    page = ROOT / "docs" / "notifications.md"
    assert tuple(bare(row[0]) for row in table(page, "Notifications")) == TYPES
    examples = re.findall(r"^ANOMALY_NOTIFIERS='(.*)'$", page.read_text(), re.MULTILINE)
    [mail, chat] = map(json.loads, examples)
    assert [notifier.path for notifier in from_setting(examples[0])] == list(mail)
    assert list(chat) == ["airflow.providers.slack.notifications.slack.SlackNotifier"]


def test_the_report_that_is_shown_has_the_keys_of_a_report() -> None:
    (shown,) = re.findall(r"^```json\n(.*?)^```$", OPERATIONS.read_text(), re.MULTILINE | re.DOTALL)
    counted = BatchReport(statuses={}, events={}, timings={}, tallies={}, anomalies=0, reused=0)
    store: Any = SimpleNamespace(end_batch=lambda _: None, release_batch=lambda _: Released(), report=lambda _: counted)
    archive: Any = SimpleNamespace(put_report=lambda *_: "")
    run = Run(dag_id="anomaly_detection", run_id="r", window=Window())
    assert set(json.loads(shown)) == set(runs.report(run, store=store, archive=archive))


# ── links


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=short)
def test_every_link_inside_the_repository_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text()))
    dead = []
    for link in links:
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if "://" not in link and not (target.exists() and (not anchor or anchor in anchors(target))):
            dead.append(link)
    assert dead == []


def test_the_table_of_bad_input_names_modules_and_tests_that_exist() -> None:
    rows = re.findall(
        r"\| `([\w/]+\.py)` \| `(tests/[\w/]+\.py)::(test_\w+)` \|$", (ROOT / "docs" / "bad-input.md").read_text(), re.MULTILINE
    )
    assert len(rows) > 30
    for module, file, test in rows:
        assert (ROOT / "plugins" / "anomaly" / module).is_file() or (ROOT / module).is_file(), module
        assert f"def {test}(" in (ROOT / file).read_text(), test
