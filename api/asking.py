"""From what a storefront asks to what the recommender is asked."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from pydantic import ValidationError
from starlette.requests import Request

from api.assigning import FAILED, assigned_to, policies
from api.bodies import PageBody, PolicyBody, RecommendBody, SlateBody
from api.day import Day
from api.directives import filters
from api.errors import ApiError, problem
from api.keys import caller
from api.live_items import Serving
from api.logs import line
from api.shoppers import Shopper
from recsys.experiments.assignment import NOTHING, Assigned
from recsys.placements import Placement
from recsys.policy import Policy
from recsys.types import Ask

log = logging.getLogger(__name__)

EXPLAIN: Final = "explain"  # scope

_UNCHANGED = PolicyBody()


@dataclass(frozen=True, slots=True)
class Asked:
    """One slate that is asked for: everything its answer and its log line depend on."""

    body: RecommendBody
    ask: Ask
    serving: Serving
    degraded: tuple[str, ...]
    root_id: str  # request_id of its first page
    assigned: Assigned
    rival: Policy | None  # interleaved with the policy of `ask`


def check_scope(request: Request, body: SlateBody) -> None:
    """403 for what the caller's key does not allow."""
    if body.explain or body.policy != _UNCHANGED:
        caller(request).needs(EXPLAIN)


def placed(today: Day, body: SlateBody) -> Placement:
    """The placement that is meant; ApiError if there is none, or it needs a context."""
    placement = today.directives.placement(body.where)
    if placement.needs_context and not body.context_item_ids:
        raise ApiError(
            422,
            f"found no context_item_ids for the placement {placement.name!r}, expected at least "
            "one: name the items that the shopper is looking at",
        )
    return placement


def first_page(
    today: Day, serving: Serving, shopper: Shopper, body: RecommendBody, request_id: str
) -> Asked:
    return asked_of(today, serving, shopper, body, request_id, root_id=request_id)


def asked_of(
    today: Day,
    serving: Serving,
    shopper: Shopper,
    body: RecommendBody,
    request_id: str,
    *,
    root_id: str,
    shown: Sequence[str] = (),
) -> Asked:
    """`shown` are the items of earlier pages, of which the first has the `root_id`."""
    placement = placed(today, body)
    beside = body.shown_beside if isinstance(body, PageBody) else ()
    # a request with a policy of its own is in no experiment
    is_own = body.policy != _UNCHANGED
    assigned = NOTHING if is_own else assigned_to(today, shopper, placement.name)
    serving = today.live.of(assigned.release_id) or serving
    base = today.directives.policy(placement, serving.policy)
    assigned, policy, rival = _varied(assigned, base)
    ask = Ask(
        request_id=request_id,
        now_us=shopper.now_us,
        k=body.k or placement.k,
        placement=placement.name,
        user_id=shopper.user_id,
        session_id=shopper.session_id,
        recent=shopper.recent,
        context_item_ids=body.context_item_ids,
        exclude_item_ids=(*body.exclude_ids, *beside, *shown),
        words=body.query,
        filters=filters(placement, body.filter),
        rules=today.directives.rules(placement.name, shopper.now_us),
        first_position=len(shown),
        explain=body.explain,
        policy=body.policy.applied_to(policy),
    )
    failed = (FAILED,) if assigned.failed else ()
    return Asked(body, ask, serving, (*shopper.degraded, *failed), root_id, assigned, rival)


def _varied(assigned: Assigned, base: Policy) -> tuple[Assigned, Policy, Policy | None]:
    """With the policy that the request obeys, and of interleaved slates the second one."""
    try:
        return assigned, *policies(base, assigned)
    except ValidationError as error:
        log.error(line("experiment_policy_failed", cause=problem(str(error))))
        names = tuple(given.experiment for given in assigned.assignments)
        return replace(NOTHING, failed=names), base, None
