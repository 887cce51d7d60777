"""From what the recommender answers to what a storefront gets."""

import asyncio
import logging
from collections.abc import Sequence

import numpy as np
import orjson

from api.asking import Asked
from api.bodies import RecommendBody
from api.day import Day
from api.errors import STORE_ERRORS
from api.logs import line
from api.next_pages import MAX_SHOWN
from features.arrays import Float32Array
from features.pages import PageRecord
from features.slates import SlateRecord
from recsys.catalog import Catalog
from recsys.ranking.rules import Ruling
from recsys.types import Answer, Ask

log = logging.getLogger(__name__)

PROPERTIES = ("title", "tags", "available", "attributes")
DESCRIPTION = "description"  # the one property that no release holds


def content(asked: Asked, answer: Answer) -> dict[str, object]:
    """The answer as JSON; a page of k items costs k steps, whatever the catalogue has."""
    ask, recommender = asked.ask, asked.serving.recommender
    catalog = recommender.catalog
    shown: dict[str, object] = {
        "request_id": ask.request_id,
        "placement": ask.placement,
        "items": _items(catalog, asked, answer),
        "about_item_ids": answer.about_item_ids,
        "release_id": recommender.release_id,
        "experiments": [
            {"experiment": given.experiment, "variant": given.variant}
            for given in asked.assigned.assignments
            if given.how != "holdout"
        ],
        "degraded": [*asked.degraded, *answer.degraded],
        "fallbacks": answer.fallbacks,
        "missing_ids": missing(catalog, ask.context_item_ids),
        "has_next": something_left(catalog, ask, answer),
    }
    if ask.explain:
        shown |= {"removed": answer.removed, "rules": answer.fired}
    elif not answer.item_ids:  # why, for nobody sees it otherwise
        shown["removed"] = answer.removed
    return shown


def missing(catalog: Catalog, context_item_ids: Sequence[str]) -> list[str]:
    """What the shopper is looking at and this release does not know."""
    return [i for i in dict.fromkeys(context_item_ids) if catalog.row(i) < 0]


def something_left(catalog: Catalog, ask: Ask, answer: Answer) -> bool:
    """Whether a next page would show anything: an allowed item that no page has shown yet."""
    if len(answer.item_ids) < ask.k or ask.first_position + ask.k >= MAX_SHOWN:
        return False
    allowed = catalog.allowed(ask.filters, ask.now_us)
    Ruling.of(ask, catalog).hide(allowed)
    not_shown = (*ask.exclude_item_ids, *ask.context_item_ids, *answer.about_item_ids)
    used = catalog.rows((*answer.item_ids, *not_shown))
    allowed[used[used >= 0]] = False
    return bool(allowed.any())


def _items(catalog: Catalog, asked: Asked, answer: Answer) -> list[dict[str, object]]:
    scores = answer.slate.scores.tolist()
    items: list[dict[str, object]] = [
        {"item_id": item_id, "score": score, "reasons": reasons}
        for item_id, score, reasons in zip(answer.item_ids, scores, answer.reasons, strict=True)
    ]
    if answer.explanations is not None:
        for item, explanation in zip(items, answer.explanations, strict=True):
            item["explanation"] = explanation
    wanted = asked.body.return_properties
    if wanted is not False:
        names = PROPERTIES if wanted is True else wanted
        for item, row in zip(items, answer.slate.item_rows.tolist(), strict=True):
            item["properties"] = _properties(catalog, row, names)
    return items


def _properties(catalog: Catalog, row: int, names: Sequence[str]) -> dict[str, object]:
    """By name; an attribute that the item has not is left out."""
    known: dict[str, object] = {
        "title": catalog.titles[row],
        "tags": catalog.values(row, "tags"),
        "available": bool(catalog.available[row]),
        "attributes": orjson.Fragment(catalog.attributes_json(row)),
    }
    if not known.keys() >= {*names}:
        known = orjson.loads(catalog.attributes_json(row)) | known
    return {name: known[name] for name in names if name in known}


async def add_descriptions(today: Day, body: RecommendBody, shown: dict[str, object]) -> None:
    """No release holds them; the store has those of the few items that are shown."""
    wanted = body.return_properties
    if isinstance(wanted, bool) or DESCRIPTION not in wanted:
        return
    items = shown["items"]
    assert isinstance(items, list)
    try:
        found = await asyncio.to_thread(_descriptions, today, [item["item_id"] for item in items])
    except STORE_ERRORS as error:
        log.error(line("descriptions_failed", cause=repr(error)))
        degraded = shown["degraded"]
        assert isinstance(degraded, list)
        degraded.append("descriptions")
        return
    for item, description in zip(items, found, strict=True):
        if description is not None:
            item["properties"][DESCRIPTION] = description


def _descriptions(today: Day, item_ids: list[str]) -> list[object]:
    rows = [today.store.item(item_id) for item_id in item_ids]
    return [None if row is None else row[DESCRIPTION] for row in rows]


async def log_slate(today: Day, asked: Asked, answer: Answer) -> None:
    """Runs when the answer has been sent; `async`, or it would go through the thread pool.

    An empty slate is logged for the experiments it was in: a variant that leaves slates empty
    would else lose just those units.
    """
    if answer.item_ids or asked.assigned.assignments:
        today.slates.offer(_slate(asked, answer), _page(asked))


def _slate(asked: Asked, answer: Answer) -> SlateRecord:
    ask = asked.ask
    return SlateRecord(
        request_id=ask.request_id,
        user_id=ask.user_id,
        session_id=ask.session_id,
        placement=ask.placement,
        shown_at_us=ask.now_us,
        release_id=asked.serving.recommender.release_id,
        item_ids=answer.item_ids,
        propensities=_drawn(answer.slate.propensities),
        scores=answer.slate.scores,
        source_scores=answer.slate.source_scores,
        features=answer.slate.features,
        first_position=ask.first_position,
        assignments=asked.assigned.assignments,
        teams=answer.teams,
    )


def _drawn(propensities: Float32Array) -> Float32Array:
    """NaN where nothing was left to chance: such a position tells nothing of another policy."""
    return np.where(propensities < 1, propensities, np.float32(np.nan))


def _page(asked: Asked) -> PageRecord:
    return PageRecord(
        request_id=asked.ask.request_id,
        root_id=asked.root_id,
        user_id=asked.ask.user_id,
        session_id=asked.ask.session_id,
        asked_at_us=asked.ask.now_us,
        asked=asked.body.model_dump_json(exclude_defaults=True),
    )
