"""Measures the page on a large database: the server's time for each page, a decision's write, and what a browser shows when.

    python -m benchmarks.page [--records 1000000] [--folder FOLDER] [--repeat 40] [--no-browser]

Nothing is cached: every page reads the database anew. The folder keeps the filled database for the next time. The browser is the Chromium
of this machine, driven by Playwright, which `requirements-browser.txt` adds.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import socket
import sys
import tempfile
import time
import uuid
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
from PIL import Image
from psycopg.conninfo import conninfo_to_dict

from anomaly.db.schema import migrate
from benchmarks.statements import sql
from embedded.postgres import Postgres
from embedded.s3 import S3

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from playwright.sync_api import Browser

DATABASE = "page"
CHROMIUM = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
PAGES = {
    "overview, 24 hours": "/?days=1",
    "overview, 7 days": "/?days=7",
    "overview, 90 days": "/?days=90",
    "backlog, renewed": "/now/tiles",
    "runs and failures, renewed": "/now/tables",
    "review queue": "/review/queue",
    "review queue, most uncertain": "/review/queue?order=uncertain",
    "record": "/records/{middle}",
    "threshold": "/threshold",
    "saved views": "/views",
    "failed records": "/gallery?state=quarantined",
    "waiting records": "/gallery?state=pending",
}
# fmt: off
FILTERS = (
    "", "verdict=anomaly", "verdict=normal", "review=open", "review=done", "review=normal", "label=normal", "label=crack", "label=unusual",
    "detector=padim@1", "detector=chat@1", "low=0.9", "low=0.3&high=0.31", "since={recent}", "since={recent}&label=crack",
    "since={recent}&detector=padim@1", "verdict=anomaly&label=normal", "verdict=normal&low=0.4&high=0.41",
    "review=unsure&label=finger&detector=chat@1", "attribute=line&value=L1", "attribute=module&value=M-77",
    "attribute=module&value=M-77&verdict=anomaly",
)
# fmt: on
ORDERS = ("score", "uncertain", "time")
SHOWN = 160
"""Records of the gallery and of the queue that have pictures."""
DECISIONS = 200
KEYS = 60
# From the time stamp of the key's event to the frame after the next image is decoded. This listener is called after those of the page.
KEY_TO_PICTURE = """() => {
  window.took = [];
  addEventListener("keydown", async (event) => {
    await document.getElementById("image").decode();
    requestAnimationFrame(() => {
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = () => window.took.push(performance.now() - event.timeStamp);
      port2.postMessage(0);
    });
  });
}"""
FIRST_ROW = """async () => {
  const tiles = [...document.querySelectorAll(".tile-record img:first-child")];
  const top = tiles[0].getBoundingClientRect().top;
  await Promise.all(tiles.filter((tile) => tile.getBoundingClientRect().top === top).map((tile) => tile.decode()));
  return performance.now();
}"""


def fill(dsn: str, *, records: int, waiting: int) -> None:
    """Create the project's tables and ninety days of work."""
    migrate(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection, psycopg.ClientCursor(connection) as cursor:
        for name in ("fill_page", "fill_page_flags"):
            cursor.execute(sql(name), {"records": records, "waiting": waiting})
        cursor.execute("vacuum analyze")


def serve(variables: dict[str, str], listener: socket.socket) -> None:
    """Serve the page in a process of its own, without a cache."""
    import uvicorn  # noqa: PLC0415  # not needed in the measuring process

    from anomaly.page.access import local_access  # noqa: PLC0415
    from anomaly.page.app import create_app  # noqa: PLC0415
    from anomaly.page.services import Services  # noqa: PLC0415

    os.environ.update(variables)
    app = create_app(local_access(), Services(cache_s=0))
    uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False)).run(sockets=[listener])


@contextmanager
def served(dsn: str, s3: S3) -> Iterator[str]:
    """Yield the address of the page."""
    to = conninfo_to_dict(dsn)
    database = {"conn_type": "postgres", "host": to["host"], "port": int(str(to["port"])), "schema": to["dbname"]}
    extra = {"bucket": s3.bucket, "endpoint_url": s3.endpoint_url, "region_name": s3.region}
    variables = {
        "AIRFLOW_CONN_ANOMALY_DB": json.dumps(database | {"login": to["user"], "password": to["password"]}),
        "AIRFLOW_CONN_ANOMALY_S3": json.dumps({"conn_type": "aws", "login": s3.access_key, "password": s3.secret_key, "extra": extra}),
    }
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = get_context("spawn").Process(target=serve, args=(variables, listener), daemon=True)
        process.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        process.terminate()
        process.join()


def spread(times_ms: list[float]) -> str:
    """Return the cells of a table: median, 95th percentile and longest."""
    found = sorted(times_ms)
    return f"{median(found):.0f} | {found[-(len(found) // 20) - 1]:.0f} | {found[-1]:.0f}"


