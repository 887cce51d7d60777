"""The night's page: whole HTML, nothing hostile in it, and its figures are where they should be."""

import os
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from numpy.testing import assert_allclose

from features.arrays import Float64Array
from jobs.night_page import NightPage, StepTaken, render_page, write_page
from recsys.evaluation.bootstrap import Interval
from recsys.evaluation.comparisons import Comparison
from recsys.evaluation.trial import TrialResult
from recsys.retrieval.shortlist import IndexReport
from recsys.training.encoder.config import CurvePoint, EncoderReport, NeighbourExample
from recsys.training.encoder.item_map import ItemMapReport
from tests.tiny import NOW_US

HOSTILE = "<script>alert(1)</script>\"'&lt; $x^2$ {{ 7 * 7 }} ]]></svg>"
VOID = {"meta", "link", "br", "hr", "img", "input", "path", "use"}
TRIAL = TrialResult(
    users=1_234,
    start_us=NOW_US,
    end_us=NOW_US,
    metrics={
        "ranker": {"recall@10": 0.15312, "ndcg@10": 0.0764},
        "trending": {"recall@10": 0.1484, "ndcg@10": 0.0881},
    },
    intervals={"ndcg@10": Interval(0.0764, 0.0434, 0.1163)},
    against={"trending": Interval(-0.01, -0.03, 0.02), "live": Interval(0.01, 0.0, 0.03)},
    candidate_recall=0.6668,
)
LOOKS = [(1, 6.0, 0.0715), (5, 5.0, None), (10, 5.5, 0.08), (30, 4.5, 0.0765)]
CURVE = tuple(CurvePoint(step, loss, found) for step, loss, found in LOOKS)
TUNED = EncoderReport(
    base="all-MiniLM-L6-v2",
    digest="0123456789abcdef" * 4,
    tuned=True,
    shipped="continued",
    reason="it finds more next items",
    cpu_seconds=271.3,
    texts_encoded=19_968,
    start_recall=0.0715,
    tuned_recall=0.08,
    recall_new_before=0.06,
    recall_new_after=0.066,
    validation_questions=12_345,
    anchor_similarity=0.8712,
    start_similarity=0.9433,
    curve=CURVE,
    examples=(NeighbourExample(0, (1, 2), (2, 3)),),
    onnx_difference=2.4e-7,
)
ENCODER = orjson.loads(orjson.dumps(TUNED))
ITEM_MAP = ItemMapReport(
    shipped=False,
    reason="no gain",
    start_recall=0.0785,
    map_recall=0.0784,
    curve=(CurvePoint(1, 5.0, 0.0785), CurvePoint(2, 4.75), CurvePoint(3, 4.9, 0.0784)),
)
INDEX = IndexReport(
    kind="flat",
    n=12_101,
    dim=256,
    recall_at_200=1.0,
    recalls={"flat": 1.0, "hnsw": 0.9812},
    milliseconds={"flat": 0.4123},
    reason="exact search is fast enough",
)
FULL = NightPage(
    now_us=NOW_US,
    release_id="2026-11-22-abc",
    published=True,
    reason="no evidence of harm",
    trial=orjson.loads(orjson.dumps(TRIAL)),
    encoder=ENCODER,
    item_map=orjson.loads(orjson.dumps(ITEM_MAP)),
    indexes={"words": orjson.loads(orjson.dumps(INDEX))},
    audits=[
        {
            "figures": {"typos": {"mean": 0.683, "low": 0.66, "high": 0.70, "texts": 400}},
            "baseline": {"typos": {"mean": 0.678, "low": 0.65, "high": 0.70, "texts": 400}},
            "differences": {"typos": {"mean": 0.005, "low": -0.01, "high": 0.02}},
            "bias": {
                "gini": 0.87,
                "worst": [
                    {"name": HOSTILE, "percentile": {"mean": -0.1, "low": -0.2, "high": 0.0}}
                ],
            },
        }
    ],
    steps=(StepTaken("text", True, {"until_us": NOW_US}), StepTaken("past", False, {})),
    titles=(HOSTILE, "red shirt", "blue shirt", "L" * 500),
)
SECTIONS = ("trial", "encoder", "item-map", "index-words", "audit", "steps")
EMPTY = NightPage(now_us=NOW_US, release_id=None, published=False, reason="worse than live")


