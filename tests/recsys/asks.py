"""One shopper and one way of asking for the tests of the request path."""

from collections.abc import Sequence

import numpy as np

from features.events import US_PER_SECOND, RecentEvents
from recsys.placements import DEFAULT_PLACEMENTS
from recsys.policy import Policy
from recsys.types import Ask
from tests.tiny import NOW_US

CERTAIN = Policy(exploration=0)
IN_ORDER = Policy(exploration=0, diversity=0)
PLACEMENTS = {placement.name: placement for placement in DEFAULT_PLACEMENTS}


def recent(*item_ids: str, kind: str = "click") -> RecentEvents:
    """Events a minute apart, the last one a minute ago."""
    ages = np.arange(len(item_ids), 0, -1) * 60 * US_PER_SECOND
    return RecentEvents(item_ids, [kind] * len(item_ids), NOW_US - ages)


RED = recent("red-shirt", "red-shoe", "red-hat")


def ask(**changes: object) -> Ask:
    given: dict[str, object] = {"request_id": "r", "now_us": NOW_US, "k": 10, "policy": CERTAIN}
    return Ask(**(given | changes))  # type: ignore[arg-type]


def placed(name: str, **changes: object) -> Ask:
    """As the API asks for a placement that the shop left as it came."""
    policy = Policy().changed_by(PLACEMENTS[name].policy)
    return ask(**({"placement": name, "policy": policy} | changes))


def colors(item_ids: Sequence[str]) -> list[str]:
    return [item_id.split("-")[0] for item_id in item_ids]


def things(item_ids: Sequence[str]) -> list[str]:
    return [item_id.split("-")[1] for item_id in item_ids]
