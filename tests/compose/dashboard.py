"""Queries Prometheus with the expressions of the dashboard's panels."""

from __future__ import annotations

import json
import re
import time
import urllib.parse
from typing import TYPE_CHECKING, Any

from tests.compose.stack import ROOT, Server, expect, say

if TYPE_CHECKING:
    from pathlib import Path


ZERO_WHEN_WELL = {"Refusals", "Held", "Retries", "Breaker and leases"}
"""Panels that show zero when all is well."""


def filled(server: Server, answers: Path) -> str:
    """Expect data in each panel for the metrics that docs/operations.md lists; write the answers to a file."""
    seen = panels(server)
    answers.write_text(json.dumps(seen))
    sent = [
        name.replace(".", "_")
        for name in re.findall(r"^\| `(anomaly\.[\w.]+)` ", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    ]
    for title, panel in seen.items():
        expressions = [each for each in panel["expressions"] if any(name in each for name in sent)]
        expect(expressions != [], f"the panel {title} asks for nothing that is sent")
        silent = [each for each in expressions if not panel["expressions"][each]]
        expect(not silent, f"the panel {title} has no data for {silent}")
        still = [
            each for each in expressions if not any(value > 0 for series in panel["expressions"][each].values() for _, value in series)
        ]
        expect(not still or title in ZERO_WHEN_WELL, f"the panel {title} shows nothing but zero for {still}")
        say(f"    panel {title}: {', '.join(sorted(name for series in panel['expressions'].values() for name in series))}")
    return f"{len(seen)} panels with data"


def panels(server: Server) -> dict[str, Any]:
    """Return the dashboard's panels with Prometheus's answers to their expressions over the last ten minutes."""
    dashboard = json.loads((server.tree / "deploy" / "metrics" / "grafana" / "dashboards" / "anomaly.json").read_text())
    return {
        panel["title"]: {
            "unit": panel["fieldConfig"]["defaults"]["unit"],
            "expressions": {target["expr"]: _series(server, target["expr"], target["legendFormat"]) for target in panel["targets"]},
        }
        for panel in dashboard["panels"]
    }


def query(server: Server, path: str, **parameters: object) -> Any:
    url = f"http://127.0.0.1:9090/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
    return json.loads(server.execute("prometheus", "wget", "--quiet", "--output-document=-", url))["data"]


def _series(server: Server, expression: str, legend: str) -> dict[str, list[list[float]]]:
    now = time.time()
    result = query(server, "query_range", query=expression, start=now - 600, end=now, step=5)["result"]
    named = {_named(legend, each["metric"]): each["values"] for each in result}
    numbers = {name: [[float(at), float(value)] for at, value in values if value != "NaN"] for name, values in named.items()}
    return {name: values for name, values in numbers.items() if values}


def _named(legend: str, labels: dict[str, str]) -> str:
    for label, text in labels.items():
        legend = legend.replace(f"{{{{{label}}}}}", text)
    return legend
