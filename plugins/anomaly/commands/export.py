"""`anomaly export`."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from anomaly.commands.database import check_code, check_name, records_database, window_options
from anomaly.commands.output import examples

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from anomaly.db.export import ExportFilter

STATES = ("pending", "claimed", "done", "quarantined")
FORMAT_NAMES = ("csv", "json", "parquet", "coco", "images")
REVIEWS = ("open", "done", "anomaly", "normal", "unsure")


def _attribute(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[str, str] | None:
    if value is None:
        return None
    name, equals, wanted = value.partition("=")
    if not (name and equals):
        raise click.BadParameter("write NAME=VALUE, such as line=L1")
    return name, wanted


@click.command(
    epilog=examples(
        "anomaly export",
        "anomaly export --status done --detector padim@1 --window-start 2026-01-01 --output verdicts.csv",
        "anomaly export --verdict anomaly --review open --min-score 0.9 --attribute line=L1",
        "anomaly export --code image_not_found --format json",
        "anomaly export --status done --format images --output by-verdict",
    )
)
@click.option("--status", "statuses", type=click.Choice(STATES), multiple=True, help="Only records in this state. May be repeated.")
@click.option("--code", metavar="CODE", callback=check_code, help="Only records whose last error has this code.")
@click.option("--detector", metavar="NAME", help="Only records with a result of this detector, and its newest one.")
@click.option("--verdict", type=click.Choice(("anomaly", "normal")), help="Only judged records with this verdict.")
@click.option(
    "--review", type=click.Choice(REVIEWS), help="Only judged records to be reviewed (open), with a review (done), or with this one."
)
@click.option("--min-score", type=float, help="Only judged records with at least this score.")
@click.option("--max-score", type=float, help="Only judged records with at most this score.")
@click.option("--label", help="Only judged records with this label.")
@click.option("--attribute", metavar="NAME=VALUE", callback=_attribute, help="Only judged records with this attribute.")
@window_options
@click.option("--output", type=click.Path(path_type=Path), help="File to write, or folder for images.  [default: standard output]")
@click.option("--format", "written", type=click.Choice(FORMAT_NAMES), default="csv", show_default=True, help="json: a document a line.")
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def command(*, detector: str | None, output: Path | None, written: str, as_json: bool, **conditions: Any) -> None:
    """Write records with their newest verdict.

    The page's gallery exports the same, by the same conditions. Records are read a thousand at a time: one state after the other, by
    capture time, or judged records by score if a condition is only about them. A run may move records from one state to another
    meanwhile. In CSV an apostrophe precedes text that a spreadsheet would take for a formula.
    """
    from anomaly import connections
    from anomaly.db.export import ExportStore
    from anomaly.db.inspection import InspectionStore
    from anomaly.export.formats import FORMATS
    from anomaly.export.images import image_files
    from anomaly.settings import Settings

    if written == "images" and output is None:
        raise click.UsageError("--format images needs --output FOLDER")
    with records_database() as database:
        if detector is not None:
            check_name("detector", detector, InspectionStore(database).detectors())
        rows = ExportStore(database).rows(_filter(detector=detector, **conditions))
        archive = partial(connections.bucket, Settings.from_environ(os.environ))
        if written == "images" and output:
            for name, content in image_files(rows, archive()):
                _write(output / name, [content])
        else:
            _write(output, FORMATS["json" if as_json else written].blocks(rows, archive))


def _write(path: Path | None, blocks: Iterable[bytes]) -> None:
    if path is None:
        sys.stdout.buffer.writelines(blocks)
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.writelines(blocks)
    except OSError as exc:
        raise click.FileError(str(path), exc.strerror) from exc


def _filter(
    *,
    statuses: tuple[str, ...],
    code: str | None,
    detector: str | None,
    window_start: datetime | None,
    window_end: datetime | None,
    attribute: tuple[str, str] | None,
    **of_judged: Any,
) -> ExportFilter:
    from anomaly.db.export import ExportFilter
    from anomaly.db.page_gallery import GalleryFilter
    from anomaly.models.runs import Window

    judged = None
    if attribute or any(value is not None for value in of_judged.values()):
        name, value = attribute or (None, None)
        verdict = of_judged["verdict"]
        judged = GalleryFilter(
            verdict=None if verdict is None else verdict == "anomaly",
            reviewed=of_judged["review"],
            low=of_judged["min_score"],
            high=of_judged["max_score"],
            label=of_judged["label"],
            detector=detector,
            since=window_start,
            until=window_end,
            attribute=name,
            attribute_value=value,
        )
    window = Window(start=window_start, end=window_end)
    return ExportFilter(statuses=statuses or STATES, error_code=code, detector=detector, window=window, judged=judged)
