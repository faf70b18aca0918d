"""Parameters and columns of the page's statements, for the check of edited SQL files."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

_FILTER = "verdict reviewed low high label detector since until size"
_CARD = "record_id token score threshold margin is_anomaly label detector image_at review reviewed_by needs_review image_sha256 has_heatmap"
_GALLERY = (f"{_FILTER} after after_id attribute attribute_value candidates is_few", f"{_CARD} is_match is_last")

PAGE_CONTRACTS = {
    "add_review": (
        "id record_id token verdict_text label comment takes_back reviewer",
        "review reviewed_by reviewed_at decisions",
    ),
    "add_threshold": ("id detector threshold reason actor", "added"),
    "add_view": ("owner name address size", "id"),
    "delete_view": ("view_id owner", "id"),
    "list_views": ("owner", "view_id name query"),
    "rename_view": ("view_id owner name", "id"),
    "score_again": ("record_ids ask_anew actor", "records"),
    "page_activity": ("", "dag_id run_id since records seconds"),
    "page_choices": ("", "labels detectors"),
    "page_gallery_count": (_FILTER, "records"),
    "page_gallery_score": _GALLERY,
    "page_gallery_time": _GALLERY,
    "page_gallery_uncertain": _GALLERY,
    "page_image": ("record_id token", "image_key heatmap_key image_sha256"),
    "page_log": ("record_id", "at event attempt token error_code error timings actor run_id"),
    "page_record": (
        "record_id",
        (
            "id image_at status attempts lost not_before token last_error_code last_error processed_at verdict_token review reviewed_by "
            "reviewed_at needs_review sample_share ask_anew source attributes image_url"
        ),
    ),
    "page_results": (
        "record_id",
        (
            "token detector config score threshold is_anomaly label reason regions regions_unit image_sha256 image_width_px "
            "image_height_px image_media_type image_key answer_key heatmap_key reused usage cost latency_ms dag_id run_id map_index "
            "try_number created_at"
        ),
    ),
    "page_reviews": ("record_id", "decision verdict label comment reviewer at token takes_back taken_back"),
    "page_run": ("batch_id", "since is_open claimed until committed quarantined deferred released"),
    "page_run_failures": ("batch_id", "code records example error"),
    "page_run_records": ("batch_id size", _CARD),
    "page_runs": (
        "size",
        "dag_id run_id since claimed is_open until committed quarantined deferred released verdicts anomalies fetch detect archive commit",
    ),
    "page_same_source": ("image_at record_id source same size", "record_id token score is_anomaly detector review reviewed_by image_at"),
    "page_scores": ("since detector", "score verdicts anomalies"),
    "page_unjudged": ("status after after_id size", "id image_at status attempts not_before last_error_code last_error image_url"),
    "page_threshold_choices": ("", "detectors newest sources"),
    "page_threshold_records": ("detector since source edges", "cell records since until"),
    "page_threshold_reviews": ("detector since source edges", "cell said_anomaly said_normal said_unsure anomalies normals"),
    "page_threshold_span": ("detector", "low high newest_at threshold_low threshold_high"),
    "stored_thresholds": ("detector size", "id threshold reason set_by set_at"),
    "page_verdicts": ("since step", "at detector verdicts anomalies first_at threshold_low threshold_high"),
}
"""By the name of the statement."""

PAGE_SAMPLES: dict[str, Any] = {
    "after": None,
    "after_id": None,
    "ask_anew": UUID(int=0),
    "candidates": 1,
    "is_few": False,
    "attribute": None,
    "attribute_value": None,
    "comment": None,
    "edges": [0.5],
    "high": None,
    "id": UUID(int=0),
    "image_at": datetime(2000, 1, 1, tzinfo=UTC),
    "low": None,
    "name": "",
    "owner": "",
    "address": "",
    "reviewed": None,
    "reviewer": "",
    "same": "{}",
    "since": datetime(2000, 1, 1, tzinfo=UTC),
    "status": "pending",
    "step": "day",
    "takes_back": None,
    "until": None,
    "verdict": None,
    "verdict_text": None,
    "view_id": -1,
}
"""A value of the right type for each parameter that only the page uses."""
