"""Retention and orphans on a real S3 and a real Postgres, and runs whose objects were deleted."""

from __future__ import annotations

import hashlib
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.config import Config

from anomaly.archive.bucket import Archive
from anomaly.archive.client import client_config
from anomaly.db.maintenance import MaintenanceStore
from anomaly.errors import ArchiveUnavailable, Misconfigured
from anomaly.maintenance.orphans import missing_objects, unreferenced_objects
from anomaly.maintenance.retention import sweep_bucket
from anomaly.models.answers import Answer, ArchiveKeys
from anomaly.models.records import Image
from anomaly.settings import Settings
from tests.parts.http_stub import HttpStub, Reply
from tests.parts.record_builders import HOLDER, RecordsDb, an_answer

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from embedded.s3 import S3

CONFIG, OTHER_CONFIG = "c" * 64, "d" * 64
NOW = datetime.now(UTC)
LATER = NOW + timedelta(days=40)
DAYS = 30


@pytest.fixture
def store(db: RecordsDb) -> MaintenanceStore:
    return MaintenanceStore(db.database, page=2)


@pytest.fixture
def archive(s3: S3) -> Archive:
    return Archive(a_client(s3.endpoint_url, s3.access_key, s3.secret_key), s3.bucket, uuid.uuid4().hex)


def a_client(endpoint_url: str, access_key: str, secret_key: str) -> S3Client:
    config = Config(**client_config(Settings(), endpoint_url=endpoint_url))
    return boto3.client(
        "s3",
        endpoint_url=endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=config,
    )


def an_image(number: int) -> Image:
    content = f"image {number}".encode()
    return Image(content=content, sha256=hashlib.sha256(content).hexdigest(), media_type="image/png", width_px=1, height_px=1)


def archived(archive: Archive, number: int, *, config: str = CONFIG, batch: str | None = None) -> ArchiveKeys:
    """Image, answer and heat map, as a task writes them."""
    image = an_image(number)
    return ArchiveKeys(
        image_key=archive.put_image(image),
        answer_key=archive.put_answer(config, image.sha256, b"{}", batch=batch),
        heatmap_key=archive.put_heatmap(config, image.sha256, b"png", batch=batch),
    )


def commit(db: RecordsDb, number: int, keys: ArchiveKeys, *, config: str = CONFIG, answer: Answer | None = None) -> int:
    """A record of its own whose result names these objects; returns its id."""
    run = db.run(uuid.uuid4().hex)
    db.add(1)
    [claim] = db.open(db.claim(run, size=1), run=run)
    db.store.commit(
        claim,
        answer or an_answer(),
        keys,
        config=config,
        image=an_image(number),
        run=run,
        holder=HOLDER,
        timings={},
    )
    return claim.record_id


def unreadable(archive: Archive, number: int) -> str:
    """An unreadable answer, to which no result refers."""
    return archive.put_unreadable(CONFIG, an_image(number).sha256, b"<html>", reason="it is not JSON")


def age_of_results(db: RecordsDb, record_id: int) -> None:
    db.do("update anomaly.ai_results set created_at = now() - interval '31 days' where record_id = %(id)s", id=record_id)


def keys(archive: Archive) -> set[str]:
    return {
        each.key for folder in ("images", "answers", "heatmaps", "unreadable", "runs") for page in archive.pages(folder) for each in page
    }


# ── the bucket itself


def test_pages_hold_every_key_once_and_in_order(archive: Archive) -> None:
    with ThreadPoolExecutor(16) as writers:
        made = sorted(writers.map(lambda number: archive.put_image(an_image(number)), range(1100)))
    pages = list(archive.pages("images"))
    assert len(pages) > 1
    assert [each.key for page in pages for each in page] == made
    assert {each.image_sha256 for page in pages for each in page} == {an_image(number).sha256 for number in range(1100)}
    archive.delete(made[:1000])
    assert [each.key for page in archive.pages("images") for each in page] == made[1000:]


