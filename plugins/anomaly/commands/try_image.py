"""`anomaly try-image`."""

from __future__ import annotations

import dataclasses
import os
import time
from typing import TYPE_CHECKING, Any

import click

from anomaly.commands.output import examples, json_option, print_json, print_line

if TYPE_CHECKING:
    from anomaly.images.download import ImageSource

ACCEPTED = "{url}: {media_type}, {width_px} x {height_px} pixels, {bytes} bytes, in {ms} ms"
REFUSED = "{url}: {code}: {error}; {fix}"


@click.command(epilog=examples("anomaly try-image https://images.example/1.png", "anomaly try-image s3://images/1.png --json"))
@click.argument("urls", metavar="URL...", nargs=-1, required=True)
@json_option
@click.pass_context
def command(ctx: click.Context, *, urls: tuple[str, ...], as_json: bool) -> None:
    """Download images as a run would, without a record.

    The rules of the connection anomaly_images and all checks apply; a download that fails is not repeated. Prints the kind and size of each
    image, or the error code that a record would get, and what to do. Exit status 1 if an image cannot be used.
    """
    from anomaly import connections
    from anomaly.settings import Settings

    settings = dataclasses.replace(Settings.from_environ(os.environ), image_retries=0)
    with connections.image_source(settings) as source:
        found = [_tried(source, url) for url in urls]
    if as_json:
        print_json(found)
    else:
        for each in found:
            print_line((ACCEPTED if each["ok"] else REFUSED).format_map(each))
    ctx.exit(0 if all(each["ok"] for each in found) else 1)


def _tried(source: ImageSource, url: str) -> dict[str, Any]:
    from anomaly.advice import ADVICE
    from anomaly.errors import AnomalyError
    from anomaly.images.address import redacted

    began = time.monotonic()
    shown = {"url": redacted(url)}
    try:
        image = source.fetch(url)
    except AnomalyError as exc:
        return {**shown, "ok": False, "code": exc.code, "error": str(exc), "fix": ADVICE[exc.code].fix.replace("`", "")}
    about = {"media_type": image.media_type, "width_px": image.width_px, "height_px": image.height_px, "bytes": len(image.content)}
    return {**shown, "ok": True, **about, "sha256": image.sha256, "ms": round((time.monotonic() - began) * 1000)}
