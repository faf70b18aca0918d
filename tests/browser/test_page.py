"""The page in a browser: how it looks, and what keys and buttons do."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING

import pytest

from anomaly.errors import ImageNotFound
from tests.integration.page.test_gallery import HOSTILE_UPDATES
from tests.integration.page.test_overview import HOSTILE

if TYPE_CHECKING:
    from playwright.sync_api import Locator

    from tests.browser.conftest import Window

pytestmark = pytest.mark.timeout(600)  # the first window waits until the detector is fitted and the photos are judged
BARS_OUTSIDE = """() => [...document.querySelectorAll('.chart rect')].filter(bar => {
    const box = bar.getBoundingClientRect(), chart = bar.ownerSVGElement.getBoundingClientRect();
    return box.left < chart.left || box.right > chart.right || box.top < chart.top || box.bottom > chart.bottom;
}).length"""
REVIEWS = "select count(*) as n from anomaly.reviews"


def count(window: Window, query: str) -> int:
    return int(window.db.rows(query)[0]["n"])


def saved(window: Window) -> None:
    """Wait until the server has every decision."""
    window.page.wait_for_function("() => (localStorage.getItem('anomaly.outbox') ?? '[]') === '[]'")


def text(locator: Locator) -> str:
    return str(locator.inner_text()).strip()  # playwright may be missing to mypy


def test_each_page_fits_the_window(window: Window, look: tuple[int, str]) -> None:
    width, colours = look
    [row] = window.db.rows("select record_id from anomaly.ai_flags where is_anomaly order by score desc offset 20 limit 1")
    for name, path in {
        "overview": "/",
        "gallery": "/gallery?order=uncertain",
        "record": f"/records/{row['record_id']}",
        "review": "/review?order=uncertain",
        "failed": "/gallery?state=quarantined",
        "nothing": "/gallery?label=none",
        "gone": "/gallery?state=claimed",
    }.items():
        window.open(path)
        window.save(f"{name}-{width}-{colours}")
        assert window.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (name, width)
        assert window.page.evaluate("document.documentElement.dataset.theme") == colours
        if name == "overview":
            assert window.page.evaluate(BARS_OUTSIDE) == 0


def test_fifty_records_are_reviewed_by_keys_alone_and_undo_reaches_back_across_pages(window: Window) -> None:
    window.open("/review")
    first = text(window.page.locator("#record-link"))
    waiting = count(window, "select count(*) as n from anomaly.ai_flags where needs_review")
    for n in range(50):
        shown = text(window.page.locator("#record-link"))
        window.page.keyboard.press("ans"[n % 3])
        window.page.wait_for_function("before => document.getElementById('record-link').textContent !== before", arg=shown)
    saved(window)
    assert count(window, REVIEWS) == 50
    assert count(window, "select count(*) as n from anomaly.ai_flags where needs_review") == waiting - 50
    assert text(window.page.locator("#done")) == "50"
    for _ in range(49):
        window.page.keyboard.press("u")
    window.open("/gallery")
    window.page.keyboard.press("u")
    saved(window)
    assert count(window, "select count(*) as n from anomaly.ai_flags where review is not null") == 0
    window.open("/review")
    assert text(window.page.locator("#record-link")) == first


def test_arrows_move_without_a_decision_and_a_comment_is_typed_without_deciding(window: Window) -> None:
    window.open("/review")
    first = text(window.page.locator("#record-link"))
    window.page.keyboard.press("ArrowRight")
    assert text(window.page.locator("#record-link")) != first
    window.page.keyboard.press("ArrowLeft")
    assert text(window.page.locator("#record-link")) == first
    window.page.keyboard.press("c")
    window.page.keyboard.type("a scan, not sure")
    window.page.keyboard.press("Enter")
    window.page.keyboard.press("n")
    saved(window)
    assert [(row["verdict"], row["comment"]) for row in window.db.rows("select verdict, comment from anomaly.reviews")] == [
        ("normal", "a scan, not sure")
    ]


def test_a_decision_is_kept_until_the_server_answers(window: Window) -> None:
    window.open("/review")
    window.page.route("**/decisions", lambda route: route.fulfill(status=503, body=""))
    window.page.keyboard.press("a")
    window.page.wait_for_function("() => document.getElementById('review-state').textContent.startsWith('Not saved yet')")
    assert count(window, REVIEWS) == 0
    window.page.reload()
    window.page.wait_for_function("() => document.getElementById('unsaved').textContent === '1'")
    window.page.unroute("**/decisions")
    window.open("/gallery")
    saved(window)
    assert count(window, REVIEWS) == 1
    window.problems = [each for each in window.problems if "503" not in each]


def test_a_decision_that_the_server_refuses_costs_no_other(window: Window) -> None:
    window.open("/gallery?label=none")
    [row] = window.db.rows("select record_id, token from anomaly.ai_flags where needs_review limit 1")
    good = {"id": str(uuid.uuid4()), "record_id": row["record_id"], "token": row["token"], "verdict": "normal"}
    outbox = [{**good, "id": "no id"}, good, {**good, "id": str(uuid.uuid4()), "verdict": "good"}]
    window.page.evaluate("outbox => localStorage.setItem('anomaly.outbox', JSON.stringify(outbox))", outbox)
    window.open("/gallery?label=none")
    saved(window)
    assert [str(found["id"]) for found in window.db.rows("select id from anomaly.reviews")] == [good["id"]]
    window.problems = [each for each in window.problems if "400" not in each]


def test_the_images_that_come_next_are_loaded_before_the_key(window: Window) -> None:
    window.open("/review")
    asked: list[str] = []
    window.page.on("request", lambda sent: asked.append(sent.url) if "/pictures/" in sent.url else None)
    source = window.page.locator("#image").get_attribute("src")
    window.page.keyboard.press("ArrowRight")
    now = window.page.locator("#image").get_attribute("src")
    assert now != source
    window.page.wait_for_load_state("networkidle")
    assert not any(url.endswith(str(now)) for url in asked)


def test_selected_records_are_decided_together_and_taken_back_together(window: Window) -> None:
    window.open("/gallery")
    tiles = window.page.locator(".tile-record")
    tiles.nth(0).hover()
    tiles.nth(0).locator("input").click()
    tiles.nth(7).hover()
    tiles.nth(7).locator("input").click(modifiers=["Shift"])
    assert text(window.page.locator("#picked")) == "8"
    window.save("selected-1280-light")
    window.page.keyboard.press("n")
    saved(window)
    assert count(window, "select count(*) as n from anomaly.ai_flags where review = 'normal'") == 8
    assert text(window.page.locator("#toast-text")) == "8 records: normal."
    window.page.locator("#undo").click()
    saved(window)
    assert count(window, "select count(*) as n from anomaly.ai_flags where review is not null") == 0


def test_the_slider_and_a_held_key_change_the_heat_map_and_the_slider_is_remembered(window: Window) -> None:
    window.open("/review")
    strength = "getComputedStyle(document.getElementById('heat')).opacity"
    window.page.locator("#strength").fill("20")
    assert window.page.evaluate(strength) == "0.2"
    window.page.keyboard.down("h")
    assert window.page.locator("#heat").is_hidden()
    window.page.keyboard.up("h")
    assert window.page.locator("#heat").is_visible()
    window.open("/gallery")
    assert window.page.locator("#strength").input_value() == "20"


def test_a_filter_is_in_the_address_and_the_next_page_keeps_it(window: Window) -> None:
    window.open("/gallery")
    window.page.locator("select[name=verdict]").select_option("anomaly")
    window.page.get_by_role("button", name="Apply").click()
    window.page.wait_for_load_state("networkidle")
    assert "verdict=anomaly" in window.page.url
    shown = int(text(window.page.locator("[data-figure=count]")))
    assert shown == count(window, "select count(*) as n from anomaly.ai_flags where is_anomaly")
    window.page.get_by_role("link", name="Next page").click()
    assert "verdict=anomaly" in window.page.url


def test_a_failure_is_requeued_after_a_question(window: Window) -> None:
    failed = count(window, "select count(*) as n from anomaly.records where status = 'quarantined'")
    window.open("/")
    window.page.locator("details.confirm summary").first.click()
    window.page.locator("details.confirm[open] button").click()
    window.page.wait_for_load_state("networkidle")
    requeued = int(re.findall(r"\d+", text(window.page.locator(".notice")))[0])
    assert count(window, "select count(*) as n from anomaly.records where status = 'quarantined'") == failed - requeued < failed


def test_a_region_and_a_place_are_zoomed_to_and_left_again(window: Window) -> None:
    [row] = window.db.rows("select record_id from anomaly.ai_results where jsonb_array_length(regions) > 0 order by record_id limit 1")
    window.open(f"/records/{row['record_id']}")
    before = window.page.locator("#image").bounding_box()
    window.page.keyboard.press("z")
    zoomed = window.page.locator("#image").bounding_box()
    assert before
    assert zoomed
    assert zoomed["width"] > before["width"] * 1.4
    window.page.keyboard.press("Escape")
    assert window.page.locator("#image").bounding_box() == before
    window.page.locator("#image").hover()
    window.page.mouse.wheel(0, -300)
    wheel = window.page.locator("#image").bounding_box()
    assert wheel
    assert wheel["width"] > before["width"]


def test_no_script_of_a_record_runs(window: Window) -> None:
    for statement in HOSTILE_UPDATES:
        window.db.do(statement, t=HOSTILE)
    [claim] = window.db.claims(1)
    window.db.store.quarantine(claim, error=ImageNotFound(HOSTILE), timings={})
    [row] = window.db.rows("select min(record_id) as id from anomaly.ai_flags")
    for path in ("/", "/gallery", "/review", f"/records/{row['id']}", "/gallery?state=quarantined", f"/records/{claim.record_id}"):
        window.open(path)
    window.problems = [each for each in window.problems if "404" not in each]  # the keys of the pictures are hostile, too
