import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from features.slates import Assignment
from features.store import Store
from jobs.__main__ import app
from recsys.experiments.experiment import EXPERIMENT, REPORT, Design, Metric, Plan, Variant
from recsys.experiments.lifecycle import drafted, started
from tests.features.rows import slate


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RECSYS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("RECSYS_DATABASE_URL", f"sqlite:///{tmp_path / 'shop.db'}")
    return tmp_path


def stored(store: Store, *, running: bool) -> None:
    now = datetime.fromtimestamp(time.time() - 3_600, UTC)
    experiment = drafted(
        Design(
            name="wide",
            hypothesis="<b>more</b> sources sell more",
            unit="user",
            variants=(Variant(key="control"), Variant(key="wide", policy={"diversity": 0.5})),
            plan=Plan(goals=(Metric(name="clicks", event_type="click"),)),
        ),
        now,
    )
    if running:
        experiment = started(experiment, now, "go", ())
    store.documents.put(EXPERIMENT, "wide", experiment.model_dump_json(), updated_at_us=1)


def run(*words: str) -> str:
    found = CliRunner().invoke(app, ["experiments", *words])
    if found.exception is not None:
        raise found.exception
    return found.output


def test_what_was_shown_is_analysed_into_a_page_and_a_document(shop: Path) -> None:
    now_us = time.time_ns() // 1_000
    with Store.open(f"sqlite:///{shop / 'shop.db'}") as store:
        stored(store, running=True)
        shown = [
            replace(
                slate(f"r{n}", user_id=f"u{n}", at_us=now_us - 1_000_000 * (n + 2)),
                assignments=(Assignment("wide", 1, ("control", "wide")[n % 2], "hash", f"u{n}"),),
            )
            for n in range(40)
        ]
        store.append_slates(shown)
    assert "wide: collecting" in run("analyse")
    (page,) = (shop / "reports" / "experiments" / "wide").glob("*.html")
    assert "&lt;b&gt;more" in page.read_text()
    kept = json.loads(page.with_suffix(".json").read_text())
    assert kept["units"] == {"control": 20, "wide": 20}
    with Store.open(f"sqlite:///{shop / 'shop.db'}") as store:
        assert json.loads(store.documents.get(REPORT, "wide") or "") == kept


def test_experiments_are_listed_and_drafts_refused(shop: Path) -> None:
    assert "There are no experiments" in run("list")
    with Store.open(f"sqlite:///{shop / 'shop.db'}") as store:
        stored(store, running=False)
    assert "draft" in run("list")
    assert "No experiment runs" in run("analyse")
    with pytest.raises(Exception, match="never ran: start it first"):
        run("analyse", "wide")
    with pytest.raises(Exception, match="found no experiment 'other', expected one of those"):
        run("analyse", "other")
