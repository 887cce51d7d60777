"""Past experiments of the sample storefront: what replays predicted, beside what was measured."""

import numpy as np

from features.arrays import Float64Array
from jobs.offpolicy.storefront import LOGGED, Mixture, Shop
from recsys.evaluation.experiment.estimates import compare
from recsys.evaluation.experiment.samples import Sample
from recsys.evaluation.offpolicy.calibration import (
    Calibration,
    calibrate,
    lift_of,
    pair,
    predicted_lift,
)
from recsys.evaluation.offpolicy.log import ExposureLog
from recsys.evaluation.offpolicy.policy import TablePolicy
from recsys.evaluation.offpolicy.replay import ReplayConfig, replay
from recsys.experiments.experiment import Metric
from recsys.progress import Progress

ARM = 5  # times the shoppers of the log that is replayed: experiments run longer
_CLICKS = Metric(name="rate", event_type="click", kind="ratio", per="exposures")


def past_experiments(
    *, experiments: int, shoppers: int, seed: int, progress: Progress
) -> Calibration:
    """Variants are mixtures drawn at random: first replayed on a log, then given half the shop."""
    shop = Shop.open(seed)
    pairs = []
    for number in progress.track(range(experiments), total=experiments, label="experiments"):
        rng = np.random.default_rng([seed, 8, number])
        popular, at_random, similar = rng.dirichlet(np.ones(3)).tolist()
        mixture: Mixture = (popular, at_random, similar)
        told = replay(
            shop.log(shoppers, rng),
            TablePolicy(shop.chances(mixture), "context"),
            ReplayConfig(seed=number),
        )
        control, variant = (
            _sample(shop.log(ARM * shoppers, rng, shown)) for shown in (LOGGED, mixture)
        )
        name = f"{popular:.0%} popular, {at_random:.0%} random, {similar:.0%} similar"
        measured = lift_of(name, compare(control, variant, _CLICKS))
        pairs.append(pair(name, predicted_lift(name, told), measured))
    return calibrate(pairs)


def _sample(log: ExposureLog) -> Sample:
    came, unit = np.unique(log.unit_rows, return_inverse=True)

    def by_unit(values: Float64Array) -> Float64Array:
        return np.asarray(np.bincount(unit, values, minlength=len(came)), np.float64)

    return Sample(totals=by_unit(log.rewards), denominators=by_unit(np.ones(len(log))))