def test_what_is_deleted_twice_is_gone_and_what_is_not_there_has_no_page(archive: Archive) -> None:
    key = archive.put_image(an_image(1))
    archive.delete([key, f"{key}-never-there"])
    archive.delete([key])
    assert list(archive.pages("images")) == []


def test_a_delete_that_is_refused_says_which_right_it_needs() -> None:
    body = b"<?xml version='1.0'?><DeleteResult><Error><Key>k</Key><Code>AccessDenied</Code><Message>m</Message></Error></DeleteResult>"
    with HttpStub() as stub:
        stub.at("/bucket", Reply(body=body, content_type="application/xml"))
        archive = Archive(a_client(stub.url(""), "key", "secret"), "bucket")
        with pytest.raises(Misconfigured, match=r"cannot delete from bucket 'bucket': access is denied; .*s3:DeleteObject for maintenance"):
            archive.delete(["k"])


def test_the_clock_of_the_bucket_is_that_of_its_server(archive: Archive) -> None:
    at = archive.clock()
    assert at
    assert abs(at - datetime.now(UTC)) < timedelta(seconds=5)


# ── retention


def test_objects_that_no_result_of_these_days_uses_go_and_the_others_stay(archive: Archive, db: RecordsDb, store: MaintenanceStore) -> None:
    unused, used_again, young = (archived(archive, number) for number in range(3))
    age_of_results(db, commit(db, 0, unused))
    age_of_results(db, commit(db, 1, used_again))
    commit(db, 1, used_again)
    commit(db, 2, young)
    gone = {unused.image_key, unused.answer_key, unused.heatmap_key, archive.put_report("old", b"{}"), unreadable(archive, 3)}
    before = keys(archive)

    looked = sweep_bucket(archive, store, days=DAYS, now=LATER, dry_run=True)
    assert {folder: (row["found"], row["deleted"]) for folder, row in looked.items()} == {
        "images": (1, 0),
        "answers": (1, 0),
        "heatmaps": (1, 0),
        "unreadable": (1, 0),
        "runs": (1, 0),
    }
    assert looked["images"]["bytes"] == len(an_image(0).content)
    assert keys(archive) == before

    sweep_bucket(archive, store, days=DAYS, now=LATER, dry_run=False)
    assert before - keys(archive) == gone
    assert len(before) == len(gone) + 6


def test_objects_younger_than_their_days_stay_whether_a_result_names_them_or_not(
    archive: Archive, db: RecordsDb, store: MaintenanceStore
) -> None:
    age_of_results(db, commit(db, 0, archived(archive, 0)))
    archived(archive, 1)
    before = keys(archive)
    sweep_bucket(archive, store, days=DAYS, now=NOW + timedelta(days=DAYS - 1), dry_run=False)
    assert keys(archive) == before
    assert sweep_bucket(archive, store, days=0, now=LATER, dry_run=False) == {"kept": "for ever"}


# ── orphans


def test_objects_that_nothing_names_are_counted_and_deleted_only_when_asked(
    archive: Archive, db: RecordsDb, store: MaintenanceStore
) -> None:
    commit(db, 0, archived(archive, 0))
    lost = archived(archive, 1, batch=str(uuid.uuid4()))
    before = keys(archive)
    found = unreferenced_objects(archive, store, before=LATER, delete=False)
    assert (found.objects, found.found, found.deleted, found.too_young, found.foreign) == (6, 3, 0, 0, 0)
    assert set(found.sample) == {lost.image_key, lost.answer_key, lost.heatmap_key}
    assert found.bytes == len(an_image(1).content) + len(b"{}png")
    assert keys(archive) == before

    assert unreferenced_objects(archive, store, before=LATER, delete=True).deleted == 3
    assert before - keys(archive) == set(found.sample)
    assert missing_objects(archive, store, days=None).found == 0


def test_what_may_be_in_flight_is_no_orphan(archive: Archive, store: MaintenanceStore) -> None:
    archived(archive, 0)
    found = unreferenced_objects(archive, store, before=datetime.now(UTC) - timedelta(hours=24), delete=True)
    assert (found.too_young, found.found, found.deleted) == (3, 0, 0)
    assert len(keys(archive)) == 3


