"""What the shop decides, in memory: written by one process, obeyed by all within a poll interval.

Placements, rules and experiments.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel

from api.errors import ApiError, problem
from api.logs import line
from features.store import Store
from recsys.documents import D, readable
from recsys.experiments.assignment import Running
from recsys.experiments.experiment import EXPERIMENT, GLOBAL, HOLDOUT, Experiment, Holdout
from recsys.expression import Expression, parse
from recsys.placements import DEFAULT_PLACEMENTS, PLACEMENT, Placement
from recsys.policy import Policy
from recsys.rules import RULE, Rule, in_force

log = logging.getLogger(__name__)

_DEFAULTS = {placement.name: placement for placement in DEFAULT_PLACEMENTS}
_LATER_US = 2**62


@dataclass(frozen=True, slots=True)
class Known:
    """What was stored when `change` was the last change; replaced as a whole."""

    change: int
    placements: Mapping[str, Placement]
    stored_placements: frozenset[str]
    rules: Mapping[str, Rule]
    experiments: Mapping[str, Experiment]
    holdout: Holdout | None
    running: Running
    unreadable: Mapping[str, str]  # "rule/spring": what is wrong with it
    # filled as they are asked for; a change makes a new `Known`
    policies: dict[tuple[str, int], tuple[Policy, Policy]] = field(default_factory=dict)
    holding: dict[str, tuple[int, int, tuple[Rule, ...]]] = field(default_factory=dict)

    @property
    def releases(self) -> frozenset[str]:
        """That variants of running experiments answer from."""
        running = (e.design for e in self.experiments.values() if e.status == "running")
        return frozenset(v.release_id for d in running for v in d.variants if v.release_id)

    @property
    def fields(self) -> frozenset[str]:
        """Of items, that filters and conditions name."""
        filters = (placement.filter for placement in self.placements.values())
        rules = self.rules.values()
        wheres = (text for r in rules for text in (r.context, getattr(r.then, "where", None)))
        texts = (text for text in (*filters, *wheres) if text is not None)
        return frozenset(name for text in texts for name in parse(text).fields)


class Directives:
    """`known` is swapped on the event loop in one step: a request sees one state of it.

    `prepare` is awaited before, with the fields of items that will be asked for.
    """

    def __init__(self, store: Store, prepare: Callable[[frozenset[str]], Awaitable[None]]) -> None:
        self.fired: Counter[str] = Counter()  # rule_id → slates it changed since the process began
        self._store = store
        self._prepare = prepare
        self._reading = asyncio.Lock()
        self.known = _read(store)

    async def follow(self) -> None:
        """Read what is stored if it changed; cheap when it did not."""
        async with self._reading:
            if await asyncio.to_thread(self._store.documents.last_change) != self.known.change:
                known = await asyncio.to_thread(_read, self._store)
                await self._prepare(known.fields)
                self.known = known

    def placement(self, name: str) -> Placement:
        """ApiError `unknown_placement` if the shop has none of that name."""
        found = self.known.placements.get(name)
        if found is None:
            names = ", ".join(sorted(self.known.placements))
            raise ApiError(
                422,
                f"found the placement {name!r}, expected one of {names}; "
                "PUT /v1/placements/{name} makes a new one",
                code="unknown_placement",
            )
        return found

    def policy(self, placement: Placement, base: Policy) -> Policy:
        """The release's policy as the placement changes it."""
        if not placement.policy:
            return base
        policies = self.known.policies
        key = (placement.name, id(base))
        if key not in policies or policies[key][0] is not base:
            policies[key] = (base, base.changed_by(placement.policy))
        return policies[key][1]

    def rules(self, placement: str, now_us: int) -> tuple[Rule, ...]:
        """Those in force; looked up again only when a window begins or ends."""
        holding = self.known.holding
        since_us, until_us, rules = holding.get(placement, (0, 0, ()))
        if not since_us <= now_us < until_us:
            rules = in_force(self.known.rules.values(), placement, now_us)
            until_us = _next_edge(self.known.rules.values(), now_us)
            holding[placement] = (now_us, until_us, rules)
        return rules

    def count(self, fired: Iterable[str]) -> None:
        """Each rule once a slate; `fired` may be a mapping."""
        self.fired.update(list(fired))


def own_name(body: BaseModel, field_name: str, name: str) -> dict[str, object]:
    """The document with the path's name; ApiError if the body has another one."""
    said = getattr(body, field_name)
    if field_name in body.model_fields_set and said != name:
        raise ApiError(
            422,
            f"{field_name}: found {said!r} in the body and {name!r} in the path, expected the "
            "same: leave it out of the body",
        )
    return body.model_dump() | {field_name: name}


def filters(placement: Placement, *texts: str | None) -> tuple[Expression, ...]:
    return tuple(parse(text) for text in (placement.filter, *texts) if text is not None)


def _next_edge(rules: Iterable[Rule], now_us: int) -> int:
    edges = (at.timestamp() * 1e6 for rule in rules for at in (rule.starts_at, rule.ends_at) if at)
    return min((int(edge) for edge in edges if edge > now_us), default=_LATER_US)


def _read(store: Store) -> Known:
    """What is written after the change number was read is seen by the next look."""
    change = store.documents.last_change()
    unreadable: dict[str, str] = {}
    placements = _valid(store, PLACEMENT, Placement, unreadable)
    rules = _valid(store, RULE, Rule, unreadable)
    experiments = _valid(store, EXPERIMENT, Experiment, unreadable)
    holdout = _valid(store, HOLDOUT, Holdout, unreadable).get(GLOBAL)
    return Known(
        change=change,
        placements={**_DEFAULTS, **placements},
        stored_placements=frozenset(placements),
        rules=rules,
        experiments=experiments,
        holdout=holdout,
        running=Running.of(experiments.values(), holdout),
        unreadable=unreadable,
    )


def _valid(store: Store, kind: str, model: type[D], unreadable: dict[str, str]) -> dict[str, D]:
    """Documents that an older or newer code wrote may mean nothing to this one: the rest counts."""
    found, wrong = readable(store.documents.all(kind), model)
    for name, error in wrong.items():
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "body"
        unreadable[f"{kind}/{name}"] = f"{where}: {problem(first['msg'])}"
        log.error(line("directive_skipped", kind=kind, name=name, cause=problem(first["msg"])))
    return found