class Outline(HTMLParser):
    """Tags must close in the order they opened; ids and text are kept."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self._open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self._text: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    @property
    def text(self) -> str:
        return "".join(self._text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._seen(tag, attrs)
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._seen(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self._text.append(data)

    def _seen(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]
        for value in (named.get("href"), named.get("xlink:href"), named.get("src")):
            self.references += [value] if value else []
        assert not [name for name in named if name.startswith("on")]


@pytest.fixture(scope="module")
def full_page() -> str:
    return render_page(FULL)


def points(page: str, figure: str, gid: str) -> Float64Array:
    """(n, 2) of a drawn line, in the figure's own units; y grows downwards."""
    (path,) = re.findall(rf'<g id="{figure}-{gid}">\s*<path d="([^"]*)"', page)
    return np.array(re.findall(r"[ML] (\S+) (\S+)", path), np.float64)


def assert_drawn(found: Float64Array, values: Sequence[tuple[float, float]]) -> None:
    """The same up to the axes' scales, x to the right and y upwards."""
    for drawn, given, sign in zip(found.T, np.array(values).T, (1, -1), strict=True):
        scale = np.ptp(drawn) / np.ptp(given)
        assert_allclose(drawn - drawn[0], sign * scale * (given - given[0]), atol=1e-3)


def test_the_page_is_whole_and_names_each_id_once(full_page: str) -> None:
    outline = Outline(full_page)
    assert outline.tags[0] == "html"
    assert len(set(outline.ids)) == len(outline.ids)
    assert set(SECTIONS) <= set(outline.ids)
    assert outline.tags.count("svg") == 6


def test_the_page_needs_nothing_but_itself(full_page: str) -> None:
    outline = Outline(full_page)
    assert not {"script", "img", "link", "iframe"} & set(outline.tags)
    assert outline.references
    assert {reference[1:] for reference in outline.references} <= set(outline.ids)
    assert not re.search(r"@import|url\((?!#)", full_page)


def test_hostile_titles_and_groups_are_shown_as_they_were_typed(full_page: str) -> None:
    outline = Outline(full_page)
    assert "script" not in outline.tags
    assert "<script>" not in full_page
    assert outline.text.count(HOSTILE) == 2  # an example's title and a group's name


def test_a_hostile_rival_stays_text_in_the_drawing() -> None:
    trial = replace(TRIAL, against={HOSTILE: Interval(0.0, -1.0, 1.0)})
    outline = Outline(render_page(replace(EMPTY, trial=asdict(trial))))
    assert "script" not in outline.tags
    assert outline.text.count(HOSTILE) == 2  # a tick label and a row of the table


@pytest.mark.parametrize("name", SECTIONS)
def test_a_night_that_tells_one_thing_has_one_section(name: str) -> None:
    field = {"index-words": "indexes", "audit": "audits"}.get(name, name.replace("-", "_"))
    told: dict[str, Any] = {field: getattr(FULL, field)}
    found = Outline(render_page(replace(EMPTY, **told)))
    assert [section for section in SECTIONS if section in found.ids] == [name]
    assert found.references.count(f"#{name}") == 1


def test_a_night_that_refused_before_any_step_still_has_a_page() -> None:
    outline = Outline(render_page(EMPTY))
    text = outline.text
    assert "Published nothing" in text
    assert "worse than live" in text
    assert "section" not in outline.tags


def test_a_release_that_stays_is_not_called_refused() -> None:
    text = Outline(render_page(replace(EMPTY, release_id="r1"))).text
    assert "r1 stays live" in text
    assert "refused" not in text


def test_curves_are_drawn_through_their_values(full_page: str) -> None:
    losses = [(step, loss) for step, loss, _ in LOOKS]
    assert_drawn(points(full_page, "loss", "curve"), losses)
    recalls = [(step, found) for step, _, found in LOOKS if found is not None]
    assert_drawn(points(full_page, "recall", "curve"), recalls)
    assert_drawn(points(full_page, "map-loss", "curve"), [(1, 5.0), (2, 4.75), (3, 4.9)])


def test_intervals_of_all_rivals_share_one_scale(full_page: str) -> None:
    ends = [points(full_page, "against", f"interval-{row}")[:, 0] for row in range(2)]
    drawn, given = np.concatenate(ends), np.array([-0.03, 0.02, 0.0, 0.03])
    assert_allclose((drawn - drawn[0]) / np.ptp(drawn), (given - given[0]) / 0.06, atol=1e-4)