def test_an_unreadable_answer_is_no_orphan(archive: Archive, store: MaintenanceStore) -> None:
    key = unreadable(archive, 0)
    found = unreferenced_objects(archive, store, before=LATER, delete=True)
    assert (found.objects, found.found, found.foreign) == (0, 0, 0)
    assert keys(archive) == {key}


def test_a_key_that_is_none_of_ours_is_left_alone(archive: Archive, s3: S3, store: MaintenanceStore) -> None:
    s3.client().put_object(Bucket=s3.bucket, Key=f"{archive.prefix}images/holiday.png", Body=b"x")
    found = unreferenced_objects(archive, store, before=LATER, delete=True)
    assert (found.objects, found.foreign, found.found) == (1, 1, 0)
    assert keys(archive) == {f"{archive.prefix}images/holiday.png"}


def test_results_whose_objects_are_gone_are_told_with_their_record(archive: Archive, db: RecordsDb, store: MaintenanceStore) -> None:
    ids, names = {}, {}
    for number in range(7):
        for config in (CONFIG, OTHER_CONFIG):
            names[number, config] = archived(archive, number, config=config, batch=str(uuid.uuid4()) if number % 2 else None)
            ids[number, config] = commit(db, number, names[number, config], config=config)
    whole = missing_objects(archive, store, days=None)
    assert (whole.keys, whole.found, whole.elsewhere) == (7 * 2 * 3, 0, 0)

    gone = [names[2, CONFIG].answer_key, names[3, OTHER_CONFIG].heatmap_key or "", names[5, CONFIG].image_key]
    archive.delete(gone)
    found = missing_objects(archive, store, days=None)
    assert found.found == 4  # the image is named by the results of both configurations
    assert set(found.sample) == {
        f"record {ids[2, CONFIG]}: {gone[0]}",
        f"record {ids[3, OTHER_CONFIG]}: {gone[1]}",
        f"record {ids[5, CONFIG]}: {gone[2]}",
        f"record {ids[5, OTHER_CONFIG]}: {gone[2]}",
    }


def test_results_that_retention_has_passed_may_miss_their_objects(archive: Archive, db: RecordsDb, store: MaintenanceStore) -> None:
    old = archived(archive, 0)
    age_of_results(db, commit(db, 0, old))
    commit(db, 1, archived(archive, 1))
    sweep_bucket(archive, store, days=DAYS, now=LATER, dry_run=False)
    assert missing_objects(archive, store, days=DAYS).found == 0
    assert missing_objects(archive, store, days=None).found == 3


def test_keys_of_another_prefix_are_counted_and_not_missed(archive: Archive, db: RecordsDb, store: MaintenanceStore) -> None:
    commit(db, 0, ArchiveKeys(image_key="elsewhere/images/a.png", answer_key="elsewhere/answers/a.json", heatmap_key=None))
    found = missing_objects(archive, store, days=None)
    assert (found.keys, found.elsewhere, found.found) == (0, 2, 0)


def test_a_sample_is_bounded_and_the_count_is_not(archive: Archive, db: RecordsDb, store: MaintenanceStore) -> None:
    for number in range(6):
        commit(db, number, ArchiveKeys(image_key=f"{archive.prefix}images/sha256/x{number}", answer_key="x", heatmap_key=None))
        archived(archive, 100 + number)
    assert missing_objects(archive, store, days=None).found == 6
    orphans = unreferenced_objects(archive, store, before=LATER, delete=False)
    assert (orphans.found, len(orphans.sample)) == (18, 10)


def test_a_bucket_that_does_not_answer_is_one_error(s3: S3, store: MaintenanceStore) -> None:
    nowhere = Archive(a_client("http://127.0.0.1:1", s3.access_key, s3.secret_key), s3.bucket)
    with pytest.raises(ArchiveUnavailable, match="cannot list bucket"):
        unreferenced_objects(nowhere, store, before=LATER, delete=False)
