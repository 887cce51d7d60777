from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from recsys.experiments.interleaving import COMMON, Draft, drafted, team_draft
from recsys.types import Answer, Slate

RANKINGS = st.lists(st.sampled_from("abcdefghij"), unique=True, max_size=8)
A, B = "abcdef", "fedxyz"


def items(draft: Draft, a: str | list[str], b: str | list[str]) -> list[str]:
    return [(a, b)[side][place] for side, place in zip(draft.sides, draft.places, strict=True)]


@given(RANKINGS, RANKINGS, st.integers(0, 12), st.integers(0, 2**64 - 1))
def test_every_item_stands_once_and_the_slate_is_as_long_as_it_can_be(
    a: list[str], b: list[str], k: int, seed: int
) -> None:
    draft = team_draft(a, b, k, seed=seed)
    found = items(draft, a, b)
    assert len({*found}) == len(found) == len(draft.teams) == min(k, len({*a, *b}))


@given(RANKINGS, RANKINGS, st.integers(0, 12), st.integers(0, 2**64 - 1))
def test_what_both_show_at_a_position_stays_there_for_nobody(
    a: list[str], b: list[str], k: int, seed: int
) -> None:
    draft = team_draft(a, b, k, seed=seed)
    found = items(draft, a, b)
    for at, team in enumerate(draft.teams):
        both = at < min(len(a), len(b)) and a[at] == b[at]
        assert (team == COMMON) == both
        assert not both or found[at] == a[at]
        assert both or team == "AB"[draft.sides[at]]


@given(RANKINGS, RANKINGS, st.integers(0, 2**64 - 1))
def test_each_team_picks_the_best_of_its_ranking_that_is_left(
    a: list[str], b: list[str], seed: int
) -> None:
    draft = team_draft(a, b, 8, seed=seed)
    found = items(draft, a, b)
    kept = {item for item, team in zip(found, draft.teams, strict=True) if team == COMMON}
    for at, (item, team) in enumerate(zip(found, draft.teams, strict=True)):
        if team != COMMON:
            left = (x for x in (a, b)["AB".index(team)] if x not in kept.union(found[:at]))
            assert item == next(left)


@given(st.integers(0, 2**64 - 1))
def test_the_teams_take_turns_in_rounds_of_two(seed: int) -> None:
    teams = team_draft("abcdef", "uvwxyz", 6, seed=seed).teams
    assert {teams[at : at + 2] for at in (0, 2, 4)} <= {"AB", "BA"}
    pinned = team_draft("apbc", "xpyz", 4, seed=seed).teams
    assert pinned[1] == COMMON
    assert {pinned[0], pinned[2]} == {"A", "B"}, "what is pinned is nobody's turn"


def test_the_coin_of_every_round_is_fair_and_its_own() -> None:
    n = 4_000
    firsts = np.array(
        [
            [teams[0] == "A", teams[2] == "A"]
            for teams in (team_draft("abcd", "wxyz", 4, seed=seed).teams for seed in range(n))
        ]
    )
    for heads in firsts.sum(axis=0):
        assert stats.binomtest(int(heads), n).pvalue > 0.001
    assert stats.binomtest(int((firsts[:, 0] == firsts[:, 1]).sum()), n).pvalue > 0.001


def test_two_equal_rankings_earn_nobody_anything() -> None:
    assert team_draft(A, A, 5, seed=1) == Draft((0,) * 5, tuple(range(5)), COMMON * 5)


def test_a_shorter_ranking_is_made_up_by_the_other() -> None:
    for seed in range(20):
        draft = team_draft("a", "vwxyz", 6, seed=seed)
        assert sorted(items(draft, "a", "vwxyz")) == [*"avwxyz"]
        assert draft.teams.count("A") == 1
        assert team_draft("", "xyz", 3, seed=seed).teams == "BBB"
        assert team_draft("xyz", "", 2, seed=seed).teams == "AA"
    assert team_draft("", "", 3, seed=1) == Draft((), (), "")


def answer(ranking: str, base: float, **changes: object) -> Answer:
    """Whose numbers say which item of which ranking they belong to."""
    n = len(ranking)
    numbers = base + np.arange(n, dtype=np.float32)
    given: dict[str, object] = {
        "item_ids": tuple(ranking),
        "slate": Slate(
            item_rows=np.array([ord(item) for item in ranking], np.int32),
            scores=numbers,
            propensities=np.full(n, 0.5, np.float32),
            probabilities=np.stack([numbers, -numbers], axis=1),
            features=numbers[:, None] + 0.25,
            source_scores=numbers[:, None] + 0.5,
        ),
        "reasons": tuple((f"{item}{base:g}",) for item in ranking),
        "explanations": tuple({"of": f"{item}{base:g}"} for item in ranking),
        "about_item_ids": (),
        "degraded": ("sources",),
        "fallbacks": (),
        "fired": {"rule": 1},
        "removed": {},
        "stage_ms": {"rank": 2.0},
    }
    return Answer(**given | changes)  # type: ignore[arg-type]


def test_drafted_items_keep_the_numbers_of_their_ranking() -> None:
    a, b = answer(A, 0.0), answer(B, 100.0, degraded=("sources", "ranker"), fired={"other": 2})
    found = drafted(a, b, 5, request_id="r1")
    assert found.teams is not None
    assert len(found.item_ids) == len(found.reasons) == len(found.teams) == 5
    for at, (item, team) in enumerate(zip(found.item_ids, found.teams, strict=True)):
        ranking, base = (A, 0.0) if team == "A" else (B, 100.0)
        number = base + ranking.index(item)
        assert found.slate.item_rows[at] == ord(item)
        assert found.slate.scores[at] == number
        assert found.slate.probabilities[at].tolist() == [number, -number]
        assert found.slate.features[at, 0] == number + 0.25
        assert found.slate.source_scores[at, 0] == number + 0.5
        assert found.reasons[at] == (f"{item}{base:g}",)
        assert found.explanations is not None
        assert found.explanations[at] == {"of": f"{item}{base:g}"}
    assert np.isnan(found.slate.propensities).all(), "the chance of a place was not counted"
    assert found.degraded == ("sources", "ranker")
    assert found.fired == {"rule": 1, "other": 2}
    assert found.stage_ms == {"rank": 4.0}
    for column in fields(Slate):
        ours, theirs = getattr(found.slate, column.name), getattr(a.slate, column.name)
        assert (ours.dtype, len(ours)) == (theirs.dtype, 5)


def test_a_request_is_drafted_alike_whoever_asks_and_others_are_not() -> None:
    a, b = answer(A, 0.0), answer(B, 100.0)
    slates = {drafted(a, b, 6, request_id=f"r{n}").item_ids for n in range(40)}
    assert len(slates) > 4, "3 rounds have up to 8 outcomes"
    assert len({drafted(a, b, 6, request_id="r1").item_ids for _ in range(3)}) == 1


def test_slates_without_explanations_stay_without() -> None:
    a, b = answer(A, 0.0, explanations=None), answer(B, 100.0)
    assert drafted(a, b, 4, request_id="r1").explanations is None


@pytest.mark.parametrize("k", [1, 3])
def test_few_positions_go_to_both_rankings_over_many_requests(k: int) -> None:
    teams = "".join(team_draft(A, B, k, seed=seed).teams for seed in range(2_000))
    assert stats.binomtest(teams.count("A"), len(teams)).pvalue > 0.001
