"""The slate from scored candidates: pins in their places, the others by score, unlike, explored."""

import hashlib
from dataclasses import dataclass

import numpy as np

from features.arrays import Float32Array, Int64Array
from features.history import unit_rows
from recsys.ranking.rules import Limit, Pins, Ruling, let_in
from recsys.ranking.scoring import Scored
from recsys.ranking.slate import MMR_POOL, Choice, diversify, explore
from recsys.types import Ask


@dataclass(frozen=True, slots=True)
class Pinned:
    """Candidates that rules give a place: on this page, or on a later one."""

    here: dict[int, int]  # position on the page → candidate
    later: list[int]  # candidates, by position
    candidates: Int64Array  # all that rules place, also those that a quota keeps out


def compose(
    ask: Ask,
    scored: Scored,
    ruling: Ruling,
    pins: Pins,
    vectors: Float32Array,
) -> Choice:
    """`pins` as of `Ruling.pins`; `vectors` (n_items, d) say how alike items are.

    Exploration never moves a pin, and puts nothing into a slate that a quota would not let in.
    """
    limits = ruling.limits(scored.candidates.item_rows)
    pinned = _pinned(ask, scored, ruling, pins, limits)
    n_free = ask.k - len(pinned.here)
    order = np.argsort(-scored.scores, kind="stable")
    if len(pinned.candidates):
        order = order[~np.isin(order, pinned.candidates)]
    near_top = order[: MMR_POOL * n_free]
    directions = np.zeros((len(scored.scores), vectors.shape[1]), np.float32)
    directions[near_top] = unit_rows(vectors[scored.candidates.item_rows[near_top]])
    order = diversify(order, scored.scores, directions, n_free, ask.policy.diversity)
    if limits:
        n = n_free + ask.policy.exploration_pool
        order = np.array(let_in(order.tolist(), limits, n, ruling.fire), np.int64)
    choice = explore(
        order,
        n_free,
        exploration=ask.policy.exploration,
        pool_size=ask.policy.exploration_pool,
        rng=np.random.default_rng(_seed(ask.request_id)),
    )
    return _with_pins(ask.k, choice, pinned, limits) if len(pinned.candidates) else choice


def _seed(request_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(request_id.encode(), digest_size=8).digest())


def _pinned(
    ask: Ask,
    scored: Scored,
    ruling: Ruling,
    pins: Pins,
    limits: list[Limit],
) -> Pinned:
    """Pins come first to every quota, by position; one that finds it full is not shown."""
    here: dict[int, int] = {}
    later: list[int] = []
    if not pins:
        return Pinned({}, [], np.empty(0, np.int64))
    by_place = sorted((place, row) for row, place in pins.items())
    rows = scored.candidates.item_rows
    of_row = {int(rows[at]): int(at) for at in np.flatnonzero(np.isin(rows, list(pins)))}
    for (position, rule_id), row in by_place:
        candidate = of_row[row]
        if position - ask.first_position >= ask.k:
            later.append(candidate)
        elif let_in([candidate], limits, 1, ruling.fire):
            here[position - ask.first_position] = candidate
            ruling.fire(rule_id, 1)
    return Pinned(here, later, np.array(list(of_row.values()), np.int64))


def _with_pins(k: int, choice: Choice, pinned: Pinned, limits: list[Limit]) -> Choice:
    """Where too little is left to fill the page, pins move up, also those of later pages."""
    free = list(zip(choice.chosen.tolist(), choice.propensities.tolist(), strict=True))[::-1]
    here = dict(pinned.here)
    slate: list[tuple[int, float]] = []
    while len(slate) < k and (here or free):
        position = len(slate)
        if position not in here and not free:
            position = min(here)  # nothing is left to stand before it
        slate.append((here.pop(position), 1.0) if position in here else free.pop())
    moved_up = let_in(pinned.later, limits, k - len(slate), lambda *_: None)
    slate += [(candidate, 1.0) for candidate in moved_up]
    return Choice(
        np.array([candidate for candidate, _ in slate], np.int64),
        np.array([propensity for _, propensity in slate], np.float32),
    )
