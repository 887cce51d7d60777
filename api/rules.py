"""Merchandising rules over HTTP: checked when written, tried before they are live, counted."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import Response

from api import warnings
from api.answers import Deleted, PreviewAnswer, RuleAnswer, RulesAnswer, RuleWritten
from api.asking import check_scope, first_page
from api.bodies import PreviewBody, RuleBody
from api.clock import now_us
from api.day import Day, answered, day, read, request_id
from api.directives import own_name
from api.errors import ApiError
from api.keys import ScopedRoute
from api.openapi import documented
from api.shoppers import shopper_of
from api.showing import add_descriptions, content
from recsys.rules import MAX_RULES, RULE, Rule, RuleId, in_force

router = APIRouter(route_class=ScopedRoute)

Id = Annotated[RuleId, Path(description="of the rule, the shop's own")]
DRAFT = "draft"  # the id of a previewed rule that has none


@router.get(
    "/v1/rules",
    summary="Every rule, and how many slates each changed",
    **documented(RulesAnswer, scope="rules"),
)
async def list_rules(request: Request) -> Response:
    today = day(request)
    known, now = today.directives.known, now_us()
    return answered(
        {
            "request_id": request_id(request),
            "rules": [_shown(today, known.rules[rule_id], now) for rule_id in sorted(known.rules)],
            "unreadable": dict(known.unreadable),
        }
    )


@router.get(
    "/v1/rules/{rule_id}",
    summary="One rule, and how many slates it changed",
    **documented(RuleAnswer, 404, 422, scope="rules"),
)
async def get_rule(request: Request, rule_id: Id) -> Response:
    today = day(request)
    rule = today.directives.known.rules.get(rule_id)
    if rule is None:
        raise _unknown(rule_id)
    return answered({"request_id": request_id(request), **_shown(today, rule, now_us())})


@router.put(
    "/v1/rules/{rule_id}",
    summary="Add or replace a rule; in force when this answers",
    description="Other processes follow within RECSYS_POLL_INTERVAL_S.",
    **documented(RuleWritten, 503, takes=RuleBody, scope="rules"),
)
async def put_rule(request: Request, rule_id: Id) -> Response:
    body, today, now = await read(request, RuleBody), day(request), now_us()
    rule = Rule.model_validate(own_name(body, "rule_id", rule_id))
    await today.directives.follow()
    _check_room(rule, today.directives.known.rules.values(), now)
    text = rule.model_dump_json(exclude_defaults=True)
    changed = await asyncio.to_thread(
        today.store.documents.put, RULE, rule_id, text, updated_at_us=now
    )
    await today.directives.follow()
    return answered(
        {
            "request_id": request_id(request),
            "changed": changed,
            "warnings": warnings.of_rule(rule, today.directives.known, today.live.serving),
            **_shown(today, rule, now),
        }
    )


@router.delete(
    "/v1/rules/{rule_id}",
    summary="Forget a rule",
    **documented(Deleted, 404, 422, 503, scope="rules"),
)
async def delete_rule(request: Request, rule_id: Id) -> Response:
    today = day(request)
    deleted = await asyncio.to_thread(
        today.store.documents.delete, RULE, rule_id, updated_at_us=now_us()
    )
    await today.directives.follow()
    if not deleted:
        raise _unknown(rule_id)
    return answered({"request_id": request_id(request), "name": rule_id, "deleted": True})


@router.post(
    "/v1/rules/preview",
    summary="The same request with and without a rule; nothing is stored, nothing counts as shown",
    **documented(PreviewAnswer, 503, takes=PreviewBody, scope="rules"),
)
async def preview(request: Request) -> Response:
    body, today = await read(request, PreviewBody), day(request)
    check_scope(request, body.ask)
    rule_id = body.rule.rule_id if "rule_id" in body.rule.model_fields_set else DRAFT
    draft = Rule.model_validate(own_name(body.rule, "rule_id", rule_id) | {"enabled": True})
    at_us = _moment(body, draft)
    serving, known = today.live.required(), today.directives.known
    shopper = shopper_of(today, body.ask.user_id, body.ask.session_id, at_us)
    asked = first_page(today, serving, shopper, body.ask, request_id(request))
    others = [rule for name, rule in known.rules.items() if name != rule_id]
    slates: list[dict[str, object]] = []
    for rules in (others, [*others, draft]):
        holding = in_force(rules, asked.ask.placement, at_us)
        # explorers differ by the list they draw from: what differs here is to be the rule's
        policy = asked.ask.policy.model_copy(update={"exploration": 0.0})
        tried = replace(asked, ask=replace(asked.ask, rules=holding, policy=policy))
        answer = asked.serving.recommender.recommend(tried.ask)
        shown = content(tried, answer) | {"removed": answer.removed, "rules": answer.fired}
        await add_descriptions(today, body.ask, shown)
        slates.append(shown)
    return answered(
        {
            "request_id": request_id(request),
            "at_us": at_us,
            "in_force": draft.holds(asked.ask.placement, at_us),
            "without_rule": slates[0],
            "with_rule": slates[1],
            "fired": slates[1]["rules"],
            "warnings": warnings.of_rule(draft, known, serving),
        }
    )


def _moment(body: PreviewBody, draft: Rule) -> int:
    if body.at is not None:
        return int(body.at.timestamp() * 1e6)
    begins_us = 0 if draft.starts_at is None else int(draft.starts_at.timestamp() * 1e6) + 1
    return max(now_us(), begins_us)


def _check_room(rule: Rule, rules: Iterable[Rule], now: int) -> None:
    """Each rule that may hold costs every request something."""
    others = [r for r in rules if r.rule_id != rule.rule_id and _may_hold(r, now)]
    if _may_hold(rule, now) and len(others) >= MAX_RULES:
        raise ApiError(
            422,
            f"found {len(others):,} rules that hold now or will, expected less than "
            f"{MAX_RULES:,}: delete or disable one that is not needed",
        )


def _may_hold(rule: Rule, now: int) -> bool:
    return rule.enabled and (rule.ends_at is None or rule.ends_at.timestamp() * 1e6 > now)


def _shown(today: Day, rule: Rule, now: int) -> dict[str, object]:
    place = rule.placements[0] if rule.placements else ""
    return {
        **rule.model_dump(mode="json"),
        "in_force": rule.holds(place, now),
        "fired": today.directives.fired[rule.rule_id],
    }


def _unknown(rule_id: str) -> ApiError:
    return ApiError(404, f"There is no rule {rule_id!r}. PUT /v1/rules/{{rule_id}} adds one.")
