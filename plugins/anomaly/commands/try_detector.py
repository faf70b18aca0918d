"""`anomaly try-detector`."""

from __future__ import annotations

import dataclasses
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from anomaly.commands.output import console, examples, json_option, print_json, print_line, table

if TYPE_CHECKING:
    from anomaly.detectors import ExplainingDetector
    from anomaly.models.answers import Verdict
    from anomaly.models.records import Image

SHOWN_CHARS = 2000
"""Longest part of an answer that is printed."""


@click.command(
    epilog=examples(
        "anomaly try-detector anomaly_detector photo.jpg",
        "anomaly try-detector anomaly_detector photo.jpg https://images.example/1.png --pictures verdicts --json",
        "anomaly try-detector anomaly_detector --answer answer.json",
    )
)
@click.argument("connection")
@click.argument("images", metavar="[IMAGE]...", nargs=-1)
@click.option("--answer", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Read a saved answer instead of sending.")
@click.option("--pictures", type=click.Path(path_type=Path, file_okay=False), help="Folder for the images with regions and heat map.")
@json_option
@click.pass_context
def command(
    ctx: click.Context, *, connection: str, images: tuple[str, ...], answer: Path | None, pictures: Path | None, as_json: bool
) -> None:
    """Ask a detector about images, without records.

    IMAGE is a file or an address. Sends one request for each, without retries, and prints its status and duration, the answer without
    secrets, what each expression of the mapping found and what was expected, and the verdict. Exit status 1 if there is no verdict.
    """
    from anomaly import connections
    from anomaly.maintenance.check_images import image_at
    from anomaly.settings import Settings

    if not images and answer is None:
        raise click.UsageError("Name an image, or a saved answer by --answer.")
    if answer is not None and len(images) > 1:
        raise click.UsageError("A saved answer is about one image.")
    settings = Settings.from_environ(os.environ)
    found: list[dict[str, Any]] = []
    with connections.detector(connection, settings) as detector:
        for where in images or (None,):
            image = image_at(where, settings) if where else None
            tried = _tried(detector, image, answer)
            verdict: Verdict | None = tried.pop("verdict")
            tried["verdict"] = _shown(verdict) if verdict else None
            if pictures and image and verdict:
                tried["picture"] = _write_picture(pictures, len(found), where or "", image, verdict)
            found.append({"image": where, **tried})
            if not as_json:
                _print(found[-1])
    if as_json:
        print_json(found)
    ctx.exit(0 if all(each["verdict"] for each in found) else 1)


def _tried(detector: ExplainingDetector, image: Image | None, saved: Path | None) -> dict[str, Any]:
    """Return what a request, or a saved answer, led to."""
    from anomaly.advice import ADVICE
    from anomaly.errors import AnomalyError

    found: dict[str, Any] = {"status": None, "ms": None, "answer": None, "fields": [], "verdict": None, "error": None}
    try:
        raw = saved.read_bytes() if saved else b""
        if image and not saved:
            reply = detector.send(image, idempotency_key=uuid.uuid4().hex)
            raw = reply.raw
            found |= {"status": reply.status, "ms": round(reply.latency_ms)}
        found["answer"] = detector.redacted(raw).decode("utf-8", "replace")
        found["fields"] = [dataclasses.asdict(each) for each in detector.explain(raw)]
        found["verdict"] = detector.read(raw)
    except AnomalyError as exc:
        found["error"] = {"code": exc.code, "error": str(exc), "fix": ADVICE[exc.code].fix.replace("`", "")}
    return found


def _shown(verdict: Verdict) -> dict[str, Any]:
    shown = dataclasses.asdict(dataclasses.replace(verdict, heatmap=None))
    return {**shown, "heatmap": f"a PNG of {len(verdict.heatmap)} bytes" if verdict.heatmap else None}


def _write_picture(folder: Path, number: int, where: str, image: Image, verdict: Verdict) -> str:
    from anomaly.commands.picture import draw

    path = folder / f"{number}-{Path(where.partition('?')[0]).stem or 'image'}.png"
    try:
        folder.mkdir(exist_ok=True)
        path.write_bytes(draw(image.content, verdict))
    except OSError as exc:
        raise click.ClickException(f"{path} cannot be written: {exc.strerror or exc}") from exc
    return str(path)


def _print(tried: dict[str, Any]) -> None:
    screen = console()
    sent = "no answer" if tried["answer"] is None else "a saved answer"
    if tried["status"]:
        sent = f"status {tried['status']} in {tried['ms']} ms"
    print_line(f"{tried['image'] or ''}: {sent}".removeprefix(": "))
    if tried["answer"] is not None:
        more = f" … ({len(tried['answer'])} characters)" if len(tried["answer"]) > SHOWN_CHARS else ""
        print_line(f"answer: {tried['answer'][:SHOWN_CHARS]}{more}")
    if tried["fields"]:
        names = ("field", "expression", "found", "expected", "problem")
        screen.print(table("Mapping", names, [[each[name] for name in names] for each in tried["fields"]]))
    if tried["verdict"]:
        screen.print(table("Verdict", ("", ""), [each for each in tried["verdict"].items() if each[1] not in (None, ())]))
    if tried["error"]:
        print_line("{code}: {error}; {fix}".format_map(tried["error"]))
    if "picture" in tried:
        print_line(f"picture: {tried['picture']}")
