"""Experiments on the request path: who gets which variant, and the answer that it makes."""

import logging
from dataclasses import replace

from api.day import Day
from api.logs import line
from api.shoppers import Shopper
from recsys.experiments.assignment import NOTHING, Assigned
from recsys.experiments.experiment import Variant
from recsys.experiments.interleaving import drafted
from recsys.policy import Policy
from recsys.recommender import Recommender
from recsys.types import Answer, Ask

log = logging.getLogger(__name__)

FAILED = "experiments"  # in `degraded`: the control answered instead


def assigned_to(today: Day, shopper: Shopper, placement: str) -> Assigned:
    """Never raises: whatever goes wrong here, the shopper gets an answer, the control's."""
    try:
        return today.directives.known.running.assign(
            placement=placement,
            user_id=shopper.user_id,
            session_id=shopper.session_id,
            now_us=shopper.now_us,
            attributes=shopper.attributes,
            is_loaded=lambda release_id: today.live.of(release_id) is not None,
        )
    except Exception as error:  # noqa: BLE001  an answer must not depend on an experiment
        log.error(line("assignment_failed", cause=repr(error)))
        return replace(NOTHING, failed=("assignment",))


def policies(base: Policy, assigned: Assigned) -> tuple[Policy, Policy | None]:
    """What the request obeys, and of interleaved slates also the second ranking's.

    ValidationError if the variants' changes make no policy together.
    """
    policy = base.changed_by(assigned.policy) if assigned.policy else base
    if assigned.interleave is None:
        return policy, None
    first, second = (_of(policy, variant) for variant in assigned.interleave)
    return first, second


def _of(policy: Policy, variant: Variant) -> Policy:
    return policy.changed_by(variant.policy) if variant.policy else policy


def recommended(recommender: Recommender, ask: Ask, rival: Policy | None) -> Answer:
    """With a rival both rankings are asked, and drafted into one slate."""
    answer = recommender.recommend(ask)
    if rival is None:
        return answer
    other = recommender.recommend(replace(ask, policy=rival))
    return drafted(answer, other, ask.k, request_id=ask.request_id)
