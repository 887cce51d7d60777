"""One encoder's robustness and bias, side by side with another's on the same texts and shoppers."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from features.arrays import Float32Array
from recsys.evaluation.bootstrap import Interval
from recsys.evaluation.next_item import NextItems, rank_next_items
from recsys.evaluation.text_bias import (
    BiasReport,
    GroupChange,
    group_changes,
    item_groups,
    text_bias,
)
from recsys.evaluation.text_quality import (
    Figure,
    QualityConfig,
    WordSpace,
    differences,
    score_text,
    summary,
)
from recsys.progress import Progress
from recsys.retrieval.text_space import TextSpace

MAX_SHOPPERS = 5_000  # ±.004 of a mean percentile; ranking them among 12,000 items takes 5 s


@dataclass(frozen=True, slots=True)
class AuditedText:
    """A name people know it by, where words find items, and where taste lives."""

    name: str
    words: WordSpace
    taste: Float32Array  # (n_items, d)

    @classmethod
    def of(cls, name: str, space: TextSpace) -> "AuditedText":
        words = WordSpace(
            lambda texts: space.embed_items(texts).words, space.embed_queries, space.words.vectors
        )
        return cls(name, words, space.taste.vectors)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextAudit:
    """What was found; everything about a baseline is empty without one."""

    subject: str
    baseline_name: str | None
    figures: dict[str, Figure]  # by measure of text_quality
    baseline: dict[str, Figure]
    differences: dict[str, Interval]  # subject minus baseline, in pairs
    bias: BiasReport
    baseline_bias: BiasReport | None
    group_changes: tuple[GroupChange, ...]  # worst first
    unseen: bool = True  # the shoppers asked took their next items after all training


def audit_text(
    subject: AuditedText,
    items: pl.DataFrame,
    asked: NextItems,
    config: QualityConfig,
    progress: Progress,
    *,
    baseline: AuditedText | None = None,
) -> TextAudit:
    """`items` are ITEM_SCHEMA rows in the order of the vectors; `asked` names their rows."""
    if len(asked) > MAX_SHOPPERS:
        rng = np.random.default_rng(config.seed)
        asked = asked.take(np.sort(rng.choice(len(asked), MAX_SHOPPERS, replace=False)))
    sides = [subject] if baseline is None else [subject, baseline]
    scores, rankings = [], []
    for side in sides:
        progress.say(f"text audit: words and shoppers asked of {side.name}")
        scores.append(score_text(side.words, items, config))
        rankings.append(rank_next_items(side.taste, asked))
    groups = item_groups(items)
    biases = [text_bias(ranking, asked, groups, seed=config.seed) for ranking in rankings]
    changes: tuple[GroupChange, ...] = ()
    if baseline is not None:
        changes = group_changes(rankings[0], rankings[1], asked, groups, seed=config.seed)
    return TextAudit(
        subject=subject.name,
        baseline_name=baseline.name if baseline else None,
        figures=summary(scores[0]),
        baseline=summary(scores[1]) if baseline else {},
        differences=differences(scores[0], scores[1]) if baseline else {},
        bias=biases[0],
        baseline_bias=biases[1] if baseline else None,
        group_changes=changes,
    )
