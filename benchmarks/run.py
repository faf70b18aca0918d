"""The contestants, side by side on one machine in one go: `python -m benchmarks.run --help`.

Exits with 1 when a contestant did not do the job: then its figures mean nothing.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import ablation, bench, in_airflow, plot, tables
from benchmarks.bench import Bench, Wrong
from benchmarks.measuring import measure
from embedded.process import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.job import Effort, Job
    from benchmarks.measuring import Row

STATE = ROOT / ".state" / "benchmarks"
ABLATIONS = "ablations"
ROUND_TRIPS_MS = (1.0, 20.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """Which module of `contestants` does it, or what runs it in Airflow; the slow ones get no more records than *records_max*."""

    module: str = ""
    tasks: int = 1
    records_max: int = sys.maxsize
    airflow: Callable[[Bench, Job], Effort] | None = None


CONTESTANTS = {
    "before": Contestant(module="before", records_max=50),
    "pooled": Contestant(module="pooled", records_max=50),
    "asyncio": Contestant(module="asyncio_script"),
    "asyncio-signed": Contestant(module="asyncio_signed"),
    "ours": Contestant(module="ours"),
    "ours-2": Contestant(module="ours", tasks=2),
    "airflow": Contestant(airflow=in_airflow.ours_in_airflow),
    "airflow-2": Contestant(airflow=in_airflow.ours_in_airflow, tasks=2),
    "airflow-4": Contestant(airflow=in_airflow.ours_in_airflow, tasks=4),
    "airflow-naive": Contestant(airflow=in_airflow.one_task_a_record, records_max=60),
}
DEFAULT = ("before", "pooled", ABLATIONS, "asyncio", "ours", "airflow-2", "airflow-naive")


def main(argv: Sequence[str] | None = None) -> int:
    given = _options().parse_args(argv)
    given.folder.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"machine": machine(), "options": {name: _plain(value) for name, value in vars(given).items()}}
    try:
        with Bench(given.folder.resolve(), image_kb=given.image_kb) as on:
            result |= _measured(on, given)
    except Wrong as exc:
        print(exc, file=sys.stderr)  # noqa: T201  # a command speaks to its terminal
        return 1
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n")
    if given.plot:
        plot.draw(result["rows"], given.plot)
    return 0


def _measured(on: Bench, given: argparse.Namespace) -> dict[str, Any]:
    rows, compared = [], []
    for _ in range(given.repeat):
        for slots in given.slots:
            for name in given.contestants:
                if name == ABLATIONS:
                    compared += ablation.compare(on, records=given.ablation_records, round_trips_ms=ROUND_TRIPS_MS)
                    _say(tables.ablations(compared[-2 * len(ROUND_TRIPS_MS) :]))
                else:
                    rows.append(_one(on, name, slots, given))
                    _say(tables.line(rows[-1]))
    _say(tables.rows(rows))
    return {"rows": [row.as_json() for row in rows], ABLATIONS: [each.as_json() for each in compared]}


def _one(on: Bench, name: str, slots: int, given: argparse.Namespace) -> Row:
    of = CONTESTANTS[name]
    work = functools.partial(of.airflow, on) if of.airflow else bench.work
    records = min(given.records, of.records_max)
    return measure(on, of.module or name, name=name, records=records, slots=slots, latency_ms=given.latency_ms, tasks=of.tasks, work=work)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    cpuinfo = Path("/proc/cpuinfo")
    models = (
        [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        if cpuinfo.exists()
        else []
    )
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "load": os.getloadavg(),
    }


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  # a command speaks to its terminal


def _plain(value: Any) -> Any:
    return value.name if isinstance(value, Path) else value


def _options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="python -m benchmarks.run", description="Ours and others at the same job, side by side.")
    options.add_argument("--records", type=int, default=2000, metavar="N", help="for each contestant; the slow ones take fewer (2000)")
    options.add_argument("--latency-ms", type=float, default=200.0, metavar="MS", help="of the detector (200)")
    options.add_argument(
        "--slots", type=_numbers, default=[32], metavar="N,…", help="of the detector; with several, all is run for each (32)"
    )
    options.add_argument("--image-kb", type=int, default=100, metavar="KB", help="about the size of an image (100)")
    options.add_argument("--contestants", type=_names, default=list(DEFAULT), metavar="NAME,…", help=", ".join((*CONTESTANTS, ABLATIONS)))
    options.add_argument("--ablation-records", type=int, default=30, metavar="N", help="for each side of an ablation (30)")
    options.add_argument("--repeat", type=int, default=1, metavar="N", help="the whole of it so often (1)")
    options.add_argument("--json", type=Path, metavar="FILE", help="also write all figures there")
    options.add_argument("--plot", type=Path, metavar="FILE", help="also draw throughput against slots there (SVG)")
    options.add_argument(
        "--folder", type=Path, default=STATE, metavar="FOLDER", help="where Postgres and logs are kept (.state/benchmarks)"
    )
    return options


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - {*CONTESTANTS, ABLATIONS}:
        raise argparse.ArgumentTypeError(f"there is no contestant {', '.join(sorted(unknown))}")
    return names


if __name__ == "__main__":
    sys.exit(main())
