"""FEATURE_VIEWS: every input of the ranker, in its order, declared once."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from features.covisitation import STEP_POWER
from features.history import (
    HISTORY_LENGTH,
    HISTORY_VIEWS,
    RELATIONS,
    SHOPPER_VIEWS,
    STEP_DECAY,
    TOP,
)
from features.snapshot import (
    FAST_DAYS,
    NICHE_ITEMS,
    RATE_WEIGHTS,
    SLOW_DAYS,
    SNAPSHOT_VIEWS,
    WEEK_DAYS,
)

# Candidate sources, in the order of their columns everywhere.
SOURCES = (
    "next_item",
    "co_visited",
    "similar_text",
    "collaborative",
    "trending",
    "new_items",
)
# Sources whose query vectors can score any item, so that one source's finds are seen through the
# others' eyes; co-visitation scores them by its lists, a view of the history.
AFFINITIES = ("next_item", "similar_text", "collaborative")


# Views of which a request's ranking also sees where the item stands among the other candidates.
WITHIN_LIST = (
    *(f"{source}_affinity" for source in (*AFFINITIES, "co_visited")),
    *(f"{relation}_to_last" for relation in RELATIONS),
    "sequence_to_recent",
    "rare_tag_affinity",
    "decayed_popularity",
)


@dataclass(frozen=True, slots=True)
class FeatureView:
    """One ranker input. `group` is what an explanation names."""

    name: str
    entity: str  # "item", "shopper", or "shopper × item"
    window: str
    dtype: str  # with the range that values lie in; NaN, unknown, may be in any
    group: str
    meaning: str


ANY, POSITIVE, UNIT = "float32", "float32 ≥ 0", "float32 in [0, 1]"


def _source_views() -> list[FeatureView]:
    def view(name: str, dtype: str, group: str, meaning: str) -> FeatureView:
        return FeatureView(name, "shopper × item", "request", dtype, group, meaning)

    rank = "1 / (1 + position) in the answer of {}; 0 where it did not return the item"
    affinity = "score of {} for the item, whoever found it"
    return [
        *(view(f"{source}_rank", UNIT, source, rank.format(source)) for source in SOURCES),
        *(view(f"{s}_affinity", ANY, s, affinity.format(s)) for s in AFFINITIES),
        view("sources_agreeing", POSITIVE, "agreement", "how many sources returned the item"),
    ]


def _within_list_views(views: Sequence[FeatureView]) -> list[FeatureView]:
    group_of = {view.name: view.group for view in views}
    what = {
        "z": (ANY, "{} as a z-score within the candidates of the request"),
        "quantile": (UNIT, "share of the request's candidates with a lower {}, ties by half"),
    }
    return [
        FeatureView(
            f"{name}_{end}", "shopper × item", "request", dtype, group_of[name], text.format(name)
        )
        for end, (dtype, text) in what.items()
        for name in WITHIN_LIST
    ]


_SNAPSHOT_MEANINGS = {
    "events_1d": ("1 d", POSITIVE, "log(1 + positive events)"),
    "events_7d": ("7 d", POSITIVE, "log(1 + positive events)"),
    "events_30d": ("30 d", POSITIVE, "log(1 + positive events)"),
    "events_all": ("all time", POSITIVE, "log(1 + positive events)"),
    "shoppers_all": ("all time", POSITIVE, "log(1 + shoppers with a positive event)"),
    "trend_7d": ("30 d", ANY, "log of the last 7 days against the week's share of 30 days"),
    "weekly_change": ("14 d", ANY, "log of the last 7 days against the 7 days before"),
    **{
        f"{rate}_rate": (
            "all time",
            UNIT,
            f"share of events of weight ≥ {weight:g}, smoothed towards the shop's mean",
        )
        for rate, weight in RATE_WEIGHTS.items()
    },
    "dismissal_rate": (
        "all time",
        UNIT,
        "share of events of negative weight, smoothed towards the shop's mean",
    ),
    **{
        name: ("all time", POSITIVE, f"log(1 + events, half-life {days})")
        for name, days in (
            ("decayed_popularity", "fitted to the shop"),
            ("decayed_2d", f"{FAST_DAYS:g} days"),
            ("decayed_7d", f"{WEEK_DAYS:g} days"),
            ("decayed_30d", f"{SLOW_DAYS:g} days"),
        )
    },
    "decayed_trend": (
        "all time",
        ANY,
        f"log of events, half-life {FAST_DAYS:g} days, against their share of {SLOW_DAYS:g} days",
    ),
    "niche_popularity": (
        "all time",
        POSITIVE,
        f"decayed_popularity of all items of the item's rarest tag that {NICHE_ITEMS} items have",
    ),
    "niche_share": ("all time", UNIT, "the item's share of the events behind niche_popularity"),
    "age_days": ("all time", POSITIVE, "log(1 + days since publication, or since the first event)"),
}

_LIKENESS_MEANINGS = {
    "last": "likeness of the item to the shopper's last item",
    "best": "likeness of the item to the most similar item of the history",
    "top3": f"mean likeness of the item to the {TOP} most similar items of the history",
    "recent": f"weighted mean likeness to the history, {STEP_DECAY:g} a step back",
}
_HISTORY_MEANINGS = {
    "co_visited_affinity": (
        ANY,
        "co_visited",
        f"mean list score of the item, (1 + k)^-{STEP_POWER:g} for the event k steps back",
    ),
    "co_visited_lists": (
        POSITIVE,
        "co_visited",
        "log(1 + items of the history whose list has the item)",
    ),
    "follows_last": (
        UNIT,
        "co_visited",
        "share of the steps after the shopper's last item that led others to the item",
    ),
    "follows_second_last": (UNIT, "co_visited", "the same after the item before the last"),
    "preceded_last": (UNIT, "co_visited", "share of the steps after the item that led to the last"),
    "times_seen": (POSITIVE, "seen", "events of the shopper on the item"),
    "days_since_seen": (POSITIVE, "seen", "log(1 + days since the shopper's last event on it)"),
    "seen_strength": (ANY, "seen", "sum over events on the item of weight / log2(2 + days ago)"),
    "seen_last_day": (UNIT, "seen", "1 where the shopper had an event on the item in 24 hours"),
    "tag_affinity": (ANY, "tags", "mean weight of the item's tags in the shopper's recent events"),
    "tag_match_last": (UNIT, "tags", "share of the item's tags that the last item has too"),
    "rare_tag_affinity": (ANY, "tags", "tag_affinity with tags weighted by rarity: log(items / n)"),
    "rarest_tag_affinity": (ANY, "tags", "weight of the item's rarest tag in the recent events"),
    "best_tag_affinity": (ANY, "tags", "greatest rarity × weight in the recent events of a tag"),
    "price_gap": (ANY, "price", "log price of the item minus the shopper's recent mean"),
    "price_gap_z": (ANY, "price", "price_gap over the spread of the shopper's log prices"),
    "usual_price": (ANY, "price", "recent mean of the log prices of what the shopper took"),
    "history_length": (POSITIVE, "shopper", "log(1 + events of the shopper)"),
    "days_since_last_event": (POSITIVE, "shopper", "log(1 + days since the shopper's last event)"),
    "action_strength": (ANY, "shopper", "mean weight of the shopper's event types"),
    "events_last_day": (POSITIVE, "shopper", "log(1 + events of the last 24 hours)"),
    "events_last_week": (POSITIVE, "shopper", "log(1 + events of the last 7 days)"),
    "session_length": (POSITIVE, "shopper", "log(1 + events in the half hour up to the last one)"),
    "tag_breadth": (POSITIVE, "shopper", "log(1 + different tags of what the shopper took)"),
}
_RELATION_GROUPS = {
    "text": "similar_text",
    "sequence": "next_item",
    "factors": "collaborative",
    "co_visited": "co_visited",
    "tags": "tags",
}


def _history_views() -> list[FeatureView]:
    window = f"last {HISTORY_LENGTH} events"
    likenesses = {
        f"{relation}_to_{what}": (ANY, group, f"{meaning}, by {relation}")
        for relation, group in _RELATION_GROUPS.items()
        for what, meaning in _LIKENESS_MEANINGS.items()
    }
    told = likenesses | _HISTORY_MEANINGS
    return [
        FeatureView(
            name, "shopper" if name in SHOPPER_VIEWS else "shopper × item", window, *told[name]
        )
        for name in HISTORY_VIEWS
    ]


# In the order that `feature_rows` computes them in.
_COMPUTED = (
    *_source_views(),
    *(
        FeatureView(name, "item", window, dtype, "popularity", meaning)
        for name in SNAPSHOT_VIEWS
        for window, dtype, meaning in [_SNAPSHOT_MEANINGS[name]]
    ),
    *_history_views(),
)
FEATURE_VIEWS: tuple[FeatureView, ...] = (*_COMPUTED, *_within_list_views(_COMPUTED))
FEATURE_NAMES: tuple[str, ...] = tuple(view.name for view in FEATURE_VIEWS)


def views_hash() -> str:
    """A ranker trained on another list of views must not be served."""
    text = "\n".join(f"{v.name}|{v.entity}|{v.window}|{v.dtype}|{v.meaning}" for v in FEATURE_VIEWS)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
