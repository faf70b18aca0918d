"""Parameters and columns of the page's statements, for the check of edited SQL files."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

PAGE_CONTRACTS = {
    "page_activity": ("", "dag_id run_id since records seconds"),
    "page_failures": ("", "code records example error failed_at image_url"),
    "page_runs": (
        "size",
        "dag_id run_id since claimed is_open until committed quarantined deferred released verdicts anomalies fetch detect archive commit",
    ),
    "page_scores": ("since detector", "low high threshold_low threshold_high bar verdicts anomalies"),
    "page_verdicts": ("since step", "at detector verdicts anomalies first_at"),
}
"""By the name of the statement."""

PAGE_SAMPLES: dict[str, Any] = {"since": datetime(2000, 1, 1, tzinfo=UTC), "step": "day"}
"""A value of the right type for each parameter that only the page uses."""
