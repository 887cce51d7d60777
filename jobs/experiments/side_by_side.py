"""What each variant would show the same shoppers now, so that people see what they compare."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import polars as pl

from features.errors import DataError
from features.store import Store
from recsys.documents import readable
from recsys.evaluation.samples import varied_shoppers
from recsys.experiments.experiment import Design, Variant
from recsys.expression import parse
from recsys.placements import PLACEMENT, Placement, placements_of
from recsys.policy import Policy
from recsys.recommender import Recommender
from recsys.releases import Releases
from recsys.rules import RULE, Rule, in_force
from recsys.types import Ask

N_SHOPPERS = 4
CHOSEN_FROM = 200  # of the newest shoppers, so that histories of several lengths are among them
LENGTH = 8
N_LATEST = 5  # events told of each
RECENT_EVENTS = 200  # as the server reads

# By release_id, or None for the live one, with the policy that the release was made with.
Load = Callable[[str | None], tuple[Recommender, Policy]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One item of one list."""

    item_id: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """One shopper, unnamed: a report is kept when shoppers have asked to be forgotten."""

    events_known: int
    latest: tuple[tuple[str, str], ...]  # event type and title, newest first
    lists: dict[str, tuple[Listed, ...]]  # by variant, best first


@dataclass(frozen=True, slots=True, kw_only=True)
class SideBySide:
    """Lists on one placement, without exploration; `problem` says why there are none."""

    placement: str
    viewers: tuple[Viewer, ...] = ()
    problem: str | None = None

    def differing(self, design: Design) -> dict[str, float]:
        """Of each variant the share of its items that the control does not show."""
        control, *others = (variant.key for variant in design.variants)
        found = {}
        for key in others:
            items = [item for v in self.viewers for item in v.lists[key]]
            new = [i for v in self.viewers for i in v.lists[key] if i not in v.lists[control]]
            found[key] = len(new) / len(items) if items else 0.0
        return found


def loader(releases: Releases) -> Load:
    """Two at once are kept in memory: the live release and a variant's."""

    @lru_cache(maxsize=2)
    def load(release_id: str | None) -> tuple[Recommender, Policy]:
        release_id = release_id or releases.current()
        if release_id is None:
            raise DataError("found no live release, expected one to ask: run a night first")
        manifest = releases.verify(release_id)
        folder = releases.path(release_id)
        return Recommender.load(folder, release_id=release_id), Policy.stored(manifest.policy)

    return load


def newest_shoppers(rows: pl.LazyFrame, time: str) -> pl.DataFrame:
    """user_id and session_id of those who were last in the rows."""
    named = pl.col("user_id").is_not_null() | pl.col("session_id").is_not_null()
    last = rows.filter(named).group_by("user_id", "session_id").agg(pl.col(time).max())
    newest = last.sort(time, "user_id", "session_id", descending=True).head(CHOSEN_FROM)
    return newest.select("user_id", "session_id").collect()


def side_by_side(
    store: Store, design: Design, shoppers: pl.DataFrame, load: Load, *, now_us: int
) -> SideBySide:
    """Some of the `shoppers` (user_id, session_id) as each variant would answer them."""
    placement = _placement(store, design)
    asks = _asks(store, placement, shoppers, now_us)
    if not asks:
        words = "there is no shopper yet of whom something is known"
        return SideBySide(placement=placement.name, problem=words)
    lists = [_lists(placement, v, asks, load) for v in design.variants]
    catalog = load(None)[0].catalog
    titles = dict(zip(catalog.item_ids, catalog.titles, strict=True))
    viewers = [
        Viewer(
            events_known=len(ask.recent.item_ids),
            latest=tuple(
                (kind, titles.get(item_id) or item_id)
                for kind, item_id in zip(
                    reversed(ask.recent.event_types), reversed(ask.recent.item_ids), strict=True
                )
            )[:N_LATEST],
            lists={v.key: of[n] for v, of in zip(design.variants, lists, strict=True)},
        )
        for n, ask in enumerate(asks)
    ]
    return SideBySide(placement=placement.name, viewers=tuple(viewers))


def _placement(store: Store, design: Design) -> Placement:
    """The first that the experiment names, else home."""
    name = next(iter(design.placements), "home")
    found = placements_of(store.documents.all(PLACEMENT)).get(name)
    if found is None:
        raise DataError(f"found no placement {name!r}, expected one that the shop has")
    return found


def _asks(store: Store, placement: Placement, shoppers: pl.DataFrame, now_us: int) -> list[Ask]:
    """One a chosen shopper; about the last item they acted on where a context is needed."""
    rules, _ = readable(store.documents.all(RULE), Rule)
    recents = [
        store.recent_events(
            user_id=user_id, session_id=session_id, before_us=now_us, limit=RECENT_EVENTS
        )
        for user_id, session_id in shoppers.select("user_id", "session_id").rows()
    ]
    known = [n for n, recent in enumerate(recents) if len(recent.item_ids)]
    counts = np.array([len(recents[n].item_ids) for n in known], np.int64)
    chosen = varied_shoppers(counts, seed=0, n=N_SHOPPERS)
    return [
        Ask(
            request_id=f"side-by-side-{n}",
            now_us=now_us,
            k=min(LENGTH, placement.k),
            placement=placement.name,
            user_id=shoppers["user_id"][n],
            session_id=shoppers["session_id"][n],
            recent=recents[n],
            context_item_ids=recents[n].item_ids[-1:] if placement.needs_context else (),
            filters=() if placement.filter is None else (parse(placement.filter),),
            rules=in_force(rules.values(), placement.name, now_us),
        )
        for n in (known[place] for place in chosen.tolist())
    ]


def _lists(
    placement: Placement, variant: Variant, asks: Sequence[Ask], load: Load
) -> list[tuple[Listed, ...]]:
    recommender, base = load(variant.release_id)
    policy = base.changed_by({**placement.policy, **variant.policy, "exploration": 0.0})
    titles = recommender.catalog.titles
    return [
        tuple(
            Listed(item_id=item_id, title=titles[row] or item_id)
            for item_id, row in zip(answer.item_ids, answer.slate.item_rows, strict=True)
        )
        for answer in (recommender.recommend(replace(ask, policy=policy)) for ask in asks)
    ]
