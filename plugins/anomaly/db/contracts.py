"""The parameters, columns and parts of each statement that the project relies on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from anomaly.db.page_contracts import PAGE_CONTRACTS, PAGE_SAMPLES

_NEVER = datetime(2000, 1, 1, tzinfo=UTC)
_CLAIM = "batch_id began_at window_start window_end size max_records map_index try_number lease_s"
_CHOICE = "error_code window_start window_end record_ids"
_TRY = "batch_id map_index try_number"
_DEMAND = "wanted in_flight requests returned tokens_each tokens_back hold_s answers"
_EXPORTED = (
    "record_id source source_key image_url captured_at status attributes attempts last_error_code last_error processed_at "
    "scored_at token detector score threshold is_anomaly label reason regions regions_unit reused cost run_id image_sha256 "
    "image_key image_width_px image_height_px answer_key heatmap_key needs_review review reviewed_by reviewed_at"
)
_SWEEP = "days dry_run size"
_END = "record_id token code error timings claimed_from delay_s"
_VERDICT = "config detector score threshold is_anomaly label reason regions regions_unit usage cost reused latency_ms sampled sample_share"
_KEYS = "image_sha256 image_width_px image_height_px image_media_type image_key answer_key heatmap_key dag_id run_id map_index try_number"


@dataclass(frozen=True, slots=True)
class Contract:
    """The parameters, columns and parts of a statement that the project relies on."""

    params: str
    columns: str = ""
    parts: tuple[str, ...] = ()
    """Text without which claims are not safe."""


CONTRACTS = {
    "server_info": Contract("", "version connections now"),
    "add_detector_config": Contract("config", "config", ("on conflict",)),
    "backlog": Contract("", "due later claimed quarantined oldest_due_age_s", ("limit",)),
    "unopened_chunks": Contract("batch_id", "chunk", ("ended_at is null",)),
    "begin_batch": Contract("batch_id dag_id run_id", "began_at"),
    "claim_done": Contract(_CLAIM, "chunk", ("'done'", "'claimed'", "token + 1", "skip locked", "for update")),
    "claim_pending": Contract(_CLAIM, "chunk", ("'pending'", "'claimed'", "token + 1", "skip locked", "for update")),
    "commit_verdict": Contract(f"record_id token timings {_VERDICT} {_KEYS}", "id", ("'claimed'", "'done'", "from held", "from judged")),
    "current_time": Contract("", "now"),
    "delete_batches": Contract(f"{_SWEEP} after_batch", "after_batch found deleted", ("began_at is null", "for update", "dry_run")),
    "delete_chunks": Contract(
        f"{_SWEEP} after_batch after_chunk", "after_batch after_chunk found deleted", ("began_at is null", "ended_at is null", "'claimed'")
    ),
    "delete_log_entries": Contract(
        f"{_SWEEP} after_id", "after_id found deleted", ("'claimed'", "began_at is not null", "ended_at is null")
    ),
    "release_ask": Contract("image_sha256 config scope record_id token", "record_id"),
    "mapped_task_count": Contract("batch_id", "tasks"),
    "enqueue_records": Contract("source keys image_urls captured_ats attributes", "added", ("on conflict",)),
    "end_batch": Contract("batch_id", "batch_id"),
    "end_chunk": Contract(f"{_TRY} chunk tally", "chunk", ("ended_at is null", "not exists", "'claimed'")),
    "count_flags_to_follow": Contract("detector size", "records"),
    "flags_to_follow": Contract("detector skipped size", "record_id"),
    "follow_threshold": Contract("record_ids", "followed changed", ("for update", "order by")),
    "fail_record": Contract(f"{_END} permanent attempts_max", "status", ("'claimed'", "from held")),
    "find_detector_config": Contract("config", "config"),
    "find_answers": Contract("config image_sha256s fresh dag_id run_id", "image_sha256 answer_key heatmap_key"),
    "find_or_acquire_ask": Contract(
        f"{_TRY} config fresh dag_id run_id scope image_sha256s record_ids tokens chunk_numbers newer_than",
        "image_sha256 answer_key heatmap_key created_at acquired taken_over",
        ("'claimed'", "r.token = a.token", "opened_at is not null", "leased_until >", "on conflict", "skip locked"),
    ),
    "find_outcome": Contract("record_id token claimed_from", "status"),
    "add_source_rows": Contract(
        "keys image_urls captured_ats attributes source size again apply_changes",
        "added changed differing",
        ("on conflict", "token + 1", "for update"),
    ),
    "describe_source": Contract(
        "schema_name table_name",
        "kind usable updatable row_security read_only name type generated readable writable indexed unique_keys partition_key triggers",
    ),
    "delete_source": Contract("source", "source"),
    "find_relations": Contract("", "schema_name table_name"),
    "known_source_keys": Contract("source keys", "key"),
    "source_position": Contract("source source_config", "found_until"),
    "register_source": Contract("source source_config", "found_until", ("on conflict",)),
    "set_source_position": Contract("source source_config found_until", "found_until", ("greatest(",)),
    "count_claimed": Contract("", "claimed"),
    "run_outcome": Contract("since", "states committed anomalies took_s"),
    "run_progress": Contract("since", "ended claimed due"),
    "try_claim": Contract("", "id", ("skip locked",)),
    "mark_alone": Contract(f"{_TRY} chunk record_id", "chunk", ("ended_at is null",)),
    "referenced_keys": Contract("after_sha256 before days size", "image_sha256 config image_key answer_key heatmap_key record_id"),
    "oldest_due": Contract("", "since age_s record_id image_url"),
    "open_chunk": Contract(
        f"{_TRY} chunk lease_s",
        "claimed_from id image_url token attempts lost image_sha256 ask_anew",
        ("'claimed'", "token + 1", "ended_at is null", "for update"),
    ),
    "park_chunks": Contract(f"{_TRY} lease_s", "chunk", ("ended_at is null",)),
    "preview_run": Contract("window_start window_end selects", "pending quarantined done"),
    "count_other_configs": Contract("detector configs", "configs"),
    "count_quarantined": Contract(_CHOICE, "error_code records"),
    "reap_expired_chunks": Contract("", "chunks records", ("'claimed'", "ended_at is null", "skip locked")),
    "release_batch": Contract("batch_id", "chunks records", ("'claimed'", "ended_at is null")),
    "release_chunks": Contract(_TRY, "chunks records", ("'claimed'", "ended_at is null")),
    "release_record": Contract(_END, "status", ("'claimed'", "from held")),
    "renew_chunks": Contract(f"{_TRY} chunks lease_s", "chunk", ("ended_at is null", "greatest(")),
    "requeue_records": Contract("batch_id began_at window_start window_end size actor", "records", ("'quarantined'", "skip locked")),
    "requeue_chosen": Contract(f"{_CHOICE} size actor", "records", ("'quarantined'", "'pending'", "skip locked")),
    "run_report": Contract("batch_id", "statuses events timings tallies anomalies reused"),
    "detector_pause": Contract("detector", "held_until"),
    "resume_detector": Contract("detector", "detectors records", ("'pending'", "skip locked")),
    "share_detector": Contract(
        f"{_DEMAND} detector holder expires_s most requests_per_minute tokens_per_minute period_s horizon_s late_s pause_max_s probe_s",
        "concurrency starts now_s hold_s at_most",
    ),
    "sum_verdicts": Contract("", "more"),
    "suspect_verdicts": Contract("size", "verdicts"),
    "table_health": Contract("", "name live dead size_bytes vacuumed_at analysed_at"),
    "task_rate": Contract("", "records_per_s"),
    "unfinished_chunks": Contract("batch_id map_index", "chunk", ("ended_at is null",)),
    "unreferenced_keys": Contract("keys image_sha256s days", "key"),
    "find_commit": Contract("record_id token", "token"),
    "backlog_by_source": Contract("", "source due later claimed quarantined", ("limit",)),
    "compare_page": Contract(
        "first second window_end after_at after_id size examples",
        "after_at after_id records both_anomalous only_first only_second both_normal changed",
    ),
    "detector_names": Contract("", "detector"),
    "export_page": Contract("status window_end after_at after_id size", "at record_id"),
    "export_records": Contract("record_ids detector", _EXPORTED),
    "last_runs": Contract("size", "dag_id run_id created_at ended_at claimed outcomes records_per_s"),
    "list_errors": Contract("", "code quarantined pending record_id error failed_at image_url", ("limit",)),
    "open_batches": Contract("size", "dag_id run_id created_at claimed waiting working expired leased_until held"),
    "record_story": Contract("record_id size", "record flags claim log results"),
} | {name: Contract(*each) for name, each in PAGE_CONTRACTS.items()}

SAMPLES: dict[str, Any] = {
    "actor": "",
    "answers": False,
    "apply_changes": True,
    "after_key": None,
    "after_at": _NEVER,
    "after_batch": UUID(int=0),
    "after_chunk": -1,
    "after_id": -1,
    "after_sha256": "",
    "again": True,
    "answer_key": "",
    "attributes": [],
    "captured_ats": [],
    "found_until": _NEVER,
    "image_urls": [],
    "image_width_px": 1,
    "sample_share": None,
    "sampled": False,
    "schema_name": "",
    "source": "",
    "source_config": "[]",
    "table_name": "",
    "attempts_max": 5,
    "batch_id": UUID(int=0),
    "before": _NEVER,
    "began_at": _NEVER,
    "chunk": -1,
    "chunk_numbers": [-1],
    "chunks": [-1],
    "claimed_from": "pending",
    "code": "",
    "config": "",
    "configs": [],
    "cost": Decimal(0),
    "dag_id": "",
    "days": 1,
    "delay_s": 1.0,
    "detector": "",
    "dry_run": True,
    "error": "",
    "error_code": None,
    "examples": 1,
    "expires_s": 1.0,
    "first": "",
    "fresh": False,
    "newer_than": [None],
    "heatmap_key": None,
    "hold_s": 0.0,
    "holder": "",
    "horizon_s": 1.0,
    "late_s": 1.0,
    "image_height_px": 1,
    "image_key": "",
    "image_media_type": "",
    "image_sha256": "",
    "image_sha256s": [],
    "in_flight": 0,
    "is_anomaly": False,
    "keys": [],
    "label": None,
    "latency_ms": 1.0,
    "lease_s": 1.0,
    "map_index": -1,
    "max_records": None,
    "most": None,
    "pause_max_s": 1.0,
    "period_s": 60.0,
    "permanent": False,
    "probe_s": 1.0,
    "reason": None,
    "record_id": -1,
    "record_ids": None,
    "regions": Jsonb([]),
    "regions_unit": None,
    "requests": 0,
    "requests_per_minute": None,
    "returned": [],
    "reused": False,
    "run_id": "",
    "scope": UUID(int=0),
    "score": 0.0,
    "second": "",
    "selects": "all",
    "size": 1,
    "skipped": [],
    "status": "done",
    "tally": Jsonb({}),
    "threshold": None,
    "timings": Jsonb({}),
    "token": -1,
    "tokens": [-1],
    "tokens_back": 0.0,
    "tokens_each": 1.0,
    "tokens_per_minute": None,
    "try_number": -1,
    "usage": None,
    "wanted": 0,
    "window_end": None,
    "window_start": None,
} | PAGE_SAMPLES
"""A value of the right type for each parameter."""
