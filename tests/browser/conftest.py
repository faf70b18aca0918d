"""A real browser on the page, with days of work on real photos behind it."""

from __future__ import annotations

import shutil
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest

from anomaly.db.record_store import RecordStore
from anomaly.settings import Settings
from tests.integration.page.conftest import environment
from tests.parts.page_demo import fill
from tests.parts.page_server import PageServer
from tests.parts.record_builders import RecordsDb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

    from embedded.s3 import S3

CHROMIUM = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
SAMPLE_SHARE = 0.2
PICTURES = Path(__file__).resolve().parents[2] / ".state" / "test" / "pictures"
"""Screenshots of the last run."""


@dataclass
class Window:
    """A window of the browser, and what went wrong in it."""

    page: Page
    url: str
    db: RecordsDb
    problems: list[str] = field(default_factory=list)

    def open(self, path: str) -> None:
        self.page.goto(f"{self.url}{path}")
        self.page.wait_for_load_state("networkidle")

    def save(self, name: str) -> None:
        """Save a screenshot of what the window shows."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=PICTURES / f"{name}.png")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium of this machine: Playwright downloads none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install -r requirements-browser.txt")
    found = next((path for name in CHROMIUM if (path := shutil.which(name))), None)
    if found is None:
        pytest.fail("there is no Chromium: apt-get install chromium", pytrace=False)
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield launched
        launched.close()


@pytest.fixture(params=[(1280, "light"), (1280, "dark"), (800, "light"), (800, "dark")], ids=lambda each: f"{each[0]}-{each[1]}")
def look(request: pytest.FixtureRequest) -> tuple[int, str]:
    """The width of the window, and its colours."""
    width, colours = request.param
    return width, colours


@pytest.fixture
def window(browser: Browser, database: str, s3: S3, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Window]:
    """A window on the page. Its test fails if a script failed, a message reached the console or another host was asked."""
    width, colours = request.getfixturevalue("look") if "look" in request.fixturenames else (1280, "light")
    prefix = uuid.uuid4().hex
    for name, value in environment(database, s3, prefix).items():
        monkeypatch.setenv(name, value)
    with RecordsDb(database) as db, PageServer() as server:
        db.store = RecordStore(db.database, Settings(review_share=SAMPLE_SHARE), rng=Random(1))
        fill(db, s3, prefix=prefix)
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme="dark" if colours == "dark" else "light")
        opened = Window(context.new_page(), server.url, db)
        opened.page.on("console", lambda message: opened.problems.append(f"console: {message.text}"))
        opened.page.on("pageerror", lambda error: opened.problems.append(f"script: {error}"))
        opened.page.on("dialog", lambda dialog: opened.problems.append(f"dialog: {dialog.message}"))
        opened.page.on("request", lambda sent: None if sent.url.startswith(server.url) else opened.problems.append(f"host: {sent.url}"))
        yield opened
        context.close()
        assert opened.problems == []
