"""The review queue in a browser: the detector's verdict stays covered until the reader has decided."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.browser.conftest import Window

pytestmark = pytest.mark.timeout(600)  # the first window waits until the detector is fitted and the photos are judged


def verdict_is_shown(window: Window) -> bool:
    shown: list[bool] = [window.page.locator(selector).is_visible() for selector in ("#verdict", "#score", "#threshold")]
    assert len(set(shown)) == 1
    return shown[0]


def test_the_verdict_is_covered_until_it_is_asked_for_or_the_record_is_decided(window: Window) -> None:
    window.open("/review")
    assert not verdict_is_shown(window)
    window.save("review-covered-1280-light")
    window.page.keyboard.press("v")
    assert verdict_is_shown(window)
    window.page.keyboard.press("n")
    assert not verdict_is_shown(window)
    window.page.keyboard.press("ArrowLeft")
    assert verdict_is_shown(window)
    window.page.keyboard.press("u")
    assert not verdict_is_shown(window)


def test_a_queue_of_anomalies_alone_shows_the_verdict(window: Window) -> None:
    window.open("/review")
    window.page.get_by_role("link", name="Anomalies only").click()
    window.page.wait_for_load_state("networkidle")
    assert verdict_is_shown(window)


def test_the_last_good_image_is_shown_beside_the_record_and_in_its_place_while_a_key_is_held(window: Window) -> None:
    window.open("/review?verdict=anomaly")
    window.page.wait_for_selector("#good-image")
    window.page.wait_for_load_state("networkidle")
    window.save("review-context-1280-light")
    window.page.keyboard.down("b")
    assert window.page.locator(".in-place").is_visible()
    source = str(window.page.locator("#good-image").get_attribute("src"))
    assert str(window.page.locator(".in-place").get_attribute("src")).endswith(source)
    window.page.keyboard.up("b")
    assert window.page.locator(".in-place").count() == 0


def test_selected_records_are_scored_again(window: Window) -> None:
    window.open("/gallery?verdict=anomaly")
    tiles = window.page.locator(".tile-record")
    tiles.nth(0).hover()
    tiles.nth(0).locator("input").click()
    tiles.nth(2).hover()
    tiles.nth(2).locator("input").click(modifiers=["Shift"])
    window.page.locator("#score-again").click()
    window.page.wait_for_function("() => document.getElementById('toast-text').textContent.includes('3 records')")
    assert window.db.rows("select count(*) as n from anomaly.records where ask_anew is not null and status = 'pending'") == [{"n": 3}]
    record = tiles.nth(0).get_attribute("data-record")
    window.open(f"/records/{record}")
    assert "waits to be scored again" in window.page.content()
