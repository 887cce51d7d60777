"""What may be meant differently: said when something is written, never a reason to refuse it."""

from collections.abc import Iterable, Iterator

from api.directives import Known
from api.live_items import Serving
from recsys.catalog import Catalog
from recsys.expression import Expression, parse
from recsys.placements import Placement
from recsys.rules import Pin, Quota, Rule

_UNCHECKED = "no release is loaded: whether items have these attributes was not checked"


def unknown_fields(catalog: Catalog, expressions: Iterable[Expression]) -> list[str]:
    names = dict.fromkeys(n for e in expressions for n in catalog.unknown_fields(e))
    return [f"no item has the attribute {name!r}" for name in names]


def of_placement(placement: Placement, serving: Serving | None) -> list[str]:
    if placement.filter is None:
        return []
    if serving is None:
        return [_UNCHECKED]
    return unknown_fields(serving.recommender.catalog, [parse(placement.filter)])


def of_rule(rule: Rule, known: Known, serving: Serving | None) -> list[str]:
    return [
        *(f"there is no placement {p!r}" for p in rule.placements if p not in known.placements),
        *(_of_items(rule, serving.recommender.catalog) if serving else [_UNCHECKED]),
        *_same_place(rule, known.rules.values()),
    ]


def _of_items(rule: Rule, catalog: Catalog) -> Iterator[str]:
    texts = (rule.context, getattr(rule.then, "where", None))
    yield from unknown_fields(catalog, [parse(text) for text in texts if text is not None])
    match rule.then:
        case Pin(item_id=item_id) if catalog.row(item_id) < 0:
            yield f"there is no item {item_id!r}: nothing is pinned until it comes"
        case Quota(attribute=name) if not catalog.has_field(name):
            yield f"no item has the attribute {name!r}"


def _same_place(rule: Rule, others: Iterable[Rule]) -> Iterator[str]:
    if not isinstance(rule.then, Pin) or not rule.enabled:
        return
    for other in others:
        if (
            isinstance(other.then, Pin)
            and other.rule_id != rule.rule_id
            and other.enabled
            and other.then.position == rule.then.position
            and _meet(rule, other)
        ):
            yield (
                f"rule {other.rule_id!r} pins {other.then.item_id!r} at position "
                f"{rule.then.position} too, in the same place at the same time"
            )


def _meet(one: Rule, other: Rule) -> bool:
    """Whether there is a placement and a moment at which both hold."""
    apart = one.placements and other.placements and not {*one.placements} & {*other.placements}
    starts = [at for at in (one.starts_at, other.starts_at) if at]
    ends = [at for at in (one.ends_at, other.ends_at) if at]
    return not apart and (not starts or not ends or max(starts) < min(ends))
