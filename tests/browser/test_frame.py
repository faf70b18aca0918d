"""The page in Airflow's own frame: sandbox, colours, links, reload, downloads, and a session that ends."""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from anomaly.tasks.links import PREFIX
from tests.browser.conftest import PICTURES
from tests.integration.page.conftest import environment
from tests.parts.api_server import PASSWORD, ApiServer
from tests.parts.page_demo import fill
from tests.parts.record_builders import RecordsDb

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, FrameLocator, Page

    from embedded.postgres import Postgres
    from embedded.s3 import S3

pytestmark = pytest.mark.timeout(600)  # the server starts, and the photos are judged
DATABASE = "in_a_frame"
FRAME = "iframe[title='Anomalies']"
SANDBOX = {"allow-scripts", "allow-same-origin", "allow-forms", "allow-downloads"}
WAIT_MS = 120_000


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres, migrated_template: str, s3: S3) -> Iterator[ApiServer]:
    postgres.ensure_database(DATABASE, template=migrated_template)
    with RecordsDb(postgres.dsn(DATABASE)) as db:
        fill(db, s3, prefix=DATABASE, judged=60)
    with ApiServer(tmp_path_factory.mktemp("airflow"), environment(postgres.dsn(DATABASE), s3, DATABASE)) as server:
        yield server


@pytest.fixture
def page(browser: Browser, airflow: ApiServer) -> Iterator[Page]:
    """A window in which the inspector has logged in."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    context.set_default_timeout(WAIT_MS)
    opened = context.new_page()
    opened.goto(airflow.url)
    opened.locator("input[name=username]").fill("inspector")
    opened.locator("input[name=password]").fill(PASSWORD)
    opened.locator("input[name=password]").press("Enter")
    opened.wait_for_url(lambda url: "/auth/login" not in url)
    yield opened
    context.close()


def enter(page: Page) -> FrameLocator:
    """Open the page by Airflow's navigation."""
    page.locator("a[href$='/plugin/anomaly'], a[href*='/plugin/anomaly/']").first.click()
    frame = page.frame_locator(FRAME)
    frame.locator("h1").first.wait_for()
    return frame


def save(page: Page, name: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.wait_for_load_state("networkidle")
    page.screenshot(path=PICTURES / f"{name}.png")


def test_the_entry_of_the_navigation_opens_the_page_in_a_sandbox_in_the_colours_of_airflow(page: Page) -> None:
    for colours in ("light", "dark"):
        page.evaluate("colours => localStorage.setItem('theme', colours)", colours)
        page.reload()
        frame = enter(page)
        assert set(str(page.locator(FRAME).get_attribute("sandbox")).split()) == SANDBOX
        frame.get_by_role("link", name="Gallery").click()
        frame.locator(".tile-record img").first.wait_for()
        for width in (1280, 800):
            page.set_viewport_size({"width": width, "height": 900})
            assert frame.locator("html").get_attribute("data-theme") == colours
            assert frame.locator("html").evaluate("root => root.scrollWidth <= root.clientWidth"), width
            save(page, f"in-airflow-{width}-{colours}")


def test_links_keep_their_place_in_the_address_of_airflow_and_a_reload_shows_it_again(page: Page) -> None:
    frame = enter(page)
    frame.get_by_role("link", name="Gallery").click()
    frame.locator("select[name=verdict]").select_option("anomaly")
    frame.get_by_role("button", name="Apply").click()
    page.wait_for_url(lambda url: "verdict=anomaly" in url)
    assert urlsplit(page.url).path == f"/plugin/anomaly{PREFIX}/gallery"
    count = frame.locator("[data-figure=count]").inner_text()
    page.reload()
    assert frame.locator("select[name=verdict]").input_value() == "anomaly"
    assert frame.locator("[data-figure=count]").inner_text() == count
    frame.locator(".tile-record a").first.click()
    frame.locator("#image").wait_for()
    page.wait_for_url(lambda url: re.search(r"/records/[0-9]+", url) is not None)


def test_an_export_is_downloaded_out_of_the_frame(page: Page, tmp_path: Path) -> None:
    frame = enter(page)
    frame.get_by_role("link", name="Gallery").click()
    shown = int(frame.locator("[data-figure=count]").inner_text().replace(",", ""))
    frame.get_by_text("Export", exact=True).click()
    with page.expect_download() as started:
        frame.get_by_role("link", name="CSV").click()
    started.value.save_as(tmp_path / "records.csv")
    assert re.fullmatch(r"anomalies-[0-9-]{10}[.]csv", started.value.suggested_filename)
    with (tmp_path / "records.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == shown
    assert frame.locator("[data-figure=count]").is_visible()


def test_a_session_that_has_ended_is_a_sentence_in_the_frame(page: Page) -> None:
    frame = enter(page)
    page.context.clear_cookies()
    frame.get_by_role("link", name="Gallery").click()
    frame.get_by_text("Your session has ended.").wait_for()
    save(page, "in-airflow-session-ended")