def timed_ms(client: httpx.Client, method: str, address: str, **more: Any) -> float:
    began = time.perf_counter()
    answer = client.request(method, address, **more)
    took = (time.perf_counter() - began) * 1000
    answer.raise_for_status()
    return took


def measure_pages(client: httpx.Client, *, repeat: int, records: int) -> None:
    known = {**PAGES, **{f"gallery, {order}, {each or 'all'}": f"/gallery?order={order}&{each}" for order in ORDERS for each in FILTERS}}
    recent = datetime.now(UTC).date() - timedelta(days=6)
    say("| page | median ms | p95 ms | longest ms |\n|---|---|---|---|")
    for name, address in known.items():
        path = address.format(middle=records // 2, recent=recent)
        if client.get(path).status_code == httpx.codes.NOT_FOUND:  # a page of another version
            continue
        say(f"| {name} | {spread([timed_ms(client, 'GET', path) for _ in range(repeat)])} |")
    deep = f"/gallery?after=0.25~{records // 2}"
    say(f"| gallery, after the middle of all scores | {spread([timed_ms(client, 'GET', deep) for _ in range(repeat)])} |")


def measure_decisions(client: httpx.Client) -> None:
    """Decide about records of the queue, one request each."""
    queue = client.get("/review/queue").json()["records"]
    took, origin = [], {"Origin": str(client.base_url).rstrip("/")}
    for n in range(DECISIONS):
        record = queue[n % len(queue)]
        decision = {"id": str(uuid.uuid4()), "record_id": record["record_id"], "token": record["token"], "verdict": "unsure"}
        took.append(timed_ms(client, "POST", "/decisions", json={"decisions": [decision]}, headers=origin))
    say(f"| a decision's write | {spread(took)} |")


def put_pictures(dsn: str, s3: S3) -> None:
    """Put pictures of the usual size for the records that the browser shows."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(sql("page_pictures"), {"size": SHOWN}).fetchall()
    noise = Image.effect_noise((640, 480), 60)
    image, heat = io.BytesIO(), io.BytesIO()
    noise.save(image, "JPEG", quality=80)
    noise.resize((64, 48)).convert("RGBA").save(heat, "PNG")
    for image_key, heatmap_key in rows:
        s3.client().put_object(Bucket=s3.bucket, Key=image_key, Body=image.getvalue())
        s3.client().put_object(Bucket=s3.bucket, Key=heatmap_key, Body=heat.getvalue())


def measure_browser(browser: Browser, url: str, *, repeat: int) -> None:
    took = []
    for _ in range(min(repeat, 20)):
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        page = context.new_page()
        page.goto(f"{url}/gallery", wait_until="commit")
        page.wait_for_selector(".tile-record img")
        took.append(float(page.evaluate(FIRST_ROW)))
        context.close()
    say(f"| first row of the gallery, in the browser | {spread(took)} |")
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(f"{url}/review")
    page.wait_for_load_state("networkidle")
    page.evaluate(KEY_TO_PICTURE)
    for n in range(KEYS):
        page.keyboard.press("a")
        page.wait_for_function("n => window.took.length > n", arg=n)
        page.wait_for_timeout(300)  # nobody decides faster; the next images load meanwhile
    say(f"| key to the next picture, in the browser | {spread([float(each) for each in page.evaluate('window.took')])} |")


def say(sentence: str) -> None:
    sys.stdout.write(f"{sentence}\n")
    sys.stdout.flush()


def main(argv: Sequence[str] | None = None) -> int:
    options = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--records", type=int, default=1_000_000, metavar="N", help="judged records (1000000), which take 3 GB")
    options.add_argument("--waiting", type=int, default=30_000, metavar="N", help="waiting records (30000)")
    options.add_argument("--folder", type=Path, help="keeps the database; a temporary one by default")
    options.add_argument("--repeat", type=int, default=40, metavar="N", help="requests for each page (40)")
    options.add_argument("--no-browser", action="store_true", help="only the server")
    arguments = options.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.folder or Path(temporary)).resolve()
        is_filled = (folder / "pg" / "data").exists()
        with Postgres(folder / "pg") as server, S3(folder / "s3") as s3:
            server.ensure_database(DATABASE)
            dsn = server.dsn(DATABASE)
            if not is_filled:
                fill(dsn, records=arguments.records, waiting=arguments.waiting)
            migrate(dsn)
            with served(dsn, s3) as url, httpx.Client(base_url=url, timeout=60) as client:
                put_pictures(dsn, s3)
                measure_pages(client, repeat=arguments.repeat, records=arguments.records)
                measure_decisions(client)
                if not arguments.no_browser:
                    with_browser(url, repeat=arguments.repeat)
    say(f"load of the last minute: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    return 0


def with_browser(url: str, *, repeat: int) -> None:
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  # only this part needs it

    path = next(found for name in CHROMIUM if (found := shutil.which(name)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        measure_browser(browser, url, repeat=repeat)
        browser.close()


if __name__ == "__main__":
    sys.exit(main())
