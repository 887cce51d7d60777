import io
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from rich.console import Console

from features.errors import DataError
from features.events import DEFAULT_EVENT_TYPES, US_PER_DAY
from features.interactions import Interactions
from jobs.audit import (
    FROZEN_NAME,
    audit_folder,
    audit_release,
    frozen_text,
    learned_until_us,
    show_audit,
)
from jobs.console import Terminal
from jobs.evaluate import stored_data
from jobs.gate import TextGateConfig, judge_text
from recsys.evaluation.text_audit import TextAudit
from recsys.progress import Silent
from recsys.releases import Releases
from recsys.training.encoder.config import EncoderConfig
from tests.jobs.test_gate import audit
from tests.tiny import FIRST_DAY_US, NOW_US, TinyWorld, tiny_events, tiny_items


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audit")


@pytest.fixture(scope="module")
def report(tiny_world: TinyWorld, tiny_release: tuple[Path, str], work: Path) -> TextAudit:
    root, release_id = tiny_release
    with tiny_world.open_store() as store:
        return audit_release(
            root / release_id,
            Releases(root).manifest(release_id),
            store,
            EncoderConfig(base="nowhere"),  # what tonight would begin with is not this release's
            Silent(),
            work=work,
        )


def test_a_release_is_audited_beside_the_frozen_base(
    report: TextAudit, tiny_release: tuple[Path, str]
) -> None:
    assert (report.subject, report.baseline_name) == (tiny_release[1], FROZEN_NAME)
    assert report.bias.shoppers > 100
    assert report.bias.mean_percentile > 0.5  # of one colour, where chance is a half
    assert report.figures["search"].texts == 60
    assert "units converted" not in report.figures


def test_in_a_small_shop_the_base_beside_itself_differs_by_nothing(
    tiny_world: TinyWorld, tiny_release: tuple[Path, str], work: Path
) -> None:
    """Whatever had been taken by then: nobody has met a glove."""
    root, release_id = tiny_release
    items = pl.read_parquet(root / release_id / "items.parquet")
    log = Interactions.build(tiny_events(), items["item_id"].to_list(), DEFAULT_EVENT_TYPES)
    found = audit_folder(
        release_id,
        root / release_id,
        items,
        log,
        tiny_world.config.recipe.encoder,
        Silent(),
        frozen=work,
        since_us=FIRST_DAY_US + 10 * US_PER_DAY,
    )
    assert {change.mean for change in found.differences.values()} == {0.0}
    assert found.unseen
    assert judge_text(found, TextGateConfig(min_texts=20)).passed


def test_where_few_shoppers_are_newer_all_are_asked_and_nothing_is_proven(
    report: TextAudit,
) -> None:
    assert report.bias.shoppers > 100
    assert not report.unseen
    assert "shoppers, learned from too" in shown(report)
    assert "learned from" not in shown(replace(report, unseen=True))
    verdict = judge_text(replace(audit(pushed_down=(9, 0)), unseen=False), TextGateConfig())
    assert verdict.passed
    assert "no verdict" in verdict.reason


def test_what_was_learned_last_tells_which_shoppers_are_newer(
    tiny_release: tuple[Path, str],
) -> None:
    root, release_id = tiny_release
    manifest = Releases(root).manifest(release_id)
    for text, expected in (
        ({"learned_until_us": 5, "text_learned_until_us": 7}, 7),
        ({"learned_until_us": 5}, 5),
        ({}, manifest.data_end_us),
    ):
        assert learned_until_us(manifest.model_copy(update={"text": text})) == expected


def test_a_second_audit_finds_the_frozen_base_at_hand(
    report: TextAudit, tiny_world: TinyWorld, work: Path
) -> None:
    files = {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file()}
    log = Interactions.build(tiny_events(), tiny_items()["item_id"].to_list(), DEFAULT_EVENT_TYPES)
    baseline = frozen_text(tiny_items(), log, tiny_world.config.recipe.encoder, work, Silent())
    again = {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file()}

    assert again == files
    assert baseline.taste.shape == (60, 32)


def shown(report: TextAudit) -> str:
    out = io.StringIO()
    show_audit(Terminal(Console(file=out, width=160)), report)
    return out.getvalue()


def test_people_read_the_measures_and_the_groups(report: TextAudit) -> None:
    for words in ("typos", "attraction (lower is better)", FROZEN_NAME, "0 of 0 groups", "Gini"):
        assert words in shown(report)
    harmful = shown(audit(pushed_down=(1, 0), losing=1))
    for words in ("brand brand-0", "-0.300 [-0.400, -0.200]", "brand brand-0 lost against frozen"):
        assert words in harmful


def test_nobody_to_ask_is_an_error(tiny_world: TinyWorld, tiny_release: tuple[Path, str]) -> None:
    root, release_id = tiny_release
    with tiny_world.open_store() as store:
        log = stored_data(store, Releases(root).manifest(release_id).event_types).log
    with pytest.raises(DataError, match="no shopper"):
        audit_folder(
            release_id,
            root / release_id,
            tiny_items(),
            log.before(NOW_US),
            tiny_world.config.recipe.encoder,
            Silent(),
            frozen=None,
            since_us=NOW_US,
        )
