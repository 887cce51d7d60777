"""An evaluation as people run it: the page says what the JSON says, and nothing else."""

import re
from collections.abc import Iterator
from dataclasses import fields
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
from numpy.testing import assert_allclose
from typer.testing import CliRunner

from features.errors import ConfigError
from features.events import DEFAULT_EVENT_TYPES, US_PER_DAY
from jobs.__main__ import app
from jobs.evaluate import LiveRival, training_data
from jobs.evaluation_page import render_evaluation
from jobs.evaluation_report import EvaluationReport
from jobs.evaluation_words import BEYOND
from jobs.page_words import written
from recsys.evaluation.trial import Window
from recsys.progress import Silent
from recsys.releases import Releases
from recsys.training.recipe import RecipeConfig
from tests.jobs.test_night_page import HOSTILE, Outline, points
from tests.tiny import FIRST_DAY_US, N_DAYS, make_world, tiny_events, tiny_items

NIGHT = """
[recipe.encoder]
base = "{encoder}"
tuned_layers = 0
max_tokens = 16
[recipe.collaborative]
dim = 8
epochs = 5
[recipe.sequence]
dim = 8
blocks = 1
epochs = 3
max_length = 10
[recipe.ranker]
hidden = [16, 8]
epochs = 20
"""
NUMBER = re.compile(r"(?<![\w@-])[+-]?\d[\d,]*(?:\.\d+)?(?:e[+-]\d+)?")


def hostile_items() -> pl.DataFrame:
    """What sellers type: titles of shirts and the tag of everything red."""
    return tiny_items().with_columns(
        title=pl.when(pl.col("item_id").str.ends_with("shirt"))
        .then(pl.lit(HOSTILE))
        .otherwise("title"),
        tags=pl.col("tags").list.eval(pl.element().replace("red", HOSTILE)),
    )


def longer_events() -> pl.DataFrame:
    """A day more than the tiny release has seen."""
    return pl.concat([tiny_events(), tiny_events(first_day=N_DAYS, n_days=1)])


@pytest.fixture(scope="module")
def written_files(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_text_encoder: Path,
    tiny_release: tuple[Path, str],
) -> tuple[Path, Path]:
    """Page and JSON of two folds; the live release has not seen the newest of them."""
    folder = tmp_path_factory.mktemp("evaluate")
    world = make_world(folder, tiny_text_encoder, hostile_items(), longer_events())
    (folder / "night.toml").write_text(NIGHT.format(encoder=tiny_text_encoder))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RECSYS_DATA_DIR", str(folder))
        environment.setenv("RECSYS_DATABASE_URL", world.url)
        environment.setenv("RECSYS_RELEASES_DIR", str(tiny_release[0]))
        environment.setenv("RECSYS_NIGHT_CONFIG_PATH", str(folder / "night.toml"))
        result = CliRunner().invoke(
            app, ["evaluate", "--folds", "2", "--out", str(folder / "out")], catch_exceptions=False
        )
    assert result.exit_code == 0, result.output
    (page,) = (folder / "out").glob("evaluation-*.html")
    (json,) = (folder / "out").glob("evaluation-*.json")
    assert page.name in result.output.replace("\n", "")
    assert json.name in result.output.replace("\n", "")
    return page, json


@pytest.fixture(scope="module")
def page(written_files: tuple[Path, Path]) -> str:
    return written_files[0].read_text("utf-8")


@pytest.fixture(scope="module")
def report(written_files: tuple[Path, Path]) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(written_files[1].read_bytes())
    return found


def numbers(value: object) -> Iterator[str]:
    """Every number of a JSON value, as a page writes it."""
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from numbers(part)
    elif isinstance(value, int | float):
        yield written(value)


def strings(value: object) -> Iterator[str]:
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from strings(part)
    elif isinstance(value, str):
        yield value


