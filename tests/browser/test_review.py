"""The review queue in a browser: the detector's verdict stays covered until the reader has decided."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.browser.conftest import Window

pytestmark = pytest.mark.timeout(600)  # the first window waits until the detector is fitted and the photos are judged


def verdict_is_shown(window: Window) -> bool:
    shown = [window.page.locator(selector).is_visible() for selector in ("#verdict", "#score", "#threshold")]
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
