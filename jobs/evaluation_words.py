"""How an evaluation's names and figures are said to people who did not write it."""

from collections.abc import Mapping

from jobs.page_words import Report, spoken, written
from recsys.evaluation.trial import BASELINE

ARMS = {"ranker": "recommender", BASELINE: "popularity", "live": "live release"}
METRICS = {"ndcg": "nDCG", "mrr": "MRR", "map": "MAP"}
SURE = 0.05  # adjusted p-values below it are told as a finding
STARS = ((0.001, "***"), (0.01, "**"), (SURE, "*"))
STARS_EXPLAINED = (
    "p is the chance of a difference this large if the two were equal, found by swapping the pair "
    "of each shopper at random. Holm's adjustment makes it larger because several comparisons are "
    "made. Stars stand for the adjusted p: * below .05, ** below .01, *** below .001."
)
METRICS_EXPLAINED = (
    "Each is a mean over shoppers, from 0 to 1, larger is better. Recall@10: the share of what a "
    "shopper then took that is among the first ten. nDCG@10: the same with more weight near the "
    "top. Hit rate@10: the share of shoppers with any hit. MRR@10: one over the rank of the first "
    "hit. Precision@10: the share of the ten that are hits. MAP@10: precision at each hit."
)
BEYOND = {  # in BeyondAccuracy's order
    "answered": "share of shoppers who get a list at all",
    "coverage": "share of the catalogue that somebody is shown",
    "gini": "how unevenly items are shown: 0 all alike, 1 one item only",
    "novelty": "bits; more where fewer shoppers know the items",
    "popularity": "earlier shoppers of an item shown",
    "popularity_lift": "that, over the earlier shoppers of what was then taken; 1 is as asked for",
    "diversity": "how unlike the items of one list are; 0 all alike",
    "personalisation": "how unlike two shoppers' lists are; 0 the same, 1 nothing in common",
    "miscalibration": "nats; how far a list's tags are from the shopper's history; 0 not at all",
}


def arm(name: str) -> str:
    return ARMS.get(name, spoken(name))


def metric(name: str) -> str:
    kind, _, cut = name.partition("@")
    return f"{METRICS.get(kind, spoken(kind))}{'@' if cut else ''}{cut}"


def stars(p_holm: float | None) -> str:
    return next((mark for limit, mark in STARS if p_holm is not None and p_holm < limit), "")


def signed(value: float | None) -> str:
    text = written(value)
    return f"+{text}" if value is not None and value > 0 else text


def signed_interval(found: Mapping[str, float] | Report) -> str:
    return f"{signed(found['mean'])} [{signed(found['low'])}, {signed(found['high'])}]"
