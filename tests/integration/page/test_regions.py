"""Regions on the page about a record: drawn in one unit, or not drawn with the reason."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from anomaly.models.answers import Answer
from anomaly.models.regions import RegionFormat
from tests.parts.record_builders import an_answer

if TYPE_CHECKING:
    from httpx import Response

    from tests.integration.page.conftest import Site


def page_of(site: Site, form: RegionFormat | None, *regions: dict[str, Any]) -> Response:
    """Commit a verdict with these regions on an image of 300 by 200 pixels, and return its record's page."""
    [claim] = site.db.claims()
    verdict = an_answer().verdict
    values = {name: getattr(verdict, name) for name in verdict.__dataclass_fields__}
    made = type(verdict)(**values | {"regions": regions, "region_format": form})
    site.db.commit(claim, Answer(raw=b"{}", verdict=made, latency_ms=1.0))
    return site.get(f"/records/{claim.record_id}")


def outlines(page: Response) -> list[str]:
    return re.findall(r'<polygon points="([^"]*?) ?"', page.text)


def test_boxes_and_polygons_are_drawn_in_fractions(site: Site) -> None:
    page = page_of(
        site,
        RegionFormat("px"),
        {"x": 30, "y": 20, "width": 60, "height": 40},
        {"polygon": [[30, 20], [90, 20], [60, 60]]},
    )
    assert outlines(page) == ["0.1,0.1 0.3,0.1 0.3,0.3 0.1,0.3", "0.1,0.1 0.3,0.1 0.2,0.3"]
    assert 'viewBox="0 0 1 1"' in page.text
    assert "300 \N{MULTIPLICATION SIGN} 200 pixels, image/png" in page.text


def test_regions_in_an_unknown_unit_are_not_drawn_and_the_page_says_so(site: Site) -> None:
    page = page_of(site, None, {"x": 0.1, "y": 0.1, "width": 0.2, "height": 0.2})
    assert outlines(page) == []
    assert "The 1 region is not drawn: nothing says in which unit." in page.text


def test_a_region_without_a_place_is_counted(site: Site) -> None:
    page = page_of(site, RegionFormat("px"), {"name": "dust"}, {"x": 30, "y": 20, "width": 60, "height": 40})
    assert len(outlines(page)) == 1
    assert "1 of 2 regions has no place in the image" in page.text


@pytest.mark.parametrize("regions", ['[{"x": "a"}]', '[{"x": 1, "polygon": 3}]', "[3, null]", '{"x": 1}', '[{"x": 0.1, "polygon": [[1]]}]'])
def test_regions_that_somebody_has_edited_do_not_break_the_page(site: Site, regions: str) -> None:
    page_of(site, RegionFormat("px"), {"x": 30, "y": 20, "width": 60, "height": 40})
    site.db.do("update anomaly.ai_results set regions = %(to)s::jsonb", to=regions)
    [row] = site.db.rows("select record_id from anomaly.ai_results")
    assert outlines(site.get(f"/records/{row['record_id']}")) == []


def test_a_result_of_before_has_neither_unit_nor_size(site: Site) -> None:
    page_of(site, RegionFormat("px"), {"x": 30, "y": 20, "width": 60, "height": 40})
    site.db.do("update anomaly.ai_results set regions_unit = null, image_width_px = null, image_height_px = null, image_media_type = null")
    [row] = site.db.rows("select record_id from anomaly.ai_results")
    page = site.get(f"/records/{row['record_id']}").text
    assert "nothing says in which unit" in page
    assert "pixels," not in page
