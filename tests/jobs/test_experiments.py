import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from features.errors import ConfigError, DataError
from features.slates import Assignment
from features.store import Store
from jobs.__main__ import app
from jobs.experiments import watching
from jobs.experiments.reading import analysed
from jobs.experiments.watching import MIN_PERIOD_US
from recsys.experiments.experiment import (
    EXPERIMENT,
    GLOBAL,
    HOLDOUT,
    MIXED,
    REPORT,
    Design,
    Experiment,
    Metric,
    Plan,
    Variant,
    microseconds,
)
from recsys.experiments.lifecycle import decided, drafted, started, stopped
from recsys.experiments.stored import StoredExperiments, forget, put, releases_needed, take
from recsys.settings import Settings
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


def test_one_that_cannot_be_analysed_or_read_keeps_nobody_else_from_it(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("aaa", "wide"):
        file = shop / f"{name}.toml"
        other = DESIGN.replace("diversity = 0.5", "exploration = 0.2") if name == "aaa" else DESIGN
        file.write_text(other.replace('"wide"\n', f'"{name}"\n', 1))
        run("put", str(file))
        run("start", name)
    with Store.open(f"sqlite:///{shop / 'shop.db'}") as store:
        store.documents.put(EXPERIMENT, "odd", '{"design": 1}', updated_at_us=1)
    shown_and_clicked(shop, (4, 0))

    def broken(experiment: Experiment, *args: Any, **named: Any) -> Any:
        if experiment.name == "aaa":
            raise OverflowError("cannot convert float infinity to integer")
        return analysed(experiment, *args, **named)

    monkeypatch.setattr(watching, "analysed", broken)
    told = run("watch").replace("\n", " ")
    assert "aaa was not analysed: OverflowError" in told
    assert "wide was stopped" in told
    assert "odd" in run("list")
    with pytest.raises(DataError, match="cannot be read"):
        run("show", "odd")
    assert "odd is deleted" in run("delete", "odd")
    with pytest.raises(DataError, match="found no experiment 'odd'"):
        run("delete", "odd")
    with pytest.raises(DataError, match="wide' is stopped, expected a draft"):
        run("delete", "wide")


def test_a_bandits_new_shares_hold_when_every_server_knows_them_and_for_a_while(
    shop: Path,
) -> None:
    file = shop / "wide.toml"
    goal = 'kind = "bandit"\n\n[plan]\ngoals = [{ name = "clicks", event_type = "click" }]\n'
    file.write_text(DESIGN.split("[plan]")[0] + goal)
    run("put", str(file))
    run("start", "wide")
    shown_and_clicked(shop, (1, 3))
    before = datetime.now(UTC)
    run("watch")
    with Store.open(f"sqlite:///{shop / 'shop.db'}") as store:
        phase = StoredExperiments.read(store.documents).get("wide").phase
        assert phase is not None
        (allocation,) = phase.allocations
        at_us = microseconds(allocation.at)
    assert (allocation.at - before).total_seconds() >= Settings().notice_s - 1
    assert phase.weights_at(at_us - 1) == (0.5, 0.5)
    assert phase.weights_at(at_us) != (0.5, 0.5)
    moved = (allocation.weights[1], allocation.weights[0])
    assert not watching._is_worth_it(phase, moved, at_us + MIN_PERIOD_US - 1)
    assert watching._is_worth_it(phase, moved, at_us + MIN_PERIOD_US)
    assert not watching._is_worth_it(phase, allocation.weights, at_us + MIN_PERIOD_US)


def test_the_holdout_is_told_and_changed_while_nothing_runs(shop: Path) -> None:
    assert "0.0% of the units" in run("holdout")
    assert "5.0% of the units" in run("holdout", "0.05")
    file = shop / "wide.toml"
    file.write_text(DESIGN)
    run("put", str(file))
    run("start", "wide")
    with pytest.raises(DataError, match="found wide running, expected nothing to run"):
        run("holdout", "0.1")
    assert "5.0% of the units" in run("holdout")
    with Store.open(f"sqlite:///{shop / 'shop.db'}") as store:
        store.documents.put(HOLDOUT, GLOBAL, "{}", updated_at_us=1)
    assert "0.0% of the units" in run("holdout"), "what cannot be read holds nobody out"


def test_what_a_unit_would_get_is_told(shop: Path) -> None:
    file = shop / "wide.toml"
    file.write_text(
        DESIGN.replace(
            "[plan]", 'targeting = "country = \'NL\'"\noverrides = { qa = "wide" }\n\n[plan]'
        )
    )
    run("put", str(file))
    with Store.open(f"sqlite:///{shop / 'shop.db'}") as store:
        users = pl.DataFrame({"user_id": ["ann", "bob"], "attributes": ['{"country":"NL"}', "{}"]})
        store.people.upsert_users(users, updated_at_us=1)
    assert "qa: takes no part" in run("who", "wide", "qa"), "a draft gives nobody anything"
    run("start", "wide")
    assert "qa: wide, by override" in run("who", "wide", "qa")
    assert ", by hash" in run("who", "wide", "ann")
    assert "bob: takes no part" in run("who", "wide", "bob")


def test_a_draft_is_previewed_without_a_release_too(shop: Path) -> None:
    file = shop / "wide.toml"
    file.write_text(DESIGN)
    run("put", str(file))
    assert "Preview: " in run("preview", "wide")
    (page,) = (shop / "reports" / "experiments" / "wide").glob("*-preview.html")
    assert "No lists: there is no shopper yet" in page.read_text()


def test_releases_of_undecided_experiments_are_kept(shop: Path) -> None:
    with Store.open(f"sqlite:///{shop / 'shop.db'}") as store:
        documents = store.documents
        documents.put(EXPERIMENT, "odd", '{"x": "2026-01-01-aaaaaaaaaa"}', updated_at_us=1)
        kept = {"2026-01-01-aaaaaaaaaa", "2026-01-02-bbbbbbbbbb"}
        design = Design(
            name="old",
            hypothesis="",
            variants=(Variant(key="a"), Variant(key="b", release_id="2026-01-02-bbbbbbbbbb")),
            plan=Plan(goals=(Metric(name="c", event_type="click"),)),
        )
        now = datetime.now(UTC)
        put(documents, design, release_ids=kept, now=now)
        known = [*kept, "2026-01-03-cccccccccc"]
        assert releases_needed(documents, known) == kept
        take(documents, "old", lambda e, _: started(e, now, "", ()), now=now)
        take(documents, "old", lambda e, _: stopped(e, now, ""), now=now)
        assert releases_needed(documents, known) == kept
        take(documents, "old", lambda e, _: decided(e, now, "a", ""), now=now)
        assert releases_needed(documents, known) == {"2026-01-01-aaaaaaaaaa"}


def test_who_is_forgotten_is_in_no_overrides_also_where_they_cannot_be_read(shop: Path) -> None:
    with Store.open(f"sqlite:///{shop / 'shop.db'}") as store:
        documents, now = store.documents, datetime.now(UTC)
        body = '{"design": {"overrides": {"ann": "a", "s1": "b", "bob": "a"}}, "newer": 1}'
        documents.put(EXPERIMENT, "odd", body, updated_at_us=1)
        documents.put(EXPERIMENT, "list", "[1]", updated_at_us=1)
        forget(documents, {"ann", "s1"}, now=now)
        kept = json.loads(documents.get(EXPERIMENT, "odd") or "")
        assert kept == {"design": {"overrides": {"bob": "a"}}, "newer": 1}
        change = documents.last_change()
        forget(documents, {"nobody"}, now=now)
        assert documents.last_change() == change
