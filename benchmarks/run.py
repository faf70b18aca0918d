"""Runs contestants one after the other on one machine: `python -m benchmarks.run --help`.

With a baseline, each contestant of the project runs in pairs, from the baseline and from this checkout, and the first of a pair is the
second of the next one. Exits with 1 if a contestant did not do its job, as its figures then mean nothing.
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
from benchmarks.bench import Bench, JobFailed
from benchmarks.checkout import HERE, Checkout, folder_of
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
    """Names its module in `contestants`, or the function that runs it in Airflow. Slow ones get no more than *records_max* records."""

    module: str = ""
    tasks: int = 1
    records_max: int = sys.maxsize
    airflow: Callable[[Bench, Job, Checkout], Effort] | None = None
    is_ours: bool = False
    """True if it also runs from the baseline."""


CONTESTANTS = {
    "before": Contestant(module="before", records_max=50),
    "pooled": Contestant(module="pooled", records_max=50),
    "asyncio": Contestant(module="asyncio_script"),
    "asyncio-signed": Contestant(module="asyncio_signed"),
    "ours": Contestant(module="ours", is_ours=True),
    "ours-2": Contestant(module="ours", tasks=2, is_ours=True),
    "airflow": Contestant(airflow=in_airflow.ours_in_airflow, is_ours=True),
    "airflow-2": Contestant(airflow=in_airflow.ours_in_airflow, tasks=2, is_ours=True),
    "airflow-4": Contestant(airflow=in_airflow.ours_in_airflow, tasks=4, is_ours=True),
    "airflow-naive": Contestant(airflow=in_airflow.one_task_a_record, records_max=60),
}
DEFAULT = ("before", "pooled", ABLATIONS, "asyncio", "ours", "airflow-2", "airflow-naive")


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _options().parse_args(argv)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"machine": machine(), "options": {name: _plain(value) for name, value in vars(arguments).items()}}
    try:
        with Bench(arguments.folder.resolve(), image_kb=arguments.image_kb) as on:
            result |= _measured(on, arguments)
    except JobFailed as exc:
        print(exc, file=sys.stderr)  # noqa: T201  # a command speaks to its terminal
        return 1
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    if arguments.plot:
        plot.draw(result["rows"], arguments.plot)
    return 0


def _measured(on: Bench, arguments: argparse.Namespace) -> dict[str, Any]:
    rows, compared = [], []
    baseline = _baseline(arguments)
    for number in range(arguments.repeat):
        for slots in arguments.slots:
            for name in arguments.contestants:
                if name == ABLATIONS:
                    compared += ablation.compare(on, records=arguments.ablation_records, round_trips_ms=ROUND_TRIPS_MS)
                    _say(tables.ablations(compared[-2 * len(ROUND_TRIPS_MS) :]))
                else:
                    for label, checkout in sides(name, baseline, baseline_first=number % 2 == 0):
                        rows.append(_one(on, name, arguments, slots=slots, label=label, checkout=checkout))
                        _say(tables.line(rows[-1]))
    _say(tables.rows(rows))
    if baseline:
        _say(tables.pairs(rows))
    return {"rows": [row.as_json() for row in rows], ABLATIONS: [each.as_json() for each in compared]}


def _baseline(arguments: argparse.Namespace) -> Checkout | None:
    settings = dict(arguments.baseline_set)
    return Checkout(root=arguments.baseline or ROOT, settings=settings) if arguments.baseline or settings else None


def sides(name: str, baseline: Checkout | None, *, baseline_first: bool) -> list[tuple[str, Checkout]]:
    """Return the label and the checkout of each run of a contestant."""
    if baseline is None or not CONTESTANTS[name].is_ours:
        return [(name, HERE)]
    sides = [(name + tables.BASELINE, baseline), (name, HERE)]
    return sides if baseline_first else sides[::-1]


def _one(on: Bench, name: str, arguments: argparse.Namespace, *, slots: int, label: str, checkout: Checkout) -> Row:
    contestant = CONTESTANTS[name]
    work = functools.partial(contestant.airflow, on) if contestant.airflow else bench.work
    records = min(arguments.records, contestant.records_max)
    return measure(
        on,
        contestant.module or name,
        name=label,
        records=records,
        slots=slots,
        latency_ms=arguments.latency_ms,
        tasks=contestant.tasks,
        work=work,
        checkout=checkout,
    )


def machine() -> dict[str, Any]:
    """Describe the machine that the figures come from."""
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
    options.add_argument("--repeat", type=int, default=1, metavar="N", help="repetitions of the whole (1)")
    options.add_argument("--baseline", type=folder_of, metavar="FOLDER", help="a checkout of another version, to run ours from as well")
    options.add_argument(
        "--baseline-set",
        type=_setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of the baseline alone, which is this checkout without --baseline",
    )
    options.add_argument("--json", type=Path, metavar="FILE", help="also write all figures there")
    options.add_argument("--plot", type=Path, metavar="FILE", help="also draw throughput against slots there (SVG)")
    options.add_argument(
        "--folder", type=Path, default=STATE, metavar="FOLDER", help="where Postgres and logs are kept (.state/benchmarks)"
    )
    return options


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError("must be NAME=VALUE")
    return name, value


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - {*CONTESTANTS, ABLATIONS}:
        raise argparse.ArgumentTypeError(f"there is no contestant {', '.join(sorted(unknown))}")
    return names


if __name__ == "__main__":
    sys.exit(main())
