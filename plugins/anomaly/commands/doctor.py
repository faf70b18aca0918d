"""`anomaly doctor`."""

from __future__ import annotations

import dataclasses
import os

import click

from anomaly.commands.output import examples, json_option, print_json, print_line


@click.command(
    epilog=examples("anomaly doctor", "anomaly doctor --image photo.jpg", "anomaly doctor --detector anomaly_detector_v2 --json")
)
@click.option("--detector", default="anomaly_detector", show_default=True, help="Id of the detector's connection.")
@click.option("--image", metavar="PATH|URL", help="Image to ask the detector about.  [default: a made one]")
@json_option
@click.pass_context
def command(ctx: click.Context, *, detector: str, image: str | None, as_json: bool) -> None:
    """Check the installation and print how to fix what fails.

    It checks connections, privileges, schema, bucket, detector, clocks and settings.
    """
    from anomaly.maintenance.doctor import Doctor

    found = []
    for finding in Doctor(os.environ, detector=detector, image=image).findings():
        found.append(finding)
        if not as_json:
            print_line(finding)
    if as_json:
        print_json([dataclasses.asdict(finding) for finding in found])
    ctx.exit(1 if any(finding.problem for finding in found) else 0)
