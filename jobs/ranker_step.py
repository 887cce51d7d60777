"""The night's ranker step: what it may learn from of what was shown, and learning it."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import polars as pl

from features.errors import DataError, ReleaseError
from features.views import views_hash
from recsys.progress import Progress
from recsys.releases import Releases
from recsys.training.exposures import PastSlates
from recsys.training.recipe import RecipeConfig, TrainingData, fit_ranking


def taught_by(exposures: pl.LazyFrame, untaught: Sequence[str]) -> pl.LazyFrame:
    """Without the slates of those placements."""
    return exposures.filter(~pl.col("placement").is_in(untaught))


def past_slates(
    shown: pl.LazyFrame, releases: Releases, events: pl.DataFrame, progress: Progress
) -> PastSlates:
    """Slates of releases whose feature rows mean what they mean now; says how many are left out.

    Only the releases still kept are known to. `shown` has the exposures of placements that ask
    the sources about the shopper.
    """
    known = pl.col("release_id").is_in(_of_these_views(releases))
    counts = shown.filter(pl.col("position") == pl.col("position").min().over("request_id"))
    n_known, n_slates = (
        counts.select(known.sum().alias("known"), pl.len().alias("all")).collect().row(0)
    )
    if n_known < n_slates:
        progress.say(
            f"ranker: {n_slates - n_known:,} of {n_slates:,} slates are left out: shown by a "
            "release with other feature views, by one no longer kept, or by another system"
        )
    return PastSlates(shown.filter(known), events)


def _of_these_views(releases: Releases) -> list[str]:
    found = []
    for release_id in releases.list():
        try:
            if releases.manifest(release_id).feature_views_hash == views_hash():
                found.append(release_id)
        except ReleaseError:  # damaged: nothing says what its rows mean
            continue
    return found


def learn_ranker(
    data: TrainingData,
    bundle: Path,
    folder: Path,
    window: tuple[int, int],
    recipe: RecipeConfig,
    past: PastSlates,
    progress: Progress,
) -> dict[str, object]:
    """Writes ranker/ into the folder, or nothing where there is too little to learn from."""
    try:
        report = fit_ranking(data, bundle, window, recipe, progress, past=past)
    except DataError as error:
        progress.say(f"ranker: left out, {error}")
        return {"left_out": str(error)}
    shutil.move(bundle / "ranker", folder / "ranker")
    return asdict(report)