def cells(page: str) -> list[str]:
    return [unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", page, re.DOTALL)]


def unknown_numbers(page: str, report: dict[str, Any]) -> list[str]:
    """Numbers in tables that the JSON does not have."""
    known, said = set(numbers(report)), {*strings(report), *BEYOND.values()}
    shown = [
        number.lstrip("+")
        for cell in cells(page)
        if cell not in said and not re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", cell)
        for number in NUMBER.findall(cell)
    ]
    assert len(shown) > 500
    return [number for number in shown if number not in known]


def test_every_number_in_a_table_is_one_of_the_json(page: str, report: dict[str, Any]) -> None:
    assert unknown_numbers(page, report) == []
    changed = orjson.loads(orjson.dumps(report))
    changed["folds"][0]["trial"]["comparisons"][0]["ours"] = 0.98765
    assert unknown_numbers(render_evaluation(changed), report) == ["0.9877"]


def test_every_comparison_stands_on_the_page(page: str, report: dict[str, Any]) -> None:
    text = re.sub(r"\s+", " ", Outline(page).text)
    for fold in report["folds"]:
        assert len(fold["trial"]["comparisons"]) > 1
        for one in fold["trial"]["comparisons"]:
            row = " ".join(written(one[name]) for name in ("ours", "theirs"))
            assert row in text
            assert written(one["p_holm"]) in text
        for one in fold["trial"]["slices"]:
            assert one["name"] in text


def test_intervals_are_drawn_where_the_json_has_them(page: str, report: dict[str, Any]) -> None:
    compared = report["folds"][0]["trial"]["comparisons"]
    ends = [points(page, "fold-1-compared", f"interval-{n}")[:, 0] for n in range(len(compared))]
    given = np.array(
        [[one["difference"][end] for end in ("low", "high")] for one in compared]
    ).ravel()
    drawn = np.concatenate(ends)
    assert_allclose(
        (drawn - drawn[0]) / np.ptp(drawn), (given - given[0]) / np.ptp(given), atol=1e-4
    )


def test_the_page_needs_nothing_but_itself(page: str) -> None:
    outline = Outline(page)
    assert not {"script", "img", "link", "iframe", "object"} & set(outline.tags)
    assert {reference[1:] for reference in outline.references} <= set(outline.ids)
    assert not re.search(r"@import|url\((?!#)", page)
    attributes = re.sub(r'xmlns(:xlink)?="http://www.w3.org/[^"]*"', "", page)
    assert not re.search(r"""=\s*["']?\s*(https?:)?//""", attributes)


def test_ids_are_unique_however_many_folds(page: str) -> None:
    ids = Outline(page).ids
    assert len(set(ids)) == len(ids)
    assert {"done", "windows", "fold-1-accuracy", "fold-2-shoppers"} <= set(ids)


def test_hostile_titles_and_categories_stay_text(page: str) -> None:
    outline = Outline(page)
    assert "script" not in outline.tags
    assert "<script>" not in page
    assert HOSTILE in outline.text


def test_what_has_no_meaning_is_not_printed_as_a_number(page: str) -> None:
    words = set(re.findall(r"[a-z]+", Outline(page).text.lower()))
    assert not words & {"nan", "none", "null", "inf", "infinity", "undefined"}


def test_the_live_release_is_a_rival_only_on_days_it_has_not_seen(
    page: str, report: dict[str, Any]
) -> None:
    newest, older = report["folds"]
    assert newest["live"]["compared"]
    assert newest["evaluation_us"] == FIRST_DAY_US + N_DAYS * US_PER_DAY
    assert {one["rival"] for one in newest["trial"]["comparisons"]} == {"trending", "live"}
    assert not older["live"]["compared"]
    assert "live" not in older["trial"]["metrics"]
    assert "it has learned from events until" in Outline(page).text


def test_folds_follow_each_other_without_a_gap(report: dict[str, Any]) -> None:
    newest, older = report["folds"]
    assert older["as_of_us"] == newest["evaluation_us"]
    assert older["label_us"] < older["evaluation_us"]


def test_the_json_has_the_documented_keys_and_makes_the_page(
    page: str, report: dict[str, Any]
) -> None:
    assert list(report) == [field.name for field in fields(EvaluationReport)]
    assert render_evaluation(report) == page
    names = {row for one in _samples(report) for rows in one["lists"].values() for row in rows}
    assert {str(row) for row in names} <= set(report["items"])


def test_a_summary_is_the_mean_of_its_folds(report: dict[str, Any]) -> None:
    found = [fold["trial"]["metrics"]["ranker"]["ndcg@10"] for fold in report["folds"]]
    spread = report["summary"]["metrics"]["ranker"]["ndcg@10"]
    assert_allclose(spread["mean"], sum(found) / 2)
    assert [spread["lowest"], spread["highest"]] == sorted(found)
    assert "live" not in report["summary"]["against"]


def test_a_single_fold_is_told_without_a_summary(report: dict[str, Any]) -> None:
    alone = {**report, "folds": report["folds"][:1], "summary": None}
    ids = Outline(render_evaluation(alone)).ids
    sections = ["done", "accuracy", "slices", "beyond", "probabilities", "learning", "shoppers"]
    assert [name for name in ids if name in {*sections, "windows"}] == sections


def test_models_tell_how_they_learned(page: str, report: dict[str, Any]) -> None:
    names = [one["name"] for one in report["folds"][0]["trainings"]]
    assert names == ["sequence", "ranker", "sequence"]
    losses = report["folds"][0]["trainings"][1]["report"]["train_losses"]
    drawn = points(page, "fold-1-learning-1-0", "curve")[:, 1]
    expected = -np.array(losses)
    assert_allclose(
        (drawn - drawn[0]) / np.ptp(drawn), (expected - expected[0]) / np.ptp(expected), atol=1e-3
    )


def test_hits_stand_out_in_the_lists_of_sample_shoppers(page: str, report: dict[str, Any]) -> None:
    hits = sum(
        row in set(one["taken"])
        for one in _samples(report)
        for rows in one["lists"].values()
        for row in rows
    )
    assert hits > 0
    assert page.count('<li class="marked">') == hits


def _samples(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for fold in report["folds"] for one in fold["trial"]["samples"]]


def test_without_a_live_release_the_report_says_so(tmp_path: Path) -> None:
    events = tiny_events()
    data = training_data(tiny_items(), events, DEFAULT_EVENT_TYPES)
    rival = LiveRival(Releases(tmp_path), events, Silent())
    standing, lists = rival.answers(data, Window(0, FIRST_DAY_US), RecipeConfig())
    assert rival.cuts() is None
    assert (standing.compared, standing.reason, lists) == (False, "there is no live release", None)


def test_where_a_report_cannot_be_written_no_work_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="not writable"):
        CliRunner().invoke(
            app, ["evaluate", "--out", str(tmp_path / "file")], catch_exceptions=False
        )
