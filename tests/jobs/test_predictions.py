"""A replay predicts a variant; its experiment, run afterwards, says whether that held."""

import time
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from features.errors import ConfigError, DataError
from features.slates import Assignment
from jobs.__main__ import app
from recsys.experiments.experiment import PREDICTION, REPORT
from tests.features.rows import event, events, slate
from tests.jobs.both_ways import shown_both_ways, store_in

DESIGN = """
name = "first"
hypothesis = "i0 on top sells more"
unit = "user"
variants = [{ key = "control" }, { key = "top", policy = { diversity = 0.5, exploration = 0 } }]

[plan]
goals = [
    { name = "clickers", kind = "proportion", event_type = "click" },
    { name = "rate", kind = "ratio", event_type = "click", per = "exposures" },
    { name = "own", kind = "ratio", event_type = "click", per = "exposures", attributed = true },
]
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a draft, and the chances of its variant: i0 first, always."""
    shown_both_ways(tmp_path, monkeypatch)
    put(tmp_path, DESIGN)
    table = {"item_id": ["i0", "i1"], "position": [0, 1], "chance": [1.0, 1.0]}
    pl.DataFrame(table).write_parquet(tmp_path / "target.parquet")
    return tmp_path


def run(*words: str) -> str:
    found = CliRunner().invoke(app, list(words), env={"COLUMNS": "200"})
    if found.exception is not None:
        raise found.exception
    return found.output


def put(shop: Path, design: str) -> None:
    (shop / "first.toml").write_text(design)
    run("experiments", "put", str(shop / "first.toml"))


def predict(shop: Path, name: str = "first/top", *more: str) -> str:
    return run("replay", str(shop / "target.parquet"), "--predicts", name, *more)


def predictions() -> str:
    return run("experiments", "predictions")


def lived(shop: Path, control_clicks: int = 2) -> None:
    """800 slates: so many of eight of the control are clicked, four of eight of the variant.

    Everybody clicks something that no slate had shown, too.
    """
    now_us = time.time_ns() // 1_000
    variants = ("control", "top")
    shown = [
        replace(
            slate(f"x{u}", user_id=f"x{u}", at_us=now_us + u),
            assignments=(Assignment("first", 1, variants[u % 2], "hash", f"x{u}"),),
        )
        for u in range(800)
    ]
    rows = [
        event(
            f"x{u}-{request_id}",
            user_id=f"x{u}",
            request_id=request_id,
            item_id="i0",
            event_type="click",
            event_time_us=now_us + 9_000,
        )
        for u in range(800)
        for request_id in ([f"x{u}"] if u // 2 % 8 < (control_clicks, 4)[u % 2] else []) + [None]
    ]
    with store_in(shop) as store:
        store.append_slates(shown)
        store.append_events(events(*rows), received_at_us=now_us)
    time.sleep(0.02)  # a look is at what is past
    run("experiments", "analyse", "first")


def test_what_was_predicted_stands_beside_what_was_measured(shop: Path) -> None:
    assert "Nothing is predicted" in predictions()
    assert "Kept as what first/top will do" in predict(shop)
    assert "its experiment has no report" in predictions()
    run("experiments", "start", "first")
    lived(shop)
    told = predictions()
    assert "first/top: own " in told  # of three metrics the one that counts as a replay does
    assert "+100.0%" in told  # a quarter of the control's slates clicked, half of the variant's
    assert "1 of 1 replays agree with their experiment" in told
    assert "said afterwards" not in told
    again = predict(shop)  # what the experiment has shown is left out
    assert "800 exposures in 400 slates" in again
    assert "said afterwards" in predictions()
    predict(shop, "first/top", "--per", "slate")
    assert "2 of 2 replays agree" in predictions()


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("diversity = 0.5", "diversity = 0.25", "its variant was changed since"),
        (
            "diversity = 0.5, exploration = 0",
            "exploration = 0, diversity = 0.5",
            "1 of 1 replays agree",
        ),
        ('"click"', '"order"', "does not count 'click' any more"),
    ],
)
def test_a_changed_variant_is_another(shop: Path, before: str, after: str, told: str) -> None:
    predict(shop)
    put(shop, DESIGN.replace(before, after))
    run("experiments", "start", "first")
    lived(shop)
    assert told in predictions()


def test_no_lift_over_nothing(shop: Path) -> None:
    predict(shop)
    run("experiments", "start", "first")
    lived(shop, control_clicks=0)
    assert "no lift of 'own': what it would be relative to is not surely above 0" in predictions()


@pytest.mark.parametrize(
    ("name", "before", "after", "words"),
    [
        ("first", "", "", "expected <experiment>/<variant>"),
        ("second/top", "", "", "found no experiment 'second'"),
        ("first/control", "", "", "no variant 'control' of 'first' beside its control"),
        ("first/top", '"click"', '"order"', "no metric of 'first' that counts 'click'"),
        ("first/top", '"control" }', '"control", policy = { diversity = 0.9 } }', "control of"),
        ("first/top", 'unit = "user"', 'unit = "user"\ntargeting = "a = 1"', "'first' targeted"),
        ("first/top", 'unit = "user"', 'unit = "user"\nplacements = ["cart"]', "slates at cart"),
    ],
)
def test_only_what_will_be_measured_is_predicted(
    shop: Path, name: str, before: str, after: str, words: str
) -> None:
    if before:
        put(shop, DESIGN.replace(before, after))
    with pytest.raises((ConfigError, DataError), match=words):
        predict(shop, name)
    with store_in(shop) as store:
        assert store.documents.all(PREDICTION) == {}


def test_a_placement_is_that_of_the_experiment(shop: Path) -> None:
    put(shop, DESIGN.replace('unit = "user"', 'unit = "user"\nplacements = ["home"]'))
    with pytest.raises(ConfigError, match="expected none: 'first' is at home"):
        predict(shop, "first/top", "--placement", "cart")
    assert "Kept" in predict(shop, "first/top", "--placement", "home")


def test_what_answers_as_the_shop_does_predicts_nothing(shop: Path) -> None:
    logged = {"request_id": [f"r{n}" for n in range(400)] * 2, "position": [0] * 400 + [1] * 400}
    as_shown = pl.DataFrame(logged).with_columns(chance=pl.lit(0.5, pl.Float32))
    as_shown.write_parquet(shop / "target.parquet")
    with pytest.raises(DataError, match="without doubt"):
        predict(shop)


def test_a_draft_takes_its_predictions_along(shop: Path) -> None:
    predict(shop)
    run("experiments", "delete", "first")
    assert "Nothing is predicted" in predictions()


def test_what_another_version_stored_is_named(shop: Path) -> None:
    predict(shop)
    with store_in(shop) as store:
        store.documents.put(PREDICTION, "old/one", "{}", updated_at_us=1)
        store.documents.put(REPORT, "first", "{}", updated_at_us=1)
    told = predictions()
    assert "old/one" in told
    assert "stored by another version: replay it again" in told
    assert "the report of its experiment cannot be read: analyse it again" in told
