"""Nights that teach the encoder: anew, not at all, further."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from features.events import US_PER_DAY, US_PER_SECOND
from jobs.gate import TextGateConfig
from jobs.night_config import NightConfig
from jobs.nightly import NightReport
from jobs.reports import write_night_page
from recsys.releases import Manifest, Releases
from recsys.training.encoder.config import EncoderConfig
from recsys.training.encoder.item_map import ItemMapConfig
from recsys.training.encoder.schedule import EncoderSchedule
from recsys.training.text import TextConfig
from tests.tiny import N_DAYS, NOW_US, TinyWorld, make_world, tiny_events, tiny_items


def taught(world: TinyWorld) -> NightConfig:
    """Everything is learned from the few shoppers there are."""
    recipe = replace(
        world.config.recipe,
        encoder=EncoderConfig(
            base=str(world.encoder),
            max_tokens=16,
            strategy="full",
            learning_rate=1e-3,
            epochs=20.0,
            min_sequences=40,
        ),
        text=TextConfig(item_map=ItemMapConfig(min_sequences=40)),
    )
    schedule = EncoderSchedule(min_new_shoppers=20)
    return replace(world.config, recipe=recipe, encoder_schedule=schedule)


@pytest.fixture(scope="module")
def nights(
    tmp_path_factory: pytest.TempPathFactory, tiny_text_encoder: Path
) -> list[tuple[NightReport, Manifest]]:
    """The first night, one without news, one after five more days."""
    folder = tmp_path_factory.mktemp("taught")
    world = make_world(folder, tiny_text_encoder, tiny_items(), tiny_events())
    found = []
    for later in (0, 0, 5):
        now_us = NOW_US + later * US_PER_DAY
        with world.open_store() as store:
            if later:
                events = tiny_events(first_day=N_DAYS, n_days=later)
                store.append_events(events, received_at_us=now_us)
        report = world.night(now_us=now_us, config=taught(world))
        releases = Releases(world.places.releases)
        current = releases.current()
        assert current is not None
        found.append((report, releases.verify(current)))
    return found


def test_the_encoder_is_begun_then_kept_then_continued(
    nights: list[tuple[NightReport, Manifest]],
) -> None:
    decisions: list[Any] = [manifest.text["decision"] for _, manifest in nights]
    assert [decision["action"] for decision in decisions] == ["refresh", "refresh", "continue"]
    quiet, _ = nights[1]
    assert "encoder" in quiet.skipped_steps
    assert not quiet.published
    reports: list[Any] = [night.steps[0].report for night, _ in nights]
    assert [report["decision"]["action"] for report in reports] == ["refresh", "keep", "continue"]


def test_what_is_continued_knows_how_far_the_live_encoder_had_come(
    nights: list[tuple[NightReport, Manifest]],
) -> None:
    (_, first), _, (last_night, last) = nights
    assert first.text["shipped"] == "tuned"
    assert last.text["shipped"] in ("continued", "kept")
    later = int(str(last.text["learned_until_us"])) > int(str(first.text["learned_until_us"]))
    assert later == (last.text["shipped"] == "continued")
    fit: Any = last_night.steps[0].report["fit"]
    assert fit["recall_old_before"] is not None
    assert fit["start_recall"] is not None


def test_a_release_carries_what_the_next_night_continues_from(
    nights: list[tuple[NightReport, Manifest]],
) -> None:
    for _, manifest in nights:
        assert {"encoder/state.json", "encoder/torch/model.safetensors"} <= manifest.files.keys()


def test_every_night_leaves_a_page(
    nights: list[tuple[NightReport, Manifest]], tmp_path: Path
) -> None:
    pages = [
        write_night_page(tmp_path, night, NOW_US + hour * 3_600 * US_PER_SECOND)
        for hour, (night, _) in enumerate(nights)
    ]
    assert len(set(pages)) == len(nights)
    for (night, _), page in zip(nights, pages, strict=True):
        assert night.reason.split(",")[0] in page.read_text("utf-8")


def test_what_the_audit_refuses_is_replaced_and_a_night_without_news_repeats_the_choice(
    tmp_path: Path, tiny_text_encoder: Path
) -> None:
    world = make_world(tmp_path, tiny_text_encoder, tiny_items(), tiny_events())
    impossible = TextGateConfig(measures=("search",), min_texts=1, margin=-1.0)
    config = replace(taught(world), text_gate=impossible)
    first = world.night(config=config)
    manifest = Releases(world.places.releases).manifest(str(first.release_id))
    assert manifest.text["shipped"] == "base"
    assert "search differs" in str(manifest.text["refused"])
    assert not any("taste" in name for name in manifest.files)
    page = write_night_page(tmp_path, first, NOW_US).read_text("utf-8")
    assert "search differs" in page
    again = world.night(config=config)
    assert not again.published
    assert set(again.skipped_steps) == {done.name for done in again.steps}
