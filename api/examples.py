"""What answers look like, for the documentation: answers of a small shop, shortened."""

from typing import Any

from api.experiment_bodies import DESIGN
from recsys.experiments.experiment import Experiment

_ID = "019ab3f0c2d15f1c2e8a90d47b63c0aa"  # request_id
_NEXT_ID = "019ab3f0d90a1b7f66c2e0419d538fe1"
_RELEASE = "2026-01-31T030000-4f1c"


def _slate(request_id: str, placement: str, *item_ids: str, has_next: bool) -> dict[str, Any]:
    return {
        "request_id": request_id,
        "placement": placement,
        "items": [
            {"item_id": item_id, "score": round(0.31 - 0.04 * position, 2), "reasons": ["new"]}
            for position, item_id in enumerate(item_ids)
        ],
        "about_item_ids": [],
        "release_id": _RELEASE,
        "experiments": [],
        "degraded": [],
        "fallbacks": [],
        "missing_ids": [],
        "has_next": has_next,
    }


_LAMP: dict[str, Any] = {
    "item_id": "lamp-4",
    "title": "Brass reading lamp",
    "description": "Warm light, dimmable, for the bedside.",
    "tags": ["lighting", "bedroom"],
    "attributes": {"brand": "Lumo", "price": 59.0},
    "available": True,
    "published_at": "2026-01-30T09:00:00Z",
}
_PLACEMENT: dict[str, Any] = {
    "name": "cart-page",
    "description": "The strip above the footer",
    "k": 6,
    "filter": "available = true and price < 50",
    "needs_context": False,
    "policy": {"diversity": 0.3},
    "stored": True,
}
_RULE: dict[str, Any] = {
    "rule_id": "spring-sale",
    "description": "Sale of the week",
    "placements": ["home"],
    "context": None,
    "starts_at": "2026-03-20T00:00:00Z",
    "ends_at": "2026-03-27T00:00:00Z",
    "enabled": True,
    "then": {"action": "boost", "where": "tags = 'sale'", "strength": 0.3},
    "in_force": True,
    "fired": 4210,
}
_USER: dict[str, Any] = {"user_id": "u-17", "attributes": {"country": "NL", "likes": ["lamps"]}}
_TIME_US = 1_769_850_000_000_000
_PHASE: dict[str, Any] = {
    "number": 1,
    "started_at": "2026-01-31T09:00:00Z",
    "seed": "variety",
    "unit": "shopper",
    "weights": [0.5, 0.5],
}
_EXPERIMENT: dict[str, Any] = Experiment.model_validate(
    {
        "design": {"name": "variety", **DESIGN},
        "status": "running",
        "phases": [_PHASE],
        "log": [
            {"at": "2026-01-30T16:00:00Z", "action": "drafted"},
            {"at": "2026-01-31T09:00:00Z", "action": "started", "reason": "phase 1"},
        ],
    }
).model_dump(mode="json")


ANSWERS: dict[str, dict[str, Any]] = {
    "RecommendAnswer": _slate(_ID, "home", "lamp-4", "lamp-2", has_next=True),
    "SlateAnswer": _slate(_NEXT_ID, "home", "lamp-1", has_next=False),
    "ManyAnswer": {
        "slates": [
            _slate(f"{_ID}-0", "home", "lamp-4", has_next=True),
            _slate(f"{_ID}-1", "trending", "lamp-2", has_next=True),
        ]
    },
    "EventsAnswer": {
        "accepted": 1,
        "duplicate": 0,
        "rejected": 1,
        "verdicts": [
            {"index": 0, "event_id": "e-1", "verdict": "accepted", "attribution": "ok"},
            {
                "index": 1,
                "event_id": "e-2",
                "verdict": "rejected",
                "reason": 'event_type is "dance", expected one of view, click, purchase',
            },
        ],
        "missing_ids": [],
    },
    "PlacementsAnswer": {"placements": [_PLACEMENT]},
    "PlacementAnswer": _PLACEMENT,
    "PlacementWritten": {**_PLACEMENT, "changed": True, "warnings": []},
    "ExperimentsAnswer": {"experiments": [_EXPERIMENT], "unreadable": {}},
    "ExperimentAnswer": _EXPERIMENT,
    "WouldGetAnswer": {
        "experiment": "variety",
        "unit_id": "u-17",
        "placement": "home",
        "variant": "varied",
        "how": "hash",
    },
    "ReportAnswer": {"report": {"experiment": "variety", "status": "collecting"}},
    "HoldoutAnswer": {"share": 0.05, "salt": "holdout"},
    "RulesAnswer": {"rules": [_RULE], "unreadable": {}},
    "RuleAnswer": _RULE,
    "RuleWritten": {**_RULE, "changed": True, "warnings": []},
    "PreviewAnswer": {
        "at_us": _TIME_US,
        "in_force": True,
        "without_rule": _slate(_ID, "home", "lamp-2", "lamp-4", has_next=False),
        "with_rule": _slate(_ID, "home", "lamp-4", "lamp-2", has_next=False),
        "fired": {"spring-sale": 1},
        "warnings": [],
    },
    "Deleted": {"name": "spring-sale", "deleted": True},
    "ItemStored": {"item_id": "lamp-4", "changed": True, "retrievable": True},
    "Item": _LAMP,
    "ItemPage": {"items": [_LAMP], "next": "lamp-4"},
    "ItemDeleted": {"item_id": "lamp-4", "deleted": True},
    "UserStored": {"user_id": "u-17", "changed": True},
    "User": _USER,
    "UserPage": {"users": [_USER], "next": None},
    "SessionLinked": {"session_id": "s-4", "user_id": "u-17", "linked": True},
    "UserExport": {
        **_USER,
        "session_ids": ["s-4"],
        "events": [
            {
                "event_id": "e-1",
                "user_id": "u-17",
                "session_id": "s-4",
                "item_id": "lamp-4",
                "event_type": "click",
                "event_time_us": _TIME_US,
                "request_id": _ID,
                "value": None,
                "received_at_us": _TIME_US + 2_000,
            }
        ],
        "slates": [
            {
                "request_id": _ID,
                "user_id": "u-17",
                "session_id": "s-4",
                "placement": "home",
                "shown_at_us": _TIME_US - 9_000_000,
                "release_id": _RELEASE,
                "first_position": 0,
                "item_ids": ["lamp-4", "lamp-2"],
            }
        ],
        "assignments": [],
        "pages": [],
    },
    "ErasureAnswer": {
        "receipt_id": "417b357dfd7e2b2a5d3169230086c992",
        "status": "pending",
        "erased": {"events": 12, "slates": 4, "pages": 1, "session_links": 1, "users": 1},
        "lake_rows": None,
        "requested_at": "2026-01-31T09:00:00Z",
        "completed_at": None,
    },
    "BulkAnswer": {
        "lines": 3,
        "changed": 1,
        "unchanged": 1,
        "rejected": 1,
        "rejected_lines": [{"line": 3, "reason": "item_id: Input should be a valid string"}],
        "more_rejected": 0,
        "note": "Stored.",
    },
    "Alive": {"status": "alive"},
    "Ready": {
        "status": "ready",
        "release_id": _RELEASE,
        "release_age_s": 21_600.0,
        "items": 12_101,
        "refused": [],
        "unreadable": {},
        "slates": {"waiting": 0, "written": 91_234, "dropped": 0, "lost": 0},
        "events_waiting": 0,
    },
}


def example(answer: str) -> dict[str, Any]:
    """Of the answer by this name; KeyError for one that has none yet."""
    return {"request_id": _ID, **ANSWERS[answer]}
