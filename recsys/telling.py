"""What is said of each item of a slate: the evidence of one request, gathered for the reasons."""

from dataclasses import replace

import numpy as np

from features.arrays import BoolArray, Float64Array
from features.events import US_PER_DAY
from features.views import SOURCES
from recsys.bundle import Bundle
from recsys.ranking.features import history_of
from recsys.ranking.reasons import Evidence, reasons
from recsys.ranking.scoring import Scored
from recsys.ranking.slate import Choice
from recsys.retrieval.asking import Question
from recsys.retrieval.sources import FRESH_DAYS
from recsys.types import Ask, Retrieved


def told(
    bundle: Bundle,
    ask: Ask,
    asked: Question,
    scored: Scored,
    choice: Choice,
    words: Retrieved | None,
) -> tuple[tuple[str, ...], ...]:
    """One tuple of sentences for each item of the slate; `words` are the items that match them."""
    rows = scored.candidates.item_rows[choice.chosen]
    catalog = bundle.catalog
    kinds = asked.shopper.history_types[0][asked.shopper.history_rows[0] >= 0]
    known = Evidence(
        item_rows=rows,
        source_ranks=scored.candidates.source_ranks[choice.chosen],
        is_popular=scored.candidates.source_scores[choice.chosen, SOURCES.index("trending")] > 0,
        is_new=newness(catalog.published_at_us[rows], ask.now_us),
        titles=catalog.titles,
        relations=bundle.feature_inputs.relations,
        history=history_of(asked.shopper, 0, bundle.type_weights),
        verbs=[bundle.event_types[kind].name for kind in kinds],
        bought=bundle.bought,
        matches=None if words is None else np.isin(rows, words.item_rows),
        charts=bundle.charts.said(rows, catalog.tags[rows], ask.now_us),
    )
    if len(asked.about_rows) and asked.policy.about == "context":
        known = replace(known, about_rows=asked.about_rows)
    return reasons(known)


def newness(published_at_us: Float64Array, now_us: int) -> BoolArray:
    """What the source of new items would call new."""
    age_us = now_us - published_at_us
    return np.asarray((age_us >= 0) & (age_us <= FRESH_DAYS * US_PER_DAY))
