"""The protocol on a shop of colours: which items are cold when, what is asked, what is kept."""

import io
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import orjson
import polars as pl
import pytest
from rich.console import Console

from features.arrays import Float32Array
from features.errors import ConfigError, DataError
from features.items import ITEM_SCHEMA
from jobs.benchmark import on_a_clock
from jobs.console import Terminal
from jobs.encoder_benchmark import EncoderPlan, run_encoder_benchmark
from jobs.encoder_table import (
    EncoderBenchmark,
    Measures,
    Score,
    show_encoder_benchmark,
    summarise,
)
from jobs.encoder_training import (
    RAW,
    TrainingFacts,
    TrainingTask,
    encoder_folder,
    train_apart,
)
from recsys.evaluation.text_quality import QualityConfig
from recsys.progress import Progress, Silent
from recsys.retrieval.encoder import OnnxEncoder
from recsys.retrieval.text import item_texts
from recsys.retrieval.text_space import TextMaps
from recsys.retrieval.whitening import Whitening
from recsys.training.encoder.config import EncoderConfig
from recsys.training.encoder.item_map import ItemMapConfig
from tests.recsys.encoder_fixtures import COLORS, THINGS, tiny_encoder
from tests.tiny import item_row

N_USERS, LENGTH = 80, 5
PLAN = EncoderPlan(strategies=("top_layers",), quality=QualityConfig(sample=30))
FACT = TrainingFacts(
    shipped=True,
    reason="",
    map_shipped=False,
    map_reason="",
    tuning_cpu_s=2.0,
    map_cpu_s=1.0,
    total_cpu_s=4.0,
    wall_s=5.0,
    peak_mb=100.0,
)


def shop() -> pl.DataFrame:
    rows = [item_row(color, thing) for color in COLORS for thing in THINGS]
    return pl.DataFrame(rows, schema=ITEM_SCHEMA)


def walks() -> pl.DataFrame:
    """Everybody takes five things of one colour."""
    rng = np.random.default_rng(0)
    rows = [
        (f"u{user:02d}", position, f"{COLORS[user % 10]}-{THINGS[thing]}")
        for user in range(N_USERS)
        for position, thing in enumerate(rng.permutation(10)[:LENGTH])
    ]
    return pl.DataFrame(rows, schema=["user_id", "position", "item_id"], orient="row")


def configs(encoder: Path) -> tuple[EncoderConfig, ItemMapConfig]:
    return (
        EncoderConfig(base=str(encoder), tuned_layers=1, max_tokens=16, max_texts=500),
        ItemMapConfig(epochs=1, max_steps=5, min_sequences=10),
    )


@dataclass
class ByColour:
    """Trains nothing: the baseline's vectors say nothing, a tuned encoder's say the colour."""

    tasks: list[TrainingTask] = field(default_factory=list)
    fails_at: int = -1

    def __call__(self, task: TrainingTask, progress: Progress) -> TrainingFacts:
        del progress
        if len(self.tasks) == self.fails_at:
            raise KeyboardInterrupt
        self.tasks.append(task)
        task.folder.mkdir(parents=True)
        np.save(task.folder / RAW, self.vectors(task))
        TextMaps(Whitening(np.zeros(32, np.float32), np.eye(32, dtype=np.float32)), None).save(
            task.folder
        )
        if not task.encoder.tunes_nothing:
            (task.folder / "encoder").symlink_to(task.frozen / "encoder")
        return FACT

    def vectors(self, task: TrainingTask) -> Float32Array:
        rows = np.zeros((len(task.items), 32), np.float32)
        if task.encoder.strategy == "frozen":
            rows[:, 0] = 1
        else:
            colour = task.items["tags"].list.first()
            rows[np.arange(len(rows)), [COLORS.index(name) for name in colour]] = 1
        return rows