@pytest.mark.parametrize("curve", [(), (CurvePoint(1, 5.0),)])
def test_a_training_of_no_step_or_one_has_a_page(curve: tuple[CurvePoint, ...]) -> None:
    night = replace(EMPTY, encoder=asdict(replace(TUNED, curve=curve)))
    assert Outline(render_page(night)).tags.count("svg") == len(curve)


def test_an_encoder_that_was_not_tuned_says_why_and_shows_no_figures() -> None:
    base = asdict(EncoderReport(base="b", digest="d", tuned=False, reason="too few shoppers"))
    page = render_page(replace(EMPTY, encoder=base))
    text = Outline(page).text
    assert "Too few shoppers." in text
    assert "the base model as it came" in text
    assert "<svg" not in page


def test_numbers_read_as_in_the_terminal(full_page: str) -> None:
    text = Outline(full_page).text
    for shown in (
        "0.1531",
        "12,101",
        "0.9812",
        "1,234 shoppers",
        "2.4e-07",
        "+11.9%",
        "+10.0%",
        "0.8712",
        "With those of the live encoder: 0.9433",
        "271.3",
    ):
        assert shown in text
    assert "nan" not in text.lower().split()


def test_the_trial_shows_the_same_comparisons_as_an_evaluation() -> None:
    compared = Comparison(
        metric="mrr@10",
        rival="live",
        ours=0.0312,
        theirs=0.0301,
        difference=Interval(0.0011, 0.0002, 0.0021),
        at_least=0.0003,
        p_value=0.0012,
        p_holm=0.0048,
    )
    trial = orjson.loads(orjson.dumps(replace(TRIAL, comparisons=(compared,))))
    text = Outline(render_page(replace(EMPTY, trial=trial))).text
    shown = "MRR@10 live release 0.0312 0.0301 +0.0011 [+0.0002, +0.0021] 0.0012 0.0048 **"
    assert shown in re.sub(r"\s+", " ", text)


def test_the_audit_stands_beside_its_baseline_and_names_the_groups(full_page: str) -> None:
    text = re.sub(r"\s+", " ", Outline(full_page).text)
    assert "typos 0.6830 0.6600 0.7000 0.6780 0.0050 [-0.0100, 0.0200] 400" in text
    assert "gini 0.8700" in text
    assert "Bias: worst" in text
    assert "-0.1000 [-0.2000, 0.0000]" in text


def test_an_audit_of_another_shape_is_shown_as_it_is() -> None:
    audit = {"verdict": "fine", "search": {"mean": 0.8, "low": 0.7}, "shares": {"old": 0.25}}
    outline = Outline(render_page(replace(EMPTY, audits=[audit])))
    for shown in ("verdict", "fine", "0.8000", "0.2500"):
        assert shown in outline.text


def test_neighbours_are_named_and_the_new_ones_stand_out(full_page: str) -> None:
    assert re.findall(r"<li class=\"marked\">([^<]*)", full_page) == ["red shirt", f"{'L' * 89}…"]
    assert re.findall(r"<li>([^<]*)", full_page) == ["blue shirt", "blue shirt"]


def test_an_item_without_a_title_is_called_by_its_row() -> None:
    page = render_page(replace(EMPTY, encoder={**ENCODER, "curve": []}, titles=("shoe", " ")))
    assert re.findall(r"<li[^>]*>([^<]*)", page) == ["item 1", "item 2", "item 2", "item 3"]


def test_a_stored_report_makes_the_same_page_as_a_fresh_one() -> None:
    fresh = replace(
        FULL, trial=asdict(TRIAL), encoder=asdict(replace(TUNED, onnx_difference=float("nan")))
    )
    stored = {
        name: orjson.loads(orjson.dumps(getattr(fresh, name))) for name in ("trial", "encoder")
    }
    assert render_page(replace(fresh, **stored)) == render_page(fresh)


def test_a_page_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = replace(EMPTY, reason="better", published=True, release_id="r2")
    path = tmp_path / "reports" / "night.html"
    write_page(path, EMPTY)
    before = path.read_text("utf-8")
    monkeypatch.setattr(os, "fdopen", _full_disk)
    with pytest.raises(OSError, match="No space"):
        write_page(path, later)
    assert path.read_text("utf-8") == before
    assert list(path.parent.iterdir()) == [path]
    monkeypatch.undo()
    write_page(path, later)
    assert path.read_text("utf-8") == render_page(later)
    assert path.stat().st_mode & 0o777 == 0o644


def _full_disk(handle: int, *_: object, **__: object) -> object:
    os.close(handle)
    raise OSError(28, "No space left on device")
