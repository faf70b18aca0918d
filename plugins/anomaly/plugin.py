"""The plugin as Airflow registers it: from `plugins/anomaly_plugin.py` in a checkout, by its entry point in an installed wheel."""

from __future__ import annotations

from base64 import b64encode

from airflow.plugins_manager import AirflowPlugin

from anomaly.page.mount import PageInAirflow
from anomaly.tasks.links import PREFIX, ROUTE, base_path

_SHAPE = (
    '<path d="M4 8V5.5A1.5 1.5 0 0 1 5.5 4H8M16 4h2.5A1.5 1.5 0 0 1 20 5.5V8M20 16v2.5a1.5 1.5 0 0 1-1.5 1.5H16'
    'M8 20H5.5A1.5 1.5 0 0 1 4 18.5V16"/><circle cx="12" cy="12" r="3.2"/>'
)


def _icon(colour: str, halo: str) -> str:
    """Return an icon that is seen on the navigation's background by its colour, and on the active entry's by its halo."""
    strokes = f'<g stroke="{halo}" stroke-width="3.4">{_SHAPE}</g><g stroke="{colour}" stroke-width="1.8">{_SHAPE}</g>'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none">{strokes}</svg>'
    return "data:image/svg+xml;base64," + b64encode(svg.encode()).decode()


class AnomalyPlugin(AirflowPlugin):
    """The project's extensions of Airflow: a page, with one entry in the navigation."""

    name = "anomaly"
    fastapi_apps = [{"app": PageInAirflow(), "url_prefix": PREFIX, "name": "anomaly"}]  # noqa: RUF012  # as Airflow declares it
    external_views = [  # noqa: RUF012  # as above
        {
            "name": "Anomalies",
            "href": f"{base_path()}{PREFIX}/",
            "destination": "nav",
            "url_route": ROUTE,
            "icon": _icon("#3f4a5a", halo="#ffffff"),
            "icon_dark_mode": _icon("#d5dbe5", halo="#1b2330"),
        }
    ]
