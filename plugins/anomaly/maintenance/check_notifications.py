"""Checks the receivers of notifications, and sends none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anomaly import connections
from anomaly.maintenance.findings import Finding
from anomaly.notifications.message import wanted
from anomaly.notifications.notifier import from_setting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anomaly.settings import Settings


def check_notifications(settings: Settings) -> Iterator[Finding]:
    """Check the settings and the connection of the webhook, and import the notifiers."""
    types, webhook = wanted(settings.notify_of), connections.webhook()
    receivers = [f"the webhook at {webhook.host}"] if webhook else []
    receivers += [notifier.path for notifier in from_setting(settings.notifiers)]
    sent = f"{', '.join(sorted(types))} by {' and '.join(receivers)}" if types and receivers else "none"
    yield Finding(f"notifications: {sent}")