def run(
    encoder: Path,
    out: Path,
    trainer: ByColour,
    plan: EncoderPlan = PLAN,
    sequences: pl.DataFrame | None = None,
) -> EncoderBenchmark:
    return run_encoder_benchmark(
        shop(),
        walks() if sequences is None else sequences,
        dataset="colours",
        configs=configs(encoder),
        plan=plan,
        out=out,
        progress=Silent(),
        train=trainer,
    )


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def finished(
    encoder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[EncoderBenchmark, ByColour, Path]:
    out, trainer = tmp_path_factory.mktemp("benchmark") / "out.json", ByColour()
    return run(encoder, out, trainer), trainer, out


@pytest.fixture
def prepared(finished: tuple[EncoderBenchmark, ByColour, Path], tmp_path: Path) -> Path:
    """Where a run finds the frozen encoder ready: exporting it is what takes long."""
    frozen = _frozen(finished[2])
    shutil.copytree(frozen, tmp_path / "out.folds" / frozen.name)
    return tmp_path / "out.json"


def _frozen(out: Path) -> Path:
    return next(out.with_suffix(".folds").glob("frozen-*"))


def test_every_item_is_cold_once_and_then_nobody_has_met_it(
    finished: tuple[EncoderBenchmark, ByColour, Path],
) -> None:
    _, trainer, _ = finished
    tuned = [task for task in trainer.tasks if task.encoder.strategy == "top_layers"]
    trained_on = walks().filter(pl.col("position") < LENGTH - 2)
    known = set(trained_on["item_id"].unique())
    ids = np.array(tuned[0].items["item_id"].to_list())
    missing = [known - set(ids[task.past.item_rows]) for task in tuned]

    assert len(tuned) == 10
    assert sorted(item for one in missing for item in one) == sorted(known)
    assert all(len(task.past) < len(trained_on) for task in tuned)
    assert sum(len(task.past) for task in tuned) == 9 * len(trained_on)


def test_seeds_rotate_with_the_folds(finished: tuple[EncoderBenchmark, ByColour, Path]) -> None:
    report, trainer, _ = finished
    seeds = [(task.encoder.seed, task.item_map.seed) for task in trainer.tasks[1::2]]
    assert seeds == [(fold % 3, fold % 3) for fold in range(10)]
    assert report.seeds == (0, 1, 2)


def test_the_figures_are_those_of_vectors_that_tell_colours_and_nothing_else(
    finished: tuple[EncoderBenchmark, ByColour, Path],
) -> None:
    """Of 10 things of a colour 4 are known: the answer ties with 5 others, all put before it."""
    report, _, _ = finished
    rows = {row.name: row for row in report.rows}
    tuned, baseline = rows["top_layers, whitened"], rows["frozen, whitened"]

    assert (report.users, report.items, report.folds) == (N_USERS, 100, 10)
    assert tuned.scores["all R@10"].mean == 1.0
    assert tuned.scores["all N@10"].mean == pytest.approx(1 / np.log2(7))  # rank 6
    assert baseline.scores["all R@10"].mean == 0.0
    assert baseline.scores["all R@10"].difference is None
    difference = tuned.scores["all R@10"].difference
    assert difference is not None
    assert (difference.mean, difference.low, difference.high) == (1.0, 1.0, 1.0)
    assert (tuned.tuning_cpu_s, tuned.map_cpu_s, tuned.shipped) == (2.0, 0.0, 10)
    assert rows["top_layers, item map"].map_cpu_s == 1.0
    assert "search" not in rows["top_layers, item map"].scores


def test_cold_answers_are_ranked_among_cold_items_every_shopper_once(
    finished: tuple[EncoderBenchmark, ByColour, Path],
) -> None:
    report, _, out = finished
    kept = sorted(out.with_suffix(".folds").glob("fold_*_top_layers_*"))
    tuned = next(row for row in report.rows if row.name == "top_layers, whitened")

    assert len(kept) == 10
    # One or two of ten cold items have the shopper's colour: first among them, ties or not.
    assert tuned.scores["cold R@10"].mean == 1.0
    assert tuned.scores["cold N@10"].mean > 0.8
    assert orjson.loads(out.read_bytes())["rows"][-1]["folds"] == 10


def test_a_killed_run_goes_on_where_it_stopped(
    finished: tuple[EncoderBenchmark, ByColour, Path], encoder: Path, prepared: Path
) -> None:
    killed, second = ByColour(fails_at=5), ByColour()
    with pytest.raises(KeyboardInterrupt):
        run(encoder, prepared, killed)
    partial = orjson.loads(prepared.read_bytes())

    report = run(encoder, prepared, second)

    assert [row["folds"] for row in partial["rows"]] == [2] * 5
    assert (len(killed.tasks), len(second.tasks)) == (5, 15)
    assert report == finished[0]


def test_other_seeds_are_other_trainings(encoder: Path, prepared: Path) -> None:
    plan = replace(PLAN, folds=1)
    first, again, other = ByColour(), ByColour(), ByColour()
    run(encoder, prepared, first, plan)
    run(encoder, prepared, again, plan)
    run(encoder, prepared, other, replace(plan, seeds=(5,)))
    assert [len(trainer.tasks) for trainer in (first, again, other)] == [2, 0, 2]


def test_a_plan_is_read_from_a_command_line() -> None:
    plan = EncoderPlan.parse("frozen,item_map,full,top_layers", 1, "4,5")
    assert plan == EncoderPlan(strategies=("top_layers", "full"), folds=1, seeds=(4, 5))
    for strategies, folds, seeds in (("adam", 1, "0"), ("lora", 11, "0"), ("lora", 1, "x")):
        with pytest.raises(ConfigError, match="expected"):
            EncoderPlan.parse(strategies, folds, seeds)


def test_folds_that_a_row_lacks_are_left_out_of_its_comparison() -> None:
    ranks = {0: np.array([0, 20]), 1: np.array([20, 20])}
    baseline = [
        Measures(fold, "frozen", fold, FACT, {"words.all": found}) for fold, found in ranks.items()
    ]
    tuned = Measures(0, "lora", 0, FACT, {"words.all": np.array([0, 0])})

    first, second = summarise("x", 2, 5, [*baseline, tuned]).rows

    assert first.scores["all R@10"].mean == 0.25
    assert first.all_recall_by_seed == {"0": Score(0.5, None), "1": Score(0.0, None)}
    difference = second.scores["all R@10"].difference
    assert difference is not None
    assert difference.mean == 0.5


def test_a_seed_is_compared_on_its_own_folds() -> None:
    """Fold 1 is hard for everybody: seed 1 is no worse than seed 0."""
    found, missed = np.array([0] * 40), np.array([20] * 40)
    half = np.where(np.arange(40) % 2, found, missed)
    ranks = {"frozen": (half, missed), "lora": (found, half)}
    measured = [
        Measures(fold, strategy, fold, FACT, {"words.all": ranks[strategy][fold]})
        for fold in (0, 1)
        for strategy in ranks
    ]

    report = summarise("x", 40, 5, measured)

    by_seed = report.rows[1].all_recall_by_seed
    assert [by_seed[seed].mean for seed in ("0", "1")] == [1.0, 0.5]
    changes = [by_seed[seed].difference for seed in ("0", "1")]
    assert [change.mean for change in changes if change] == [0.5, 0.5]
    out = io.StringIO()
    show_encoder_benchmark(Terminal(Console(file=out, width=200)), report)
    *_, header, _, row, _ = out.getvalue().splitlines()
    assert "seed 1" in header
    assert row.count("+50.00") == 2


def test_who_had_met_their_last_item_before_is_not_asked(encoder: Path, prepared: Path) -> None:
    """Its answer was learned from."""
    first = pl.col("item_id").first().over("user_id")
    last, again = pl.col("position") == LENGTH - 1, pl.col("user_id") < "u20"
    repeated = walks().with_columns(item_id=pl.when(last & again).then(first).otherwise("item_id"))

    report = run(encoder, prepared, ByColour(), replace(PLAN, folds=1), repeated)

    assert report.users == N_USERS - 20
    nobody = walks().with_columns(item_id=first)
    with pytest.raises(DataError, match="new to them"):
        run(encoder, prepared, ByColour(), PLAN, nobody)


def test_a_training_apart_whitens_what_it_tuned_by_what_was_visible_only(
    encoder: Path, prepared: Path, tmp_path: Path
) -> None:
    past = on_a_clock(shop(), walks())
    past = past.where(past.item_rows % 10 > 0)  # nobody has met a shirt
    tuned, item_map = configs(encoder)
    task = TrainingTask(
        items=shop(),
        past=past,
        encoder=replace(tuned, strategy="top_layers", min_sequences=20),
        item_map=item_map,
        folder=tmp_path / "task",
        frozen=_frozen(prepared),
    )

    facts = train_apart(task, Silent())

    raw = np.load(task.folder / RAW)
    seen = Whitening.fit(raw[np.unique(past.item_rows)])
    served = OnnxEncoder.load(encoder_folder(task)).encode(item_texts(shop())[:3])
    assert np.allclose(TextMaps.load(task.folder).words(raw), seen(raw), atol=1e-5)
    # at night's precision, bf16 where that is faster: vectors agree at cosine .9999
    assert np.einsum("ij,ij->i", served, raw[:3]).min() > 0.9995
    assert facts.tuning_cpu_s > 0
    assert 50 < facts.peak_mb < 2_000
