"""A replay foretells a variant; its experiment, run afterwards, says whether that held."""

import time
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from features.errors import ConfigError, DataError
from features.slates import Assignment
from jobs.__main__ import app
from recsys.evaluation.offpolicy.foretelling import FORETOLD, Foretold
from tests.features.rows import event, events, slate
from tests.jobs.both_ways import shown_both_ways, store_in

DESIGN = """
name = "first"
hypothesis = "i0 on top sells more"
unit = "user"
variants = [{ key = "control" }, { key = "top", policy = { diversity = 0.5 } }]

[plan]
goals = [
    { name = "clickers", kind = "proportion", event_type = "click" },
    { name = "rate", kind = "ratio", event_type = "click", per = "exposures" },
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


def foretell(shop: Path, name: str = "first/top") -> str:
    return run("replay", str(shop / "target.parquet"), "--foretells", name)


def lived(shop: Path) -> None:
    """800 slates, every fourth of the control clicked and every second of the variant."""
    now_us = time.time_ns() // 1_000
    shown = [
        replace(
            slate(f"x{u}", user_id=f"x{u}", at_us=now_us + u),
            assignments=(Assignment("first", 1, ("control", "top")[u % 2], "hash", f"x{u}"),),
        )
        for u in range(800)
    ]
    clicked = [
        event(
            f"x{u}",
            user_id=f"x{u}",
            request_id=f"x{u}",
            item_id="i0",
            event_type="click",
            event_time_us=now_us + 9_000,
        )
        for u in range(800)
        if u % (8, 4)[u % 2] < 2
    ]
    with store_in(shop) as store:
        store.append_slates(shown)
        store.append_events(events(*clicked), received_at_us=now_us)
    time.sleep(0.02)  # a look is at what is past


def test_what_was_foretold_stands_beside_what_was_measured(shop: Path) -> None:
    assert "Nothing is foretold" in run("experiments", "foretold")
    assert "Kept as what first/top will do" in foretell(shop)
    assert "no report of its experiment" in run("experiments", "foretold")
    run("experiments", "start", "first")
    lived(shop)
    run("experiments", "analyse", "first")
    told = run("experiments", "foretold")
    assert "first/top: rate" in told  # of two metrics the one that is per exposure too
    assert "+100.0%" in told  # a quarter of the control's slates clicked, half of the variant's
    assert "1 of 1 replays agree with their experiment" in told
    again = foretell(shop)  # what the experiment has shown is left out
    assert "800 exposures in 400 slates" in again


def test_a_changed_variant_is_another(shop: Path) -> None:
    foretell(shop)
    put(shop, DESIGN.replace("0.5", "0.25"))
    run("experiments", "start", "first")
    lived(shop)
    run("experiments", "analyse", "first")
    assert "its variant was changed since" in run("experiments", "foretold")


def test_only_what_will_be_measured_is_foretold(shop: Path) -> None:
    with pytest.raises(ConfigError, match="expected <experiment>/<variant>"):
        foretell(shop, "first")
    with pytest.raises(DataError, match="found no experiment 'second'"):
        foretell(shop, "second/top")
    with pytest.raises(DataError, match="no variant 'control' of 'first' beside its control"):
        foretell(shop, "first/control")
    put(shop, DESIGN.replace('"click"', '"order"'))
    with pytest.raises(DataError, match="no metric of 'first' that counts 'click'"):
        foretell(shop)
    with store_in(shop) as store:
        assert store.documents.all(FORETOLD) == {}


def test_what_another_version_stored_is_named(shop: Path) -> None:
    foretell(shop)
    with store_in(shop) as store:
        (text,) = store.documents.all(FORETOLD).values()
        assert Foretold.model_validate_json(text).name == "first/top"
        store.documents.put(FORETOLD, "old/one", "{}", updated_at_us=1)
    told = run("experiments", "foretold")
    assert "old/one" in told
    assert "unreadable" in told
