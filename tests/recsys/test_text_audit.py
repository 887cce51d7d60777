import numpy as np
import orjson
import polars as pl

from features.arrays import Float32Array
from recsys.evaluation.metrics import RowSets
from recsys.evaluation.next_item import NextItems
from recsys.evaluation.text_audit import MAX_SHOPPERS, AuditedText, audit_text
from recsys.evaluation.text_quality import MEASURES, QualityConfig, WordSpace
from recsys.progress import Silent
from recsys.retrieval.text import item_texts
from tests.recsys.test_text_quality import bag_of_words, items

COLOURS = ("red", "blue", "green", "grey")
N_SHOPPERS = 400


def shop() -> pl.DataFrame:
    """Item n has colour n modulo four."""
    tags = [[COLOURS[row % 4]] for row in range(200)]
    return items().with_columns(tags=pl.Series(tags, dtype=pl.List(pl.String)))


def asked() -> NextItems:
    """Everybody takes two items of a colour."""
    rng = np.random.default_rng(0)
    pairs = [4 * rng.permutation(50)[:2] + shopper % 4 for shopper in range(N_SHOPPERS)]
    histories = RowSets.of([[int(first)] for first, _ in pairs])
    return NextItems(histories, np.array([second for _, second in pairs], np.int32))


def side(name: str, *, blind_to: int | None = None) -> AuditedText:
    """Taste says the colour; items of the one it is blind to lie as far apart as they can."""
    colour = np.arange(200) % 4
    taste: Float32Array = np.zeros((200, 54), np.float32)
    taste[np.arange(200), colour] = 1
    if blind_to is not None:
        taste[colour == blind_to] = 0
        taste[colour == blind_to, 4:] = np.eye(50) - 1 / 50
    taste += np.random.default_rng(0).normal(scale=1e-4, size=taste.shape).astype(np.float32)
    embed = bag_of_words()
    return AuditedText(
        name,
        WordSpace(embed, embed, embed(item_texts(shop()))),
        np.asarray(taste / np.linalg.norm(taste, axis=1, keepdims=True), np.float32),
    )


def test_an_encoder_beside_itself_differs_in_nothing() -> None:
    report = audit_text(
        side("new"),
        shop(),
        asked(),
        QualityConfig(sample=50),
        Silent(),
        baseline=side("old"),
    )

    assert set(report.figures) == set(MEASURES)
    assert report.figures == report.baseline
    assert {difference.mean for difference in report.differences.values()} == {0.0}
    assert not any(change.is_loss for change in report.group_changes)
    assert (report.bias.groups, report.bias.pushed_down) == (4, 0)
    assert report.bias.mean_percentile > 0.8


def test_a_colour_that_taste_cannot_see_is_what_lost() -> None:
    report = audit_text(
        side("new", blind_to=2),
        shop(),
        asked(),
        QualityConfig(sample=50),
        Silent(),
        baseline=side("old"),
    )

    losing = [change.name for change in report.group_changes if change.is_loss]
    assert losing == ["green"]
    assert report.bias.worst[0].name == "green"


def test_without_a_baseline_the_figures_stand_alone_and_are_json() -> None:
    report = audit_text(side("new"), shop(), asked(), QualityConfig(sample=50), Silent())
    read = orjson.loads(orjson.dumps(report))

    assert (read["baseline_name"], read["baseline_bias"]) == (None, None)
    assert read["differences"] == read["baseline"] == {}
    assert read["figures"]["typos"]["texts"] > 40
    assert len(read["bias"]["worst"]) == 4


def test_of_many_shoppers_some_are_asked() -> None:
    few = asked()
    many = few.take(np.arange(6_000) % N_SHOPPERS)
    report = audit_text(side("new"), shop(), many, QualityConfig(sample=20), Silent())
    assert report.bias.shoppers == MAX_SHOPPERS
