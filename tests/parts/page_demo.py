"""A records database and a bucket as days of work leave them: real photos, judged by the reference detector, and records that failed."""

from __future__ import annotations

import base64
import hashlib
import json
import tempfile
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb

from anomaly.archive.bucket import Archive
from anomaly.errors import AddressBlocked, DetectorFailed, ImageNotFound, ImageTruncated
from anomaly.models.answers import Answer, ArchiveKeys, Verdict
from anomaly.models.records import Image
from anomaly.models.regions import RegionFormat
from reference_detector.dataset import data_folder, split
from reference_detector.fitting import detector_for
from reference_detector.photo import read_photo
from tests.parts.record_builders import HOLDER

if TYPE_CHECKING:
    from anomaly.models.records import Claim
    from anomaly.models.runs import Run
    from embedded.s3 import S3
    from reference_detector.dataset import Cell
    from tests.parts.record_builders import RecordsDb

Judged = tuple["Cell", bytes, dict[str, Any]]
"""A photo, its bytes, and the detector's answer."""
CONFIG = "c0" * 32
DAYS = 7
RUNS = 9
MOVES = (
    "update anomaly.batches set created_at = created_at - %(by)s where batch_id = %(batch)s",
    "update anomaly.chunks set opened_at = opened_at - %(by)s, ended_at = ended_at - %(by)s where batch_id = %(batch)s",
    "update anomaly.ai_results as a set created_at = a.created_at - %(by)s where a.run_id = %(run)s",
    "update anomaly.processing_log set at = at - %(by)s where batch_id = %(batch)s",
    "update anomaly.records set processed_at = processed_at - %(by)s where batch_id = %(batch)s",
)
FAILURES = (
    ImageNotFound("images.example: answered 404 Not Found"),
    ImageTruncated("the JPEG ends after 41,820 bytes, before its end marker"),
    AddressBlocked("the address is in a private network (10.0.0.0/8), which images may not come from"),
)


@cache
def _answers(count: int) -> list[Judged]:
    """Photos with the answers of the detector, computed once a session."""
    with tempfile.TemporaryDirectory() as folder:
        detector = detector_for(split(), Path(folder))
    found = []
    for cell in split().rest[:count]:
        content = cell.path.read_bytes()
        found.append((cell, content, detector.detect(read_photo(content, max_px=10**7)).model_dump()))
    return found


def fill(db: RecordsDb, s3: S3, *, prefix: str, judged: int = 120, waiting: int = 14) -> None:
    """Add *judged* records with a verdict, some that failed, and *waiting* that are due."""
    archive = Archive(s3.client(), s3.bucket, prefix)
    answers = _answers(judged)
    share = -(-judged // RUNS)
    for number in range(RUNS):
        part = answers[number * share : (number + 1) * share]
        if not part:
            break
        ids = [_add(db, cell, number=number * share + n, total=judged) for n, (cell, _, _) in enumerate(part)]
        if number % 3 == 1:
            ids += [_add(db, part[0][0], number=judged + n, total=judged) for n in range(number)]
        run = db.run(f"scheduled__2026-01-0{number + 1}T06:00:00+00:00")
        chunk = db.claim(run, size=len(ids))
        claims = sorted(db.open(chunk, run=run), key=lambda claim: claim.record_id)
        for n, claim in enumerate(claims):
            timings = {"fetch": 18.0 + n % 7 * 5, "detect": 61.0 + n % 11 * 9, "archive": 12.0 + n % 5 * 3, "commit": 2.1 + n % 3}
            if n >= len(part):
                db.store.quarantine(claim, error=FAILURES[n % len(FAILURES)], timings={"fetch": 20.0})
                continue
            _commit(db, archive, claim, part[n], run=run, timings=timings)
        ended = {"committed": len(part), "quarantined": len(claims) - len(part)}
        db.store.end_chunk(run, chunk or 0, HOLDER, tally={"ended": {name: n for name, n in ended.items() if n}})
        db.store.end_batch(run.batch_id)
        _move_back(db, run, timedelta(days=DAYS) * (RUNS - 1 - number) / RUNS)
    for n in range(waiting):
        _add(db, split().rest[judged + n], number=n, total=waiting)
    deferred = db.run("scheduled__2026-01-10T06:00:00+00:00")
    chunk = db.claim(deferred, size=2)
    for claim in db.open(chunk, run=deferred):
        db.store.defer(claim, error=DetectorFailed("detector.example: answered 500 Internal Server Error"), timings={})
    db.store.end_chunk(deferred, chunk or 0, HOLDER, tally={"ended": {"deferred": 2}})
    db.store.end_batch(deferred.batch_id)
    sum_anew(db)


def sum_anew(db: RecordsDb) -> None:
    """Compute the sums of the verdicts again after results were changed, which only tests do."""
    db.do("truncate anomaly.verdict_hours, anomaly.score_days")
    db.do("update anomaly.verdict_sums set summed_until = '-infinity'")
    db.do("select anomaly.sum_verdicts(step => null)")


def _add(db: RecordsDb, cell: Cell, *, number: int, total: int) -> int:
    path = cell.path.relative_to(data_folder()).as_posix()
    attributes = {"line": f"L{number % 3 + 1}", "module": f"M-{1040 + number % 17}", "defect_probability": cell.probability}
    [row] = db.rows(
        """insert into anomaly.records (image_url, captured_at, attributes)
           values (%(url)s, now() - %(days)s * interval '1 day', %(attributes)s) returning id""",
        url=f"https://images.example/{path}",
        days=DAYS * (1 - number / total),
        attributes=Jsonb(attributes),
    )
    return int(row["id"])


def _commit(
    db: RecordsDb, archive: Archive, claim: Claim, found: tuple[Cell, bytes, dict[str, Any]], *, run: Run, timings: dict[str, float]
) -> None:
    cell, content, answer = found
    image = Image(content=content, sha256=hashlib.sha256(content).hexdigest(), media_type="image/png", width_px=300, height_px=300)
    heatmap = base64.b64decode(answer["heatmap"])
    keys = ArchiveKeys(
        image_key=archive.put_image(image),
        answer_key=archive.put_answer(CONFIG, image.sha256, json.dumps(answer).encode(), batch=None),
        heatmap_key=archive.put_heatmap(CONFIG, image.sha256, heatmap, batch=None),
    )
    verdict = Verdict(
        score=answer["score"],
        is_anomaly=answer["is_anomaly"],
        threshold=answer["threshold"],
        label=answer["label"] if not answer["is_anomaly"] else ("crack", "dead cell", "finger interruption")[cell.sha256[0] < "8"],
        regions=tuple(answer["regions"]),
        region_format=RegionFormat("px"),
        detector=f"{answer['model']['name']}@{answer['model']['version']}",
        usage=answer["usage"],
    )
    made = Answer(raw=b"", verdict=verdict, latency_ms=timings["detect"])
    db.store.commit(claim, made, keys, config=CONFIG, image=image, run=run, holder=HOLDER, timings=timings)


def _move_back(db: RecordsDb, run: Run, by: timedelta) -> None:
    """Let what a run wrote have happened earlier."""
    for statement in MOVES:
        db.do(statement, by=by, batch=run.batch_id, run=run.run_id)
