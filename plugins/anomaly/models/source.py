"""Sources: tables or views of the user whose rows become records."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, NoReturn, get_args

from anomaly.errors import Misconfigured

ROW_INVALID = "source_row_invalid"
"""Code of a row that cannot be a record: without an address, without a usable time of capture, or with the key of another row."""
OnChange = Literal["again", "leave"]
WriteBack = Literal["is_anomaly", "score", "label", "reviewed", "processed_at"]
"""Values that can be written to columns of the source."""
KEYS = ("table", "name", "id", "image_url", "captured_at", "attributes", "condition", "look_back", "on_change", "write_back", "connection")
REQUIRED = ("table", "id", "image_url", "captured_at")
RECORDS_DB = "anomaly_db"
EXTRA, VARIABLE = "source", "ANOMALY_SOURCE"
"""Key in the extra of the records database's connection, and the setting that replaces it."""
NAME_MAX_BYTES = 63
"""Length at which Postgres cuts off a name without an error."""
_UNITS = {"s": "seconds", "min": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One source, as it is configured. Names are those that Postgres stores: case counts, and any character is allowed."""

    name: str
    table: tuple[str, str]
    """Schema and name of a table or view."""
    id: tuple[str, ...]
    """Columns that identify a row."""
    image_url: str
    captured_at: str
    attributes: tuple[str, ...] = ()
    condition: str | None = None
    """SQL predicate of the rows that become records."""
    look_back: timedelta = timedelta(days=1)
    """The time after its capture within which a row is found without a full pass."""
    on_change: OnChange = "again"
    write_back: Mapping[WriteBack, str] = field(default_factory=dict)
    """Columns of the source by the value that is written to them."""
    connection: str = RECORDS_DB

    @property
    def label(self) -> str:
        """The table, for sentences."""
        return ".".join(self.table)

    def finding_config(self) -> str:
        """Return what decides which rows are found and how they are read, as JSON."""
        return json.dumps([self.connection, self.table, self.id, self.image_url, self.captured_at, self.condition])


def configured(extra: Mapping[str, Any], setting: str) -> tuple[Source, ...]:
    """Return the sources that the extra of the records database's connection or the setting has; none if neither has any.

    Raises:
        Misconfigured: a source is wrong.
    """
    if setting.strip():
        try:
            return sources_of(json.loads(setting), VARIABLE)
        except ValueError as exc:
            raise Misconfigured(f"{VARIABLE} must be JSON: {exc}") from exc
    given = extra.get(EXTRA)
    if isinstance(given, str) and given.strip():  # in a connection that is written as a URI
        try:
            given = json.loads(given)
        except ValueError as exc:
            raise Misconfigured(f"the connection {RECORDS_DB}: {EXTRA} must be JSON: {exc}") from exc
    return sources_of(given, f"the connection {RECORDS_DB}, {EXTRA}") if given else ()


def sources_of(value: object, origin: str) -> tuple[Source, ...]:
    """Read sources from configuration: one object, or a list of objects.

    Args:
        value: parsed JSON.
        origin: names the place of the configuration in errors.

    Raises:
        Misconfigured: a source is wrong; the sentence names the key.
    """
    found = tuple(_Reader(each, origin).source() for each in (value if isinstance(value, list) else [value]))
    if twice := next((each.name for number, each in enumerate(found) if each.name in {other.name for other in found[:number]}), None):
        raise Misconfigured(f'{origin}: two sources have the name {twice!r}; give one of them another "name"')
    return found


def nearest(name: str, known: list[str]) -> str:
    """Return the end of a sentence about a name that does not exist: the nearest one, or those that exist."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(map(repr, sorted(known))) or 'none'}"


class _Reader:
    """Reads one source, and names the place of a mistake."""

    def __init__(self, value: object, origin: str) -> None:
        self._origin = origin
        if not isinstance(value, Mapping):
            self._refuse("a source must be a JSON object, or a list of them")
        self._value: Mapping[str, Any] = value

    def source(self) -> Source:
        if unknown := next((key for key in self._value if key not in KEYS), None):
            self._refuse(f"there is no key {unknown!r}; {nearest(str(unknown), list(KEYS))}")
        if missing := next((key for key in REQUIRED if self._value.get(key) in (None, "", [])), None):
            self._refuse(f'"{missing}" is missing; a source needs {", ".join(REQUIRED)}')
        table = self._table()
        given = self._value
        return Source(
            name=self._text("name", default=".".join(table)),
            table=table,
            id=self._names("id"),
            image_url=self._name("image_url", given["image_url"]),
            captured_at=self._name("captured_at", given["captured_at"]),
            attributes=self._names("attributes") if given.get("attributes") else (),
            condition=self._text("condition") if given.get("condition") is not None else None,
            look_back=self._look_back(),
            on_change=self._on_change(),
            write_back=self._write_back(),
            connection=self._text("connection", default=RECORDS_DB),
        )

    def _table(self) -> tuple[str, str]:
        given = self._value["table"]
        parts = given.split(".", 1) if isinstance(given, str) else given
        if not isinstance(parts, list) or len(parts) != 2:  # noqa: PLR2004  # schema and name
            self._refuse('"table" must be a schema and a name, such as "shop.photos" or ["shop", "photos.2026"]')
        return self._name("table", parts[0]), self._name("table", parts[1])

    def _names(self, key: str) -> tuple[str, ...]:
        given = self._value[key]
        names = tuple(self._name(key, each) for each in (given if isinstance(given, list) else [given]))
        if len(set(names)) < len(names):
            self._refuse(f'"{key}" names a column twice')
        return names

    def _name(self, key: str, name: object) -> str:
        if not isinstance(name, str) or not name or "\0" in name:
            self._refuse(f'"{key}" must be a name, not {json.dumps(name, default=str)}')
        if len(name.encode(errors="replace")) > NAME_MAX_BYTES:
            self._refuse(f'"{key}": {name!r} is longer than the {NAME_MAX_BYTES} bytes of a name in Postgres')
        return name

    def _text(self, key: str, default: str = "") -> str:
        given = self._value.get(key, default)
        if not isinstance(given, str) or not given.strip() or "\0" in given:
            self._refuse(f'"{key}" must be a text that is not empty, not {json.dumps(given, default=str)}')
        return given

    def _look_back(self) -> timedelta:
        given = self._value.get("look_back", "1d")
        found = re.fullmatch(r"(\d{1,6}) ?(s|min|h|d)", given) if isinstance(given, str) else None
        if found is None:
            self._refuse(f'"look_back" must be a number with a unit, such as "90min", "36h" or "7d", not {json.dumps(given, default=str)}')
        return timedelta(**{_UNITS[found[2]]: int(found[1])})

    def _on_change(self) -> OnChange:
        given: Any = self._value.get("on_change", "again")
        if given not in get_args(OnChange):
            self._refuse(f'"on_change" must be "again" or "leave", not {json.dumps(given, default=str)}')
        changed: OnChange = given
        return changed

    def _write_back(self) -> Mapping[WriteBack, str]:
        given = self._value.get("write_back", {})
        if not isinstance(given, Mapping):
            self._refuse('"write_back" must be an object, such as {"is_anomaly": "a column"}')
        known = list(get_args(WriteBack))
        if unknown := next((key for key in given if key not in known), None):
            self._refuse(f'"write_back" has no value {unknown!r}; {nearest(str(unknown), known)}')
        columns = {value: self._name("write_back", column) for value, column in given.items()}
        read = {*self._names("id"), self._value["image_url"], self._value["captured_at"]}
        if clash := next((column for column in columns.values() if column in read), None):
            self._refuse(f'"write_back" would overwrite {clash!r}, from which records are read')
        if len(set(columns.values())) < len(columns):
            self._refuse('"write_back" names a column twice')
        if columns and self._value.get("connection", RECORDS_DB) != RECORDS_DB:
            self._refuse(f'"write_back" needs a source in the database of {RECORDS_DB}: it is part of the transaction of a verdict')
        return columns

    def _refuse(self, fault: str) -> NoReturn:
        raise Misconfigured(f"{self._origin}: {fault}")
