"""Times of the api-server's own routes with and without the plugin: two servers that answer in turns.

python -m benchmarks.api_routes [--rounds 300]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from tests.parts.api_server import ApiServer

if TYPE_CHECKING:
    import httpx

ROUTES = ("/api/v2/version", "/api/v2/monitor/health", "/api/v2/dags", "/api/v2/plugins", "/")
WARM_UP = 20
CONNECTIONS = {"AIRFLOW_CONN_ANOMALY_DB": "postgresql://nobody@127.0.0.1:1/none"}
"""The page is not asked, so that it opens no database."""


def main() -> None:
    """Print the median of the ratios of adjacent requests, and medians and 95th percentiles, for each route."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300, help="requests to each server and route  [default: 300]")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        for name in ("with", "without", "none"):
            (Path(folder) / name).mkdir()
        with (
            ApiServer(Path(folder) / "without", {}, plugins=Path(folder) / "none") as plain,
            ApiServer(Path(folder) / "with", CONNECTIONS) as ours,
            plain.client("viewer") as without,
            ours.client("viewer") as with_plugin,
        ):
            print("| route | ms without the plugin | with | ratio |\n|---|---|---|---|")  # noqa: T201  # its output
            for route in ROUTES:
                print(_line(route, without, with_plugin, rounds))  # noqa: T201  # as above


def _line(route: str, without: httpx.Client, with_plugin: httpx.Client, rounds: int) -> str:
    pairs = []
    for number in range(WARM_UP + rounds):
        first, second = (without, with_plugin) if number % 2 else (with_plugin, without)
        took = {client: _took_ms(client, route) for client in (first, second)}
        pairs.append((took[without], took[with_plugin]))
    kept = pairs[WARM_UP:]
    ratio = statistics.median(after / before for before, after in kept)
    return f"| `{route}` | {_spread([pair[0] for pair in kept])} | {_spread([pair[1] for pair in kept])} | {ratio:.3f} |"


def _took_ms(client: httpx.Client, route: str) -> float:
    began = time.perf_counter()
    answer = client.get(route)
    took_ms = (time.perf_counter() - began) * 1000
    assert answer.status_code == HTTPStatus.OK, answer.text  # noqa: S101  # a figure of another answer would be none
    return took_ms


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} / {statistics.quantiles(values, n=20)[-1]:.1f}"


if __name__ == "__main__":
    main()
