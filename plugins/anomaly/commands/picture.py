"""Draws a verdict into its image."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from PIL import Image as Pillow
from PIL import ImageDraw

from anomaly.images.validation import validated

if TYPE_CHECKING:
    from anomaly.models.answers import Verdict

COLOUR = (255, 0, 0)
HEATMAP_MAX_PX = 50_000_000
HEAT = 0.6
"""Opacity of the heat map where it is hottest."""


def draw(content: bytes, verdict: Verdict) -> bytes:
    """Return a PNG of the image with the regions and the heat map of a verdict.

    Raises:
        RecordRejected: the heat map is not an image that can be decoded safely.
    """
    with Pillow.open(io.BytesIO(content)) as opened:
        picture = opened.convert("RGB")
    if verdict.heatmap:
        heatmap = validated(verdict.heatmap, max_px=HEATMAP_MAX_PX, source="the heat map")
        with Pillow.open(io.BytesIO(heatmap.content)) as opened:
            heat = opened.convert("L").resize(picture.size)
        mask = heat.point([round(each * HEAT) for each in range(256)])
        picture = Pillow.composite(Pillow.new("RGB", picture.size, COLOUR), picture, mask)
    pen = ImageDraw.Draw(picture)
    for region in verdict.regions:
        if box := _box(region, *picture.size):
            pen.rectangle(box, outline=COLOUR, width=max(1, min(picture.size) // 200))
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def _box(region: dict[str, Any], width_px: int, height_px: int) -> tuple[float, float, float, float] | None:
    """Return the corners of a region in pixels or in fractions of the image; None if it has neither."""
    for names, x_scale, y_scale in (
        (("x_px", "y_px", "width_px", "height_px"), 1, 1),
        (("x", "y", "width", "height"), width_px, height_px),
    ):
        values = [region[name] for name in names if isinstance(region.get(name), int | float) and region[name] >= 0]
        if len(values) == len(names):
            left, top, width, height = values
            return left * x_scale, top * y_scale, (left + width) * x_scale, (top + height) * y_scale
    return None
