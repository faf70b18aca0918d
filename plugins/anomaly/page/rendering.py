"""Templates, and how values are shown in them."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import jinja2
from fastapi import Response

from anomaly.escaping import escaped
from anomaly.page import static

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import Request

MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86_400
NONE = "\N{EN DASH}"
"""Shown for a value that there is not."""
COUNTED_MAX = 1_000_000
"""Counts of the backlog stop here."""


def render(request: Request, template: str, values: Mapping[str, Any], *, status: int = 200) -> Response:
    """Return the page that a template makes of *values*."""
    root = request.scope.get("root_path", "").rstrip("/")
    body = (
        _environment()
        .get_template(template)
        .render(
            **values,
            root=root,
            static=f"{root}/static/{static.version()}",
            path=request.url.path.removeprefix(root),
            can_write=getattr(request.state, "can_write", False),
        )
    )
    return Response(body, status_code=status, media_type="text/html; charset=utf-8")


@cache
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,  # in .svg as well
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        number=number,
        counted=counted,
        duration=duration,
        percent=percent,
        score=score,
        took=took,
        moment=moment,
        plain=plain,
        query=query,
        segment=segment,
    )
    return made


def number(value: int | None) -> str:
    """Return a count with thousands separated."""
    return NONE if value is None else f"{value:,}"


def counted(value: int) -> str:
    """Return a count that stops at `COUNTED_MAX`."""
    return number(value) + ("+" if value >= COUNTED_MAX else "")


def duration(seconds: float | None) -> str:
    """Return a duration in the two largest units that matter."""
    if seconds is None:
        return NONE
    whole = max(0, round(seconds))
    if whole < MINUTE_S:
        return f"{whole} s"
    if whole < HOUR_S:
        return f"{whole // MINUTE_S} min {whole % MINUTE_S} s"
    if whole < DAY_S:
        return f"{whole // HOUR_S} h {whole % HOUR_S // MINUTE_S} min"
    return f"{whole // DAY_S} d {whole % DAY_S // HOUR_S} h"


def percent(share: float | None) -> str:
    return NONE if share is None else f"{share * 100:.1f} %"


def score(value: float | None) -> str:
    """Return a score in four significant digits."""
    return NONE if value is None else f"{value:#.4g}"


def took(milliseconds: float | None) -> str:
    """Return a short duration."""
    if milliseconds is None:
        return NONE
    return f"{milliseconds:.0f} ms" if milliseconds < 10_000 else f"{milliseconds / 1000:.1f} s"  # noqa: PLR2004  # four digits


def moment(value: datetime | None) -> str:
    """Return a time in UTC. A script of the page shows it in the reader's zone."""
    if value is None:
        return NONE
    try:
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError):
        return str(value)


def plain(value: object) -> str:
    """Return text from outside with its control characters escaped."""
    return "" if value is None else escaped(str(value))


def query(values: Mapping[str, Any], **changes: Any) -> str:
    """Return a query string of *values* with *changes*; None leaves a name out."""
    return urlencode({name: value for name, value in {**values, **changes}.items() if value not in (None, "")}, doseq=True)


def segment(value: object) -> str:
    """Return text as one segment of a path."""
    return quote(str(value), safe="")


def render_picture(sentence: str, *, status: int) -> Response:
    """Return a picture that says why there is none, for the place of an image."""
    body = _environment().get_template("no_picture.svg").render(sentence=sentence)
    return Response(body, status_code=status, media_type="image/svg+xml")
