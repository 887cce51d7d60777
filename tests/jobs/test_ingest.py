"""Who asked to be forgotten is in no file of the night's any more, however often it was killed."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from features import lake as lake_module
from features.errors import ConfigError
from features.lake import Lake
from features.store import Store
from jobs.__main__ import app
from jobs.ingest import ingest
from jobs.plan import Places
from recsys.progress import Silent
from tests.features.rows import NOON_US, event, events, open_store, slate


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path) as opened:
        anonymous = event("e0", user_id=None, session_id="visit-1")
        known = event("e1", user_id="ann", session_id="visit-1")
        other = event("e2", user_id="bob", event_time_us=NOON_US + 86_400_000_000)
        late = event("e3", user_id="ann", event_time_us=NOON_US + 86_400_000_000)
        opened.append_events(events(anonymous, known, other, late), received_at_us=1)
        opened.append_slates([slate("r1", user_id="ann"), slate("r2", user_id="bob")])
        yield opened


@pytest.fixture
def places(tmp_path: Path) -> Places:
    found = Places(
        *(tmp_path / name for name in ("lake", "releases", "work", "reports", "rejects"))
    )
    for folder in (found.work, found.reports, tmp_path / "rejects"):
        folder.mkdir()
    return found


def files_that_name(*names: str, root: Path) -> list[str]:
    """Except the store's own."""
    return [
        path.name
        for path in sorted(root.rglob("*"))
        if path.is_file()
        and not path.name.startswith("store")
        and any(name.encode() in path.read_bytes() for name in names)
    ]


def test_an_erased_user_is_forgotten_everywhere_and_the_receipt_completed(
    store: Store, places: Places, tmp_path: Path
) -> None:
    ingest(store, places, 1, Silent())
    assert places.rejects is not None
    refused = [{"raw": {"visitor": name}, "row": n} for n, name in enumerate(["ann", "bob"])]
    lines = "".join(json.dumps(line) + "\n" for line in refused)
    (places.rejects / "events.jsonl").write_text(lines)
    samples = [{"user_id": "ann", "lists": {}}, {"user_id": "bob", "lists": {}}]
    page = places.reports / "evaluation-2026-01-01T0000.html"
    page.write_text("<h3>Shopper ann</h3><h3>Shopper annika</h3>")
    page.with_suffix(".json").write_text(json.dumps({"folds": [{"samples": samples}]}))
    (places.work / "serving-0123").mkdir()
    (places.work / "serving-0123" / "user_ids.json").write_text('["ann","bob"]')

    made = store.people.erase("ann", requested_at_us=7)
    assert len(ingest(store, places, 9, Silent()).forgotten) == 1
    found = store.people.erasure(made.receipt_id)
    assert found is not None
    assert (found.user_id, found.session_ids) == (None, ())
    assert (found.lake_rows, found.completed_at_us) == (3 + 2, 9)
    assert found.counts == {**made.counts, "rejects": 1}
    assert store.people.pending_erasures() == []
    assert files_that_name("ann<", '"ann"', "visit-1", root=tmp_path) == []
    assert "Shopper annika" in page.read_text()
    assert not any(places.work.iterdir())
    assert Lake(places.lake).scan_events().collect()["user_id"].to_list() == ["bob"]
    assert store.people.erased_since(7).among(["bob", "ann", "cem"]) == ["ann"]
    assert store.people.erased_since(8).among(["ann"]) == []


def test_who_comes_back_after_the_erasure_is_a_new_user(store: Store, places: Places) -> None:
    ingest(store, places, 1, Silent())
    store.people.erase("ann", requested_at_us=7)
    store.append_events(events(event("new", user_id="ann")), received_at_us=8)
    ingest(store, places, 9, Silent())
    found = Lake(places.lake).scan_events().collect().sort("event_id")
    assert found.select("event_id", "user_id").rows() == [("e2", "bob"), ("new", "ann")]


class Killed(BaseException):
    """Stands for the process ending here."""


@pytest.mark.parametrize("rewritten", [0, 1])
def test_a_killed_removal_is_finished_by_the_next_and_counts_every_row(
    store: Store, places: Places, monkeypatch: pytest.MonkeyPatch, rewritten: int
) -> None:
    ingest(store, places, 1, Silent())
    made = store.people.erase("ann", requested_at_us=7)
    write, written = lake_module._write_whole, 0

    def until_killed(frame: object, path: Path) -> None:
        nonlocal written
        if written == rewritten:
            raise Killed
        written += 1
        write(frame, path)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(lake_module, "_write_whole", until_killed)
        with pytest.raises(Killed):
            ingest(store, places, 8, Silent())
    assert [e.receipt_id for e in store.people.pending_erasures()] == [made.receipt_id]
    ingest(store, places, 9, Silent())
    found = store.people.erasure(made.receipt_id)
    assert found is not None
    assert (found.lake_rows, found.completed_at_us) == (3 + 2, 9)


def test_the_command_forgets_at_once(
    store: Store, places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(store, places, 1, Silent())
    monkeypatch.setenv("RECSYS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("RECSYS_DATABASE_URL", f"sqlite:///{tmp_path}/store.db")
    found = CliRunner().invoke(app, ["erase", "ann"], catch_exceptions=False)
    assert found.exit_code == 0
    assert "3 events, 1 slates" in found.output
    assert "5 rows removed from the lake" in found.output
    store.people.erase("bob", requested_at_us=2)
    found = CliRunner().invoke(app, ["erase", "--pending"], catch_exceptions=False)
    assert "3 rows removed from the lake" in found.output
    assert store.people.pending_erasures() == []
    for arguments in (["erase"], ["erase", "ann", "--pending"]):
        with pytest.raises(ConfigError, match="expected one of them"):
            CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_two_requests_of_one_user_count_each_row_once(store: Store, places: Places) -> None:
    ingest(store, places, 1, Silent())
    first = store.people.erase("ann", requested_at_us=7)
    second = store.people.erase("ann", requested_at_us=8)
    done = {e.receipt_id: e.lake_rows for e in ingest(store, places, 9, Silent()).forgotten}
    assert done == {first.receipt_id: 5, second.receipt_id: 0}
