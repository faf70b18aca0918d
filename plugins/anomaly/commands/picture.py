"""Draws a verdict into its image."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from PIL import Image as Pillow
from PIL import ImageDraw

from anomaly.images.validation import validated
from anomaly.models.regions import in_fractions

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
    width, height = picture.size
    for region in in_fractions(verdict.regions, verdict.region_format, width_px=width, height_px=height) or ():
        if "x" in region:
            corners = region.get("polygon") or _corners(**{name: region[name] for name in ("x", "y", "width", "height")})
            pen.polygon([(x * width, y * height) for x, y in corners], outline=COLOUR, width=max(1, min(picture.size) // 200))
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def _corners(x: float, y: float, width: float, height: float) -> list[tuple[float, float]]:
    return [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
