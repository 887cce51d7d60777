"""Every estimator of recsys.evaluation.offpolicy, exposure by exposure."""

import numpy as np

from features.arrays import Float64Array
from recsys.evaluation.offpolicy.log import ExposureLog

CLIP = SWITCH = 2.0  # the ReplayConfig that is meant


def by_hand(log: ExposureLog, target: Float64Array) -> dict[str, float]:
    """Every estimator, exposure by exposure; `target` is by position and item."""
    n = len(log)
    deal = np.random.default_rng([0, 1]).permutation(int(log.unit_rows.max()) + 1) % 5
    columns = (log.positions, log.item_rows, log.rewards, log.propensities, log.unit_rows)
    rows = list(zip(*(column.tolist() for column in columns), strict=True))
    sums = dict.fromkeys(("ips", "weight", "clipped", "dm", "dr", "switch"), 0.0)
    n_positions, n_items = target.shape

    def mean(values: list[float]) -> float:
        return sum(values) / (len(values) + 30.0)

    models = []
    for fold in range(5):
        seen = [row for row in rows if deal[row[4]] != fold]
        overall = sum(row[2] for row in seen) / len(seen)
        q: dict[tuple[int, int], float] = {}
        base = [
            overall + mean([row[2] - overall for row in seen if row[0] == p])
            for p in range(n_positions)
        ]
        for i in range(n_items):
            own = [row for row in seen if row[1] == i]
            extra = mean([row[2] - base[row[0]] for row in own])
            for p in range(n_positions):
                expected = base[p] + extra
                q[p, i] = expected + mean([row[2] - expected for row in own if row[0] == p])
        models.append(q)
    for p, i, r, chance, unit in rows:
        w, q = target[p, i] / chance, models[deal[unit]]
        model = sum(target[p, j] * q[p, j] for j in range(n_items))
        sums["ips"] += w * r
        sums["weight"] += w
        sums["clipped"] += min(w, CLIP) * r
        sums["dm"] += model
        sums["dr"] += model + w * (r - q[p, i])
        sums["switch"] += model + (w * (r - q[p, i]) if w <= SWITCH else 0.0)
    found = {name: total / n for name, total in sums.items() if name != "weight"}
    return {**found, "snips": sums["ips"] / sums["weight"]}
