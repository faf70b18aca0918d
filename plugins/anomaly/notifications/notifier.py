"""Sends notifications by notifiers of Airflow or its providers, which a setting names."""

from __future__ import annotations

import json
import pkgutil
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from anomaly.errors import Misconfigured
from anomaly.notifications.message import NotSent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from anomaly.notifications.message import Notification

DEADLINE_S = 60.0
"""Longest wait for a notifier. Afterwards its thread is left to itself."""
SETTING = "ANOMALY_NOTIFIERS"
_FORM = f'{SETTING} must be a JSON object of import paths and their arguments, such as {{"package.module.Notifier": {{"to": "me"}}}}'


@dataclass(frozen=True, slots=True)
class Notifier:
    """A notifier of Airflow, or any class or function that returns a function of a task's context."""

    path: str
    make: Callable[..., Callable[[Any], object]]
    arguments: Mapping[str, Any]

    def send(self, notification: Notification, context: Mapping[str, Any], *, deadline_s: float = DEADLINE_S) -> None:
        """Send a notification, with a task's context for the notifier's templates.

        Raises:
            NotSent: the notifier failed, or has not returned within *deadline_s*.
        """
        failures: list[str] = []

        def notify() -> None:
            sends = False
            try:
                made = self.make(**self.arguments)
                sends = True
                made({**context, "anomaly": notification})
            except Exception as exc:  # noqa: BLE001  # whatever the notifier raises
                # An error while it sends may quote an address that is secret. Airflow's own notifiers log its text.
                is_told = not sends or isinstance(exc, TemplateError)
                failures.append(f"{self.path}: {type(exc).__name__}{f': {exc}' if is_told else ''}")

        thread = threading.Thread(target=notify, name="notifier", daemon=True)
        thread.start()
        thread.join(deadline_s)
        if thread.is_alive():
            raise NotSent(f"{self.path} has not returned within {deadline_s:g} s")
        if failures:
            raise NotSent(failures[0])


def from_setting(text: str) -> list[Notifier]:
    """Return the notifiers that the setting names.

    Raises:
        Misconfigured: the setting cannot be read, or a notifier cannot be imported.
    """
    try:
        named = json.loads(text or "{}")
    except ValueError as exc:
        raise Misconfigured(f"{_FORM}: {exc}") from exc
    if not isinstance(named, dict) or not all(isinstance(arguments, dict) for arguments in named.values()):
        raise Misconfigured(_FORM)
    return [Notifier(path, _imported(path), arguments) for path, arguments in named.items()]


def _imported(path: str) -> Any:
    try:
        found = pkgutil.resolve_name(path)
    except Exception as exc:  # whatever the module raises
        raise Misconfigured(f"{SETTING}: {path} cannot be imported: {exc}") from exc
    if not callable(found):
        raise Misconfigured(f"{SETTING}: {path} is not a notifier")
    return found
