"""Converts between the project's values and the parameters and rows of statements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb

from anomaly.models.answers import Ask, EarlierAnswer, FoundAnswer
from anomaly.models.records import Claim
from anomaly.models.regions import in_fractions
from anomaly.models.runs import BatchReport, TimingStats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anomaly.models.answers import Answer, AnswerLookup, ArchiveKeys
    from anomaly.models.records import Image
    from anomaly.models.runs import BatchId, Holder, Run


def run_params(run: Run) -> dict[str, Any]:
    return {
        "batch_id": run.batch_id,
        "dag_id": run.dag_id,
        "run_id": run.run_id,
        "window_start": run.window.start,
        "window_end": run.window.end,
        "max_records": run.max_records,
        "selects": run.select,
        "fresh": run.fresh,
    }


def holder_params(batch_id: BatchId, holder: Holder) -> dict[str, Any]:
    return {"batch_id": batch_id, "map_index": holder.map_index, "try_number": holder.try_number}


def claim_params(claim: Claim) -> dict[str, Any]:
    return {"record_id": claim.record_id, "token": claim.token, "claimed_from": claim.claimed_from}


def chunk_numbers(rows: Sequence[dict[str, Any]]) -> list[int]:
    return [row["chunk"] for row in rows]


def claim_of(row: dict[str, Any], batch_id: BatchId, number: int) -> Claim:
    return Claim(
        record_id=row["id"],
        image_url=row["image_url"],
        token=row["token"],
        batch_id=batch_id,
        chunk=number,
        claimed_from=row["claimed_from"],
        attempts=row["attempts"],
        lost=row["lost"],
        image_sha256=row["image_sha256"],
        ask_anew=row["ask_anew"],
    )


def earlier_answer_of(row: dict[str, Any]) -> EarlierAnswer:
    return EarlierAnswer(answer_key=row["answer_key"], heatmap_key=row["heatmap_key"])


def lookup_params(wanted: Sequence[AnswerLookup]) -> dict[str, Any]:
    return {
        "image_sha256s": [each.image_sha256 for each in wanted],
        "record_ids": [each.claim.record_id for each in wanted],
        "tokens": [each.claim.token for each in wanted],
        "chunk_numbers": [each.claim.chunk for each in wanted],
        "newer_than": [each.newer_than for each in wanted],
    }


def found_answer_of(row: dict[str, Any]) -> FoundAnswer:
    return FoundAnswer(earlier=earlier_answer_of(row), at=row["created_at"])


def ask_of(row: dict[str, Any]) -> Ask:
    if not row["acquired"]:
        return Ask.ELSEWHERE
    return Ask.TAKEN_OVER if row["taken_over"] else Ask.OWNED


def verdict_params(answer: Answer, archived: ArchiveKeys, image: Image) -> dict[str, Any]:
    verdict = answer.verdict
    located = in_fractions(verdict.regions, verdict.region_format, width_px=image.width_px, height_px=image.height_px)
    return {
        "detector": verdict.detector,
        "score": verdict.score,
        "threshold": verdict.threshold,
        "is_anomaly": verdict.is_anomaly,
        "label": verdict.label,
        "reason": verdict.reason,
        "regions": Jsonb(verdict.regions if located is None else located),
        "regions_unit": None if located is None else "fraction",
        "image_sha256": image.sha256,
        "image_width_px": image.width_px,
        "image_height_px": image.height_px,
        "image_media_type": image.media_type,
        "usage": None if verdict.usage is None else Jsonb(verdict.usage),
        "cost": verdict.cost,
        "reused": answer.reused,
        "latency_ms": answer.latency_ms,
        "image_key": archived.image_key,
        "answer_key": archived.answer_key,
        "heatmap_key": archived.heatmap_key,
    }


def report_of(row: dict[str, Any]) -> BatchReport:
    return BatchReport(
        statuses=row["statuses"],
        events={(event, code): ends for event, code, ends in row["events"]},
        timings={name: TimingStats(count=n, p50_ms=p50, p95_ms=p95, max_ms=most) for name, (n, p50, p95, most) in row["timings"].items()},
        tallies={int(chunk): tally for chunk, tally in row["tallies"].items()},
        anomalies=row["anomalies"],
        reused=row["reused"],
    )
