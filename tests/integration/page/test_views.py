"""Saved views: names for filters of the gallery."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from anomaly.db.client import Database
from anomaly.db.pool import connector, open_pool
from anomaly.db.views import VIEWS_MAX, ViewStore
from anomaly.errors import AnomalyError
from anomaly.page.views import NAME_MAX
from tests.integration.page.conftest import structure
from tests.integration.page.test_overview import HOSTILE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.page.conftest import Site

FILTER = "verdict=anomaly&low=0.5&label=a+%26+b"


@pytest.fixture
def other(site: Site) -> Iterator[ViewStore]:
    """Views of ann on a connection of her own."""
    pool = open_pool(connector(site.db.dsn, site.db.settings), site.db.settings)
    yield ViewStore(Database(pool), "ann")
    pool.dispose()


def names(site: Site) -> list[str]:
    return [row["name"] for row in site.db.rows("select name from anomaly.saved_views order by name")]


def only_view(site: Site) -> int:
    return int(site.one("select id from anomaly.saved_views"))


def test_a_filter_is_saved_listed_opened_renamed_and_deleted(site: Site) -> None:
    shown = site.post("/views", name="  To  look at ", address=f"{FILTER}&after=0.5~1&odd=1")
    assert (shown.url.path, shown.url.query.decode()) == ("/gallery", FILTER)
    assert re.search(r'aria-current="true">To look at<', shown.text)
    assert f'href="/gallery?{FILTER.replace("&", "&amp;")}"' in site.get("/gallery").text
    listed = site.get("/views").text
    assert "To look at" in listed
    assert "label: a &amp; b" in listed
    site.post(f"/views/{only_view(site)}/rename", name="Cracks")
    assert names(site) == ["Cracks"]
    site.post(f"/views/{only_view(site)}/rename", name="Cracks")
    assert "No views" in site.post(f"/views/{only_view(site)}/delete").text
    site.post("/views/4711/delete")


@pytest.mark.parametrize(
    ("name", "address", "sentence"),
    [
        ("", "", "A view needs a name."),
        (" \t\n ", "", "A view needs a name."),
        ("x" * (NAME_MAX + 1), "", "has at most 60 characters, and this one 61."),
        ("a\0b", "", "may not have control characters"),
        ("a\x1bb", "", "may not have control characters"),
        ("low", "low=high", "low: “high” is not a number."),
    ],
)
def test_a_bad_name_or_filter_is_a_sentence_and_nothing_is_saved(site: Site, name: str, address: str, sentence: str) -> None:
    assert sentence in site.post("/views", status=400, name=name, address=address).text
    assert names(site) == []


def test_a_name_that_exists_is_a_sentence_and_the_view_stays(site: Site) -> None:
    site.post("/views", name="Cracks", address=FILTER)
    site.post("/views", name="Cracks", address=FILTER)  # as a form that is sent twice
    assert "You have a view named “Cracks” already." in site.post("/views", status=409, name="Cracks", address="verdict=normal").text
    site.post("/views", name="Other", address="")
    [row] = site.db.rows("select id from anomaly.saved_views where name = 'Other'")
    assert "already" in site.post(f"/views/{row['id']}/rename", status=409, name="Cracks").text
    assert "no such view" in site.post("/views/4711/rename", status=404, name="New").text
    assert [(row["name"], row["query"]) for row in site.db.rows("select name, query from anomaly.saved_views order by name")] == [
        ("Cracks", FILTER),
        ("Other", ""),
    ]


def test_a_person_has_at_most_a_hundred_views(site: Site) -> None:
    for n in range(VIEWS_MAX):
        site.post("/views", name=f"View {n}")
    assert "you have 100 already" in site.post("/views", status=409, name="One more").text


def test_views_belong_to_a_person(site: Site, other: ViewStore) -> None:
    site.post("/views", name="Cracks", address=FILTER)
    assert other.views() == []
    assert not other.rename(only_view(site), "Mine")
    assert not other.delete(only_view(site))
    assert other.add("Cracks", "verdict=normal")
    assert names(site) == ["Cracks", "Cracks"]


def test_a_name_is_shown_as_text(site: Site) -> None:
    site.post("/views", name="harmless", address="label=harmless")
    pages = ("/gallery", "/views")
    harmless = [structure(site.get(path)) for path in pages]
    site.db.do("update anomaly.saved_views set name = %(t)s, query = 'label=' || %(t)s", t=HOSTILE)
    assert [structure(site.get(path)) for path in pages] == harmless


# ── two at once, and failures


def test_two_who_save_one_name_at_once_leave_the_first_view(site: Site, other: ViewStore) -> None:
    gate = site.db.gate("saved_views", "insert")
    first = ViewStore(site.db.database, "ann")
    with gate.shut():
        savings = [site.db.meanwhile(lambda: first.add("Cracks", "low=1")), site.db.meanwhile(lambda: other.add("Cracks", "low=2"))]
        site.db.until(lambda: gate.blocked() == 2)
    saved = [each.result() for each in savings]
    assert sorted(saved) == [False, True]
    assert [view.query for view in first.views()] == [("low=1", "low=2")[saved.index(True)]]


def test_two_who_rename_one_view_at_once_leave_one_view(site: Site, other: ViewStore) -> None:
    first = ViewStore(site.db.database, "ann")
    first.add("Cracks", FILTER)
    [view] = first.views()
    gate = site.db.gate("saved_views", "insert", "new.name = 'First'")
    with gate.shut():
        held = site.db.meanwhile(lambda: first.rename(view.view_id, "First"))
        site.db.until(lambda: gate.blocked() == 1)
        waiting = site.db.meanwhile(lambda: other.rename(view.view_id, "Second"))
        site.db.await_blocked(2)
    assert (held.result(), waiting.result()) == (True, False)
    assert [(each.name, each.query) for each in first.views()] == [("First", FILTER)]


def test_a_view_that_is_deleted_while_it_is_renamed_is_gone_or_renamed(site: Site, other: ViewStore) -> None:
    first = ViewStore(site.db.database, "ann")
    first.add("Cracks", FILTER)
    [view] = first.views()
    gate = site.db.gate("saved_views", "delete")
    with gate.shut():
        deleting = site.db.meanwhile(lambda: first.delete(view.view_id))
        site.db.until(lambda: gate.blocked() == 1)
        renaming = site.db.meanwhile(lambda: other.rename(view.view_id, "New"))
        site.db.until(lambda: len(site.db.blocked()) == 2 or renaming.done())
    results = (deleting.result(), renaming.result())
    assert len(first.views()) == (1 if results == (False, True) else 0)
    assert True in results


@pytest.mark.parametrize(("event", "when"), [("insert", "before"), ("insert", "after"), ("delete", "before"), ("delete", "after")])
def test_a_change_that_fails_at_a_step_leaves_the_views_as_they_were(site: Site, event: str, when: str) -> None:
    store = ViewStore(site.db.database, "ann")
    store.add("Cracks", FILTER)
    before = store.views()
    site.db.do("create function anomaly.fails() returns trigger language plpgsql as $$ begin raise 'no'; end $$")
    site.db.do(f"create trigger fails {when} {event} on anomaly.saved_views for each row execute function anomaly.fails()")
    with pytest.raises(AnomalyError):
        store.rename(before[0].view_id, "New")
    if event == "insert":
        with pytest.raises(AnomalyError):
            store.add("Other", "")
    else:
        with pytest.raises(AnomalyError):
            store.delete(before[0].view_id)
    assert store.views() == before
