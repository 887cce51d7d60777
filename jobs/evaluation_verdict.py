"""Is the recommender better than its rivals, by how much, and how sure is that: in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jobs.evaluate import Fold
from jobs.evaluation_words import SURE, metric, signed
from jobs.page_words import day, written
from recsys.evaluation.bootstrap import Interval
from recsys.evaluation.comparisons import GATED
from recsys.evaluation.trial import BASELINE

Standing = Literal["better", "worse", "unclear"]
RIVALS = {BASELINE: "popularity", "live": "the live release"}


@dataclass(frozen=True, slots=True)
class Against:
    """The recommender beside one rival, by the metric that counts."""

    rival: str
    standing: Standing
    metric: str
    ours: float
    theirs: float
    difference: Interval
    gain: float | None  # the difference as a share of the rival's figure; None where that is 0
    p_holm: float


@dataclass(frozen=True, slots=True)
class Finding:
    """The verdict; `standing` is better or worse only if it is so against a rival beyond luck."""

    standing: Standing
    headline: str
    sentence: str
    against: tuple[Against, ...]


def finding(folds: Sequence[Fold]) -> Finding:
    """Judged by the newest fold; how many of the others agree is said."""
    newest = folds[0]
    against = _against(newest)
    words = [_sentence(newest, one, folds) for one in against]
    if not newest.live.compared:
        words.append(f"The live release is not compared: {newest.live.reason}.")
    standings = {one.standing for one in against}
    overall: Standing = (
        "worse" if "worse" in standings else "better" if "better" in standings else "unclear"
    )
    return Finding(overall, _headline(against), " ".join(words), against)


def _against(fold: Fold) -> tuple[Against, ...]:
    return tuple(
        Against(
            one.rival,
            _standing(one.p_holm, one.difference.mean),
            one.metric,
            one.ours,
            one.theirs,
            one.difference,
            one.difference.mean / one.theirs if one.theirs > 0 else None,
            one.p_holm,
        )
        for one in fold.trial.comparisons
        if one.metric == GATED
    )


def _standing(p_holm: float, difference: float) -> Standing:
    if p_holm >= SURE:
        return "unclear"
    return "better" if difference > 0 else "worse"


def _headline(against: Sequence[Against]) -> str:
    ways = {
        "better": "better than {}",
        "worse": "worse than {}",
        "unclear": "no clear difference from {}",
    }
    named = {
        way: " and ".join(RIVALS[one.rival] for one in against if one.standing == way)
        for way in ways
    }
    said = ", ".join(text.format(named[way]) for way, text in ways.items() if named[way])
    return f"{said[:1].upper()}{said[1:]}" if said else "Compared with nothing"


def _sentence(fold: Fold, found: Against, folds: Sequence[Fold]) -> str:
    name = RIVALS[found.rival]
    low, high = signed(found.difference.low), signed(found.difference.high)
    begins = {
        "better": f"The recommender beats {name}",
        "worse": f"The recommender is behind {name}",
        "unclear": f"Luck alone could explain the difference from {name}",
    }[found.standing]
    share = "" if found.gain is None else f" ({found.gain:+.0%})"
    return (
        f"{begins}: its first ten items reach {metric(found.metric)} {written(found.ours)} instead "
        f"of {written(found.theirs)} for {fold.trial.users:,} shoppers who came from "
        f"{day(fold.evaluation_us)} to {day(fold.as_of_us - 1)}, {signed(found.difference.mean)}"
        f"{share}, 95 % interval {low} to {high}, adjusted p = "
        f"{written(found.p_holm)}{_agreeing(found, folds)}."
    )


def _agreeing(found: Against, folds: Sequence[Fold]) -> str:
    held = [one for fold in folds for one in _against(fold) if one.rival == found.rival]
    same = sum(one.standing == found.standing for one in held)
    return f"; so it is in {same} of {len(held)} windows" if len(held) > 1 else ""
