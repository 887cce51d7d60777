"""Two rankings in one slate: a quicker, rougher look at which of them shoppers prefer.

Team draft (Radlinski, Kurup & Joachims 2008): in each round a coin says which ranking picks
first, and each picks the best of its items that is not in the slate yet. What both show at the
same position is nobody's and keeps its place: pins stay where rules want them.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from recsys.types import Answer, Slate

COMMON = "-"  # the team of what both rankings show at the same position
TEAMS = ("A", "B")


@dataclass(frozen=True, slots=True)
class Draft:
    """Aligned, position 0 first: which ranking each position is taken from, and for whom."""

    sides: tuple[int, ...]  # 0 or 1
    places: tuple[int, ...]  # position within that ranking
    teams: str  # "A", "B" or COMMON for each position


def team_draft(a: Sequence[str], b: Sequence[str], k: int, *, seed: int) -> Draft:
    """A slate of k from two rankings without repeats; shorter only if both have too few."""
    rng = np.random.default_rng(seed)
    rankings = (a, b)
    n = min(k, len({*a, *b}))
    common = {at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x == y and at < n}
    used = {a[at] for at in common}
    cursors = [0, 0]
    sides: list[int] = []
    places: list[int] = []
    teams: list[str] = []
    turns: list[int] = []
    for position in range(n):
        if position in common:
            side, place, team = 0, position, COMMON
        else:
            if not turns:
                first = int(rng.integers(2))
                turns = [first, 1 - first]
            side = turns.pop(0)
            if _next(rankings[side], cursors[side], used) is None:
                side = 1 - side  # the other has items left, or n would be smaller
            found = _next(rankings[side], cursors[side], used)
            if found is None:
                break
            place, team = found, TEAMS[side]
            cursors[side] = place + 1
            used.add(rankings[side][place])
        sides.append(side)
        places.append(place)
        teams.append(team)
    return Draft(tuple(sides), tuple(places), "".join(teams))


def _next(ranking: Sequence[str], start: int, used: set[str]) -> int | None:
    return next((at for at in range(start, len(ranking)) if ranking[at] not in used), None)


def drafted(a: Answer, b: Answer, k: int, *, request_id: str) -> Answer:
    """Both answers in one, each item with the numbers of the ranking it was taken from.

    Propensities are NaN: the chance of a position depends on both rankings and was not counted.
    """
    digest = hashlib.blake2b(b"draft:" + request_id.encode(), digest_size=8).digest()
    draft = team_draft(a.item_ids, b.item_ids, k, seed=int.from_bytes(digest))
    answers, picks = (a, b), list(zip(draft.sides, draft.places, strict=True))
    explained = a.explanations is not None and b.explanations is not None
    return replace(
        a,
        item_ids=tuple(answers[side].item_ids[place] for side, place in picks),
        slate=_slate(a.slate, b.slate, draft),
        reasons=tuple(answers[side].reasons[place] for side, place in picks),
        explanations=tuple((answers[s].explanations or ())[p] for s, p in picks)
        if explained
        else None,
        degraded=tuple(dict.fromkeys((*a.degraded, *b.degraded))),
        fallbacks=tuple(dict.fromkeys((*a.fallbacks, *b.fallbacks))),
        fired={**b.fired, **a.fired},
        stage_ms={name: ms + b.stage_ms.get(name, 0.0) for name, ms in a.stage_ms.items()},
        teams=draft.teams,
    )


def _slate(a: Slate, b: Slate, draft: Draft) -> Slate:
    rows = np.array(draft.places, np.int64)
    from_b = np.array(draft.sides, np.bool_)
    rows[from_b] += len(a.item_rows)

    def column(name: str) -> np.ndarray:
        return np.concatenate([getattr(a, name), getattr(b, name)])[rows]

    return Slate(
        item_rows=column("item_rows"),
        scores=column("scores"),
        propensities=np.full(len(rows), np.nan, np.float32),
        probabilities=column("probabilities"),
        features=column("features"),
        source_scores=column("source_scores"),
    )
