import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from features.errors import ConfigError, DataError
from features.slates import Assignment
from features.store import Store
from jobs.__main__ import app
from recsys.experiments.experiment import EXPERIMENT, MIXED, REPORT, Design, Metric, Plan, Variant
from recsys.experiments.lifecycle import drafted, started
from tests.features.rows import event, events, slate


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


DESIGN = """
name = "wide"
hypothesis = "more sources sell more"
unit = "user"
variants = [{ key = "control" }, { key = "wide", policy = { diversity = 0.5 } }]

[plan]
goals = [{ name = "orders", event_type = "order" }]
guardrails = [{ name = "clicks", event_type = "click", margin = 0.05 }]
"""


def test_an_experiment_lives_from_a_file_to_a_decision(shop: Path) -> None:
    file = shop / "wide.toml"
    file.write_text(DESIGN)
    assert "wide: draft" in run("put", str(file))
    assert "wide: running" in run("start", "wide", "--reason", "monday")
    file.write_text(DESIGN.replace("0.5", "0.25"))
    assert "new phase: variants" in run("put", str(file))
    assert "wide: stopped" in run("stop", "wide")
    told = run("decide", "wide", "wide", "--reason", "sells more")
    assert "wide: decided" in told
    assert "wide: sells more" in told
    shown = run("show", "wide")
    assert [word in shown for word in ("drafted", "started", "changed", "stopped")] == [True] * 4
    with pytest.raises(DataError, match="it is decided"):
        run("start", "wide")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (DESIGN.replace("margin", "margins"), "margins: Extra inputs are not permitted"),
        (DESIGN.replace("event_type", ""), "unusable"),
        ("", "hypothesis: Field required"),
    ],
)
def test_a_design_that_cannot_be_read_is_explained(shop: Path, text: str, words: str) -> None:
    (shop / "wide.toml").write_text(text)
    with pytest.raises(ConfigError, match=words):
        run("put", str(shop / "wide.toml"))
    assert "There are no experiments" in run("list")


def shown_and_clicked(shop: Path, clicks: tuple[int, int], n: int = 400) -> None:
    """By `n` units, half of them in either variant of "wide", which clicks so often and up to 2."""
    with Store.open(f"sqlite:///{shop / 'shop.db'}") as store:
        now_us = time.time_ns() // 1_000
        variants = ("control", "wide")
        store.append_slates(
            [
                replace(
                    slate(f"r{u}", user_id=f"u{u}", at_us=now_us + u),
                    assignments=(Assignment("wide", 1, variants[u % 2], "hash", f"u{u}"),),
                )
                for u in range(n)
            ]
        )
        rows = [
            event(f"e{u}-{i}", user_id=f"u{u}", event_type="click", event_time_us=now_us + 9_000)
            for u in range(n)
            for i in range(clicks[u % 2] + u % 3)
        ]
        store.append_events(events(*rows), received_at_us=now_us)
    time.sleep(0.02)  # the watch looks at what is past


def test_what_harms_a_guardrail_is_stopped_by_a_watch(shop: Path) -> None:
    file = shop / "wide.toml"
    file.write_text(DESIGN)
    run("put", str(file))
    run("start", "wide")
    shown_and_clicked(shop, (4, 0))
    told = run("watch")
    assert "wide: harmful. wide harms clicks: " in told
    assert "wide was stopped: everybody is answered by the control." in told
    shown = run("show", "wide")
    assert "wide: stopped" in shown
    assert "by itself: wide harms clicks" in shown
    assert "harmful" not in run("watch")


def test_a_bandit_gives_more_to_what_it_learned_to_be_better(shop: Path) -> None:
    file = shop / "wide.toml"
    goal = 'kind = "bandit"\n\n[plan]\ngoals = [{ name = "clicks", event_type = "click" }]\n'
    file.write_text(DESIGN.split("[plan]")[0] + goal)
    run("put", str(file))
    run("start", "wide")
    shown_and_clicked(shop, (1, 3))
    assert "wide: reallocated: control 1.0%, wide 99.0%" in run("watch").replace("\n", " ")
    assert "reallocated" in run("show", "wide")
    assert "reallocated" not in run("watch"), "nothing new was learned"
    (page,) = (shop / "reports" / "experiments" / "wide").glob("*.html")
    assert "99.0%" in page.read_text()


def test_an_interleaved_experiment_is_analysed_as_a_screening(shop: Path) -> None:
    file = shop / "wide.toml"
    goal = 'kind = "interleave"\n\n[plan]\ngoals = [{ name = "clicks", event_type = "click" }]\n'
    file.write_text(DESIGN.split("[plan]")[0] + goal)
    run("put", str(file))
    run("start", "wide")
    with Store.open(f"sqlite:///{shop / 'shop.db'}") as store:
        now_us = time.time_ns() // 1_000
        slates = [
            replace(
                slate(f"r{n}", user_id=f"u{n}", at_us=now_us + n),
                assignments=(Assignment("wide", 1, MIXED, "hash", f"u{n}"),),
            )
            for n in range(20)
        ]
        k = len(slates[0].item_ids)
        slates = [replace(s, teams=("AB" * k)[n % 2 :][:k]) for n, s in enumerate(slates)]
        store.append_slates(slates)
        clicks = [
            event(
                f"e{n}",
                user_id=f"u{n}",
                item_id=slates[n].item_ids[0],
                request_id=f"r{n}",
                event_type="click",
                event_time_us=now_us + 1_000,
            )
            for n in range(10)
        ]
        store.append_events(events(*clicks), received_at_us=now_us)
    time.sleep(0.02)
    assert "wide: collecting. Too early" in run("watch")
    (page,) = (shop / "reports" / "experiments" / "wide").glob("*.html")
    assert "says nothing of how much more would be sold" in page.read_text()
    kept = json.loads(page.with_suffix(".json").read_text())
    assert kept["rows"][0]["preference"]["wins"] == [5, 0, 5]
