"""The threshold page in a browser: the slider by keys, a threshold that is stored, and flags that follow."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from anomaly.db.reviews import Decision, ReviewStore
from tests.browser.test_page import BARS_OUTSIDE, count, text

if TYPE_CHECKING:
    from tests.browser.conftest import Window

pytestmark = pytest.mark.timeout(600)  # as in test_page.py
FLAGGED = "select count(*) as n from anomaly.ai_flags where is_anomaly"
HANGS_OVER = "document.documentElement.scrollWidth > innerWidth"


def review_some(window: Window) -> None:
    """Review the flagged records but every fifth, and a sample of the others, as their label in the data set would be decided."""
    window.db.do("update anomaly.ai_flags set sampled = true, sample_share = 0.3 where mod(record_id, 3) = 0")
    rows = window.db.rows(
        """select f.record_id, f.token, (r.attributes ->> 'defect_probability')::float8 as defect
             from anomaly.ai_flags as f join anomaly.records as r on r.id = f.record_id
            where f.ai_processed and (f.sampled or (f.is_anomaly and mod(f.record_id, 5) <> 0))"""
    )
    store = ReviewStore(window.db.database)
    for row in rows:
        verdict = "anomaly" if row["defect"] > 0.5 else "unsure" if row["defect"] > 0.3 else "normal"
        store.decide(Decision(id=uuid.uuid4(), record_id=row["record_id"], token=row["token"], verdict=verdict), reviewer="ann")  # type: ignore[arg-type]


def test_the_page_fits_the_window(window: Window, look: tuple[int, str]) -> None:
    width, colours = look
    window.open("/threshold")
    window.save(f"threshold-unreviewed-{width}-{colours}")
    assert not window.page.evaluate(HANGS_OVER)
    review_some(window)
    window.open("/threshold")
    window.page.locator("summary").last.click()
    assert not window.page.evaluate(HANGS_OVER)
    window.page.locator("summary").last.click()
    window.page.locator("#threshold").focus()
    window.save(f"threshold-{width}-{colours}")
    assert window.page.evaluate(BARS_OUTSIDE) == 0
    window.page.locator("#reason").fill("three of ten alarms were dust, says the night shift")
    window.page.keyboard.press("Enter")
    window.page.wait_for_load_state("networkidle")
    window.page.locator("#following").scroll_into_view_if_needed()
    window.save(f"threshold-stored-{width}-{colours}")
    assert not window.page.evaluate(HANGS_OVER)
    window.open("/threshold?threshold=nan")
    window.save(f"threshold-problem-{width}-{colours}")


def test_a_threshold_is_chosen_and_stored_by_the_keyboard_alone_and_flags_follow(window: Window) -> None:
    review_some(window)
    window.open("/threshold")
    page, flagged = window.page, count(window, FLAGGED)
    before = text(page.locator("[data-figure=flagged]"))
    assert before == str(flagged)
    page.locator("#threshold").focus()
    page.keyboard.press("Home")
    assert text(page.locator("[data-figure=flagged]")) == str(count(window, "select count(*) as n from anomaly.ai_flags"))
    page.keyboard.press("End")
    assert text(page.locator("[data-figure=flagged]")) == "0"
    for _ in range(3):
        page.keyboard.press("PageDown")
    page.keyboard.press("ArrowLeft")
    chosen = float(str(page.locator("#kept").input_value()))
    wanted = int(window.db.rows("select count(*) as n from anomaly.ai_flags where score >= %(at)s", at=chosen)[0]["n"])
    assert text(page.locator("[data-figure=flagged]")) == str(wanted) != before
    while page.evaluate("document.activeElement.id") != "reason":
        page.keyboard.press("Tab")
    page.keyboard.type("too many false alarms")
    page.keyboard.press("Enter")
    page.wait_for_load_state("networkidle")
    assert "The threshold is stored." in text(page.locator(".notice"))
    assert count(window, FLAGGED) == wanted
    assert count(window, "select count(*) as n from anomaly.processing_log where event = 'threshold_changed'") == abs(flagged - wanted)
    window.open("/gallery?verdict=anomaly")
    assert text(page.locator("[data-figure=count]")) == str(wanted)


def test_flags_follow_while_the_page_is_open(window: Window) -> None:
    [row] = window.db.rows("select detector from anomaly.ai_flags where ai_processed limit 1")
    window.db.do("select anomaly.add_threshold(gen_random_uuid(), %(d)s, 0.9, 'x', 'bob')", d=row["detector"])
    window.open("/threshold")
    window.page.wait_for_function("() => document.getElementById('following').dataset.left === '0'")
    assert count(window, "select count(*) as n from anomaly.ai_flags where threshold <> 0.9") == 0


def test_without_a_script_the_slider_is_a_form(window: Window) -> None:
    browser = window.page.context.browser
    assert browser
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{window.url}/threshold")
    page.locator("#exactly").fill("33.333")
    page.get_by_role("button", name="Show").last.click()
    assert text(page.locator("[data-figure=threshold]")) == "33.33"
    page.locator("#threshold").focus()
    page.keyboard.press("End")
    page.get_by_role("button", name="Show").last.click()
    assert text(page.locator("[data-figure=flagged]")) == "0"
    assert "threshold=" in page.url
    context.close()
