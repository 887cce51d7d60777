"""FEATURE_VIEWS: every input of the ranker, in its order, declared once."""

import hashlib
from dataclasses import dataclass

from features.history import HISTORY_LENGTH, HISTORY_VIEWS, STEP_DECAY
from features.snapshot import HALF_LIFE_DAYS, SNAPSHOT_VIEWS, STRONG_WEIGHT

# Candidate sources, in the order of their columns everywhere.
SOURCES = (
    "next_item",
    "co_visited",
    "similar_text",
    "collaborative",
    "trending",
    "new_items",
)
# Sources that can score any item, so that one source's finds are seen through the others' eyes.
AFFINITIES = ("next_item", "co_visited", "similar_text", "collaborative")


@dataclass(frozen=True, slots=True)
class FeatureView:
    """One ranker input. `group` is what an explanation names."""

    name: str
    entity: str  # "item", "shopper", or "shopper × item"
    window: str
    group: str
    meaning: str


def _source_views() -> list[FeatureView]:
    views = [
        FeatureView(
            f"{source}_rank",
            "shopper × item",
            "request",
            source,
            f"1 / (1 + position) in the answer of {source}; 0 where it did not return the item",
        )
        for source in SOURCES
    ]
    for source in AFFINITIES:
        views.append(
            FeatureView(
                f"{source}_affinity",
                "shopper × item",
                "request",
                source,
                f"score of {source} for the item, whoever found it",
            )
        )
        views.append(
            FeatureView(
                f"{source}_z",
                "shopper × item",
                "request",
                source,
                f"{source}_affinity as a z-score within the candidates of the request",
            )
        )
    views.append(
        FeatureView(
            "sources_agreeing",
            "shopper × item",
            "request",
            "agreement",
            "how many sources returned the item",
        )
    )
    return views


_SNAPSHOT_MEANINGS = {
    "events_1d": ("1 d", "log(1 + positive events)"),
    "events_7d": ("7 d", "log(1 + positive events)"),
    "events_30d": ("30 d", "log(1 + positive events)"),
    "events_all": ("all time", "log(1 + positive events)"),
    "shoppers_all": ("all time", "log(1 + shoppers with a positive event)"),
    "trend_7d": ("30 d", "log of the last 7 days against the week's share of 30 days"),
    "engagement_rate": (
        "all time",
        f"share of events of weight ≥ {STRONG_WEIGHT:g}, smoothed towards the shop's mean",
    ),
    "decayed_popularity": ("365 d", f"log(1 + events, half-life {HALF_LIFE_DAYS:g} days)"),
    "age_days": ("all time", "log(1 + days since publication, or since the first event)"),
}

_HISTORY_MEANINGS = {
    "to_last": "likeness of the item to the shopper's last item",
    "to_best": "likeness of the item to the most similar item of the history",
    "to_recent": f"weighted mean likeness to the history, {STEP_DECAY:g} a step back",
    "times_seen": "events of the shopper on the item",
    "days_since_seen": "log(1 + days since the shopper's last event on the item)",
    "tag_affinity": "mean weight of the item's tags in the shopper's recent events",
    "tag_match_last": "share of the item's tags that the last item has too",
    "price_gap": "log price of the item minus the shopper's recent mean",
    "history_length": "log(1 + events of the shopper)",
    "days_since_last_event": "log(1 + days since the shopper's last event)",
    "action_strength": "mean weight of the shopper's event types",
}
_HISTORY_GROUPS = {
    "text": "similar_text",
    "sequence": "next_item",
    "factors": "collaborative",
    "co": "co_visited",
    "times": "seen",
    "tag": "tags",
    "price": "price",
}


def _history_view(name: str) -> FeatureView:
    meaning = next(text for end, text in _HISTORY_MEANINGS.items() if name.endswith(end))
    shopper = name in ("history_length", "days_since_last_event", "action_strength")
    first = name.split("_")[0]
    group = "seen" if name == "days_since_seen" else _HISTORY_GROUPS.get(first, "shopper")
    if "_to_" in name:
        meaning = f"{meaning}, by {name.split('_to_')[0]}"
    return FeatureView(
        name,
        "shopper" if shopper else "shopper × item",
        f"last {HISTORY_LENGTH} events",
        group,
        meaning,
    )


FEATURE_VIEWS: tuple[FeatureView, ...] = (
    *_source_views(),
    *(
        FeatureView(name, "item", _SNAPSHOT_MEANINGS[name][0], "popularity", text)
        for name in SNAPSHOT_VIEWS
        for text in [_SNAPSHOT_MEANINGS[name][1]]
    ),
    *(_history_view(name) for name in HISTORY_VIEWS),
)
FEATURE_NAMES: tuple[str, ...] = tuple(view.name for view in FEATURE_VIEWS)


def views_hash() -> str:
    """A ranker trained on another list of views must not be served."""
    text = "\n".join(f"{v.name}|{v.entity}|{v.window}|{v.meaning}" for v in FEATURE_VIEWS)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
