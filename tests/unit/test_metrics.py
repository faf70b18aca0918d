"""Code, page, mapping and dashboard speak of the same metrics, and what cannot be sent stops nothing."""

from __future__ import annotations

import ast
import itertools
import json
import logging
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # it ships no types

from anomaly.metrics import TIMINGS_MAX, Metrics, Tally, percentile, sample

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "plugins" / "anomaly"
KINDS = {"_count": "counter", "_gauge": "gauge", "_time": "timer"}
MAPPING = {each["match"]: each for each in yaml.safe_load((ROOT / "deploy" / "metrics" / "statsd-mapping.yml").read_text())["mappings"]}
PANELS = json.loads((ROOT / "deploy" / "metrics" / "grafana" / "dashboards" / "anomaly.json").read_text())["panels"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]
PROMETHEUS_NAME = re.compile(r"\banomaly_\w+")


def sent_by_the_code() -> dict[str, tuple[str, set[str]]]:
    """Kind and tags of each metric, as the module that has them all calls for them."""
    found = {}
    for node in ast.walk(ast.parse((PACKAGE / "metrics.py").read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in KINDS:
            found[ast.literal_eval(node.args[0])] = KINDS[node.func.attr], {keyword.arg or "" for keyword in node.keywords}
    return found


def on_the_page() -> dict[str, tuple[str, set[str]]]:
    section = (ROOT / "docs" / "operations.md").read_text().partition("## Metrics\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `anomaly.")]
    assert all(len(row) == 5 and row[2].strip() and row[4].strip() for row in rows)
    return {name.strip(" `"): (kind.strip(), set(re.findall(r"`(\w+)`", tag)[:1])) for name, kind, _, tag, _ in rows}


def test_the_page_tells_of_each_metric_that_the_code_sends_and_of_no_other() -> None:
    assert len(sent_by_the_code()) > 10
    assert on_the_page() == sent_by_the_code()


def test_nothing_is_sent_past_the_module_that_has_the_names() -> None:
    sending = {path.name for path in PACKAGE.rglob("*.py") if re.search(r"\bstats\.\w|\.(incr|gauge|timing)\(", path.read_text())}
    assert sending - {"metrics.py"} == set()


def test_the_mapping_has_each_metric_with_its_kind_and_no_other() -> None:
    kinds = {"counter": "counter", "observer": "timer", "gauge": "gauge"}
    mapped = {match.removeprefix("airflow."): kinds[each["match_metric_type"]] for match, each in MAPPING.items()}
    assert mapped == {name: kind for name, (kind, _) in sent_by_the_code().items()}


@pytest.mark.parametrize("match", MAPPING)
def test_a_name_in_prometheus_is_ours_with_the_unit_at_its_end(match: str) -> None:
    (kind, _), name = sent_by_the_code()[match.removeprefix("airflow.")], MAPPING[match]["name"]
    ours = match.removeprefix("airflow.").replace(".", "_")
    assert name in {"counter": {f"{ours}_total"}, "timer": {f"{ours}_seconds"}, "gauge": {ours, f"{ours}_seconds"}}[kind]


def test_what_each_task_tells_for_itself_is_forgotten_when_it_is_killed() -> None:
    of_tasks = {f"airflow.{name}" for name, (_, tags) in sent_by_the_code().items() if tags == {"task"}}
    assert {match for match, each in MAPPING.items() if "ttl" in each} == of_tasks


def test_the_dashboard_asks_for_each_metric_and_for_none_that_is_not_sent() -> None:
    asked = {name.removesuffix("_bucket") for expression in EXPRESSIONS for name in PROMETHEUS_NAME.findall(expression)}
    assert asked == {each["name"] for each in MAPPING.values()}


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_goes_by_tags_that_are_sent_and_says_what_it_shows_in_which_unit(panel: dict[str, Any]) -> None:
    tags = {MAPPING[f"airflow.{name}"]["name"]: tags for name, (_, tags) in sent_by_the_code().items()}
    assert panel["description"]
    assert panel["fieldConfig"]["defaults"]["unit"]
    for target in panel["targets"]:
        (name,) = PROMETHEUS_NAME.findall(target["expr"])
        by = {label for labels in re.findall(r"by \(([\w, ]+)\)", target["expr"]) for label in labels.split(", ")} - {"le"}
        assert by == set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= tags[name.removesuffix("_bucket")]


def test_no_panel_covers_another() -> None:
    cells = [
        (panel["gridPos"]["x"] + x, panel["gridPos"]["y"] + y)
        for panel in PANELS
        for x, y in itertools.product(range(panel["gridPos"]["w"]), range(panel["gridPos"]["h"]))
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


# ── sending


@dataclass
class Broken:
    """A client that cannot send."""

    asked: list[str] = field(default_factory=list)

    def incr(self, stat: str, _value: float, /, *, tags: dict[str, Any]) -> None:  # noqa: ARG002
        self.asked.append(stat)
        raise OSError("no route")

    gauge = timing = incr


def test_a_client_that_fails_is_one_warning_and_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    client = Broken()
    metrics = Metrics(client)
    with caplog.at_level(logging.WARNING):
        metrics.lease_lost()
        with metrics.timed("claim"):
            metrics.pool(1, 2)
    assert [record.getMessage() for record in caplog.records] == ["metrics not sent: no route"]
    assert client.asked == ["anomaly.lease_losses", "anomaly.pool_in_use", "anomaly.pool_open", "anomaly.operation"]


def test_what_fails_is_timed_and_stays_a_failure() -> None:
    client = Broken()
    with pytest.raises(ZeroDivisionError), Metrics(client).timed("open"):
        raise ZeroDivisionError
    assert client.asked == ["anomaly.operation"]


def test_a_chunk_sends_a_bounded_number_of_times_however_many_records_it_had() -> None:
    client, tally = Broken(), Tally()
    for number in range(10 * TIMINGS_MAX):
        tally.end("committed", timings={"fetch": float(number), "commit": 1.0})
    Metrics(client).worked(tally)
    assert client.asked == ["anomaly.records"] + 2 * TIMINGS_MAX * ["anomaly.operation"]


@pytest.mark.parametrize("count", [1, 2, TIMINGS_MAX, TIMINGS_MAX + 1, 500])
def test_a_sample_has_the_quantiles_of_the_whole(count: int) -> None:
    values = [float(number) for number in reversed(range(count))]
    sent = sample(values)
    assert len(sent) == min(count, TIMINGS_MAX)
    for share in (0.5, 0.95):
        assert abs(percentile(sent, share) - percentile(sorted(values), share)) <= count / TIMINGS_MAX


def test_of_nothing_there_is_no_sample() -> None:
    assert sample([]) == []
