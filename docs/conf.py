"""Configuration of the documentation site; `bin/test docs` builds it, and fails on a warning such as a link without a target.

The source folder is the repository, so that links from page to page, README.md and CONTRIBUTING.md are those of the repository.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
ADRS = "docs/adr/README"
NAVIGATION = {
    "Start": ["Overview <self>", "docs/your-own-table", "docs/detectors"],
    "Use": ["docs/page", "docs/commands", "docs/runs", "docs/backfill", "docs/error-codes"],
    "Operate": ["docs/operations", "docs/your-airflow", "docs/notifications", "docs/compose", "docs/scale"],
    "Understand": ["docs/architecture", "docs/reliability", "docs/bad-input", "docs/performance", ADRS],
    "Reference": ["docs/reference-detector", "docs/data-set", "CHANGELOG", "SECURITY"],
    "Contribute": ["CONTRIBUTING", "docs/releasing"],
}

project = html_title = "anomaly"
root_doc = "README"
include_patterns = ["*.md", "docs/**.md"]
exclude_patterns = [path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "docs"]
extensions = ["myst_parser"]
myst_heading_anchors = 4
nitpicky = True
suppress_warnings = ["misc.highlighting_failure"]  # Pygments does not know dollar quotes in SQL
html_theme = "furo"
html_extra_path = ["site"]
html_copy_source = False
html_show_copyright = False


def add_navigation(_: Sphinx, page: str, source: list[str]) -> None:
    """Add what only the site needs: the navigation to the first page, and the list of pages to that of the decisions."""
    if page == root_doc:
        for caption, pages in NAVIGATION.items():
            source[0] += "\n".join(["", "```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```", ""])
    elif page == ADRS:
        source[0] += "\n```{toctree}\n:hidden:\n:glob:\n\n[0-9]*\n```\n"


def setup(app: Sphinx) -> None:
    """Connect to Sphinx's events."""
    app.connect("source-read", add_navigation)
