"""From what tuning found to which encoder is shipped, and why."""

from dataclasses import dataclass, replace

import numpy as np

from features.arrays import Float32Array
from recsys.training.encoder.config import EncoderConfig, EncoderReport, NeighbourExample
from recsys.training.encoder.drift import anchor_similarity, neighbour_examples
from recsys.training.encoder.tuning import Tuned
from recsys.training.encoder.tuning_plan import TuningPlan
from recsys.training.encoder.validation import Recalls

EXAMPLES = 8
SMOOTHED = 10  # steps whose mean is the first and the last loss


@dataclass(frozen=True, slots=True)
class Outcome:
    """Tells an encoder begun at its base from a live one that was continued."""

    base: str
    config: EncoderConfig
    is_continued: bool

    def acceptable(self, start: Recalls, later: Recalls) -> bool:
        """Whether more is found than luck explains, and not at the cost of old items."""
        return later.is_gain_over(start) and self._spares_old(start, later)

    def _spares_old(self, start: Recalls, later: Recalls) -> bool:
        if not self.is_continued or start.old is None or later.old is None:
            return True
        return later.old >= start.old * (1 - self.config.old_tolerance)

    def unchanged(self, why: str) -> EncoderReport:
        verdict = "live encoder kept" if self.is_continued else "base encoder shipped"
        return EncoderReport(
            base=self.base,
            digest="",
            tuned=False,
            shipped="kept" if self.is_continued else "base",
            reason=f"{verdict}: {why}",
            strategy=self.config.strategy,
        )

    def report(self, tuned: Tuned, plan: TuningPlan) -> EncoderReport:
        start = tuned.start
        after = tuned.best.recalls if tuned.best.step else tuned.highest
        losses = [point.loss for point in tuned.curve]
        report = self._with_figures(tuned, after)
        return replace(
            report,
            texts_encoded=tuned.texts_encoded,
            texts_per_second=tuned.texts_per_second,
            steps=len(tuned.curve),
            best_step=tuned.best.step,
            stopped_early=tuned.stopped_early,
            start_recall=start.recalls.all,
            validation_questions=start.recalls.n,
            recall_new_before=start.recalls.new,
            recall_old_before=start.recalls.old,
            first_loss=float(np.mean(losses[:SMOOTHED])) if losses else None,
            last_loss=float(np.mean(losses[-SMOOTHED:])) if losses else None,
            temperature=tuned.temperature,
            curve=tuned.curve,
            anchor_similarity=_similarity(tuned.anchors, tuned, plan) if report.tuned else None,
            start_similarity=_similarity(start.vectors, tuned, plan) if report.tuned else None,
            examples=_examples(tuned, plan, self.config.seed) if report.tuned else (),
        )

    def _with_figures(self, tuned: Tuned, after: Recalls | None) -> EncoderReport:
        """The verdict, and the recalls it rests on."""
        if tuned.diverged_at is not None:
            return self.unchanged(
                f"tuning diverged at step {tuned.diverged_at}; learning_rate"
                f" {self.config.rate:g} is too high"
            )
        if not tuned.curve or after is None:
            return self.unchanged("no batch has a question with a wrong answer left")
        if tuned.best.step:
            report = self._changed(self._compared(tuned.start.recalls, after))
        else:
            report = self.unchanged(self._compared(tuned.start.recalls, after))
        return replace(
            report,
            tuned_recall=after.all,
            recall_new_after=after.new,
            recall_old_after=after.old,
        )

    def _changed(self, why: str) -> EncoderReport:
        name = "continued" if self.is_continued else "tuned"
        return replace(
            self.unchanged(""),
            tuned=True,
            shipped="continued" if self.is_continued else "tuned",
            reason=f"{name} encoder shipped: {why}",
        )

    def _compared(self, start: Recalls, after: Recalls) -> str:
        learned, begun = ("continued", "live") if self.is_continued else ("tuned", "frozen")
        _, error = after.gain_over(start)
        compared = f"recall@10 {after.all:.4f} {learned}, {start.all:.4f} {begun}, ± {error:.4f}"
        if self._spares_old(start, after) or start.old is None or after.old is None:
            return compared
        return (
            f"{compared}, but on old items {after.old:.4f}, {start.old:.4f} {begun}, of which"
            f" {self.config.old_tolerance:.0%} may be lost"
        )


def _similarity(earlier: Float32Array, tuned: Tuned, plan: TuningPlan) -> float | None:
    return anchor_similarity(earlier, tuned.best.vectors, plan.unseen)


def _examples(tuned: Tuned, plan: TuningPlan, seed: int) -> tuple[NeighbourExample, ...]:
    asked = plan.position[plan.validation.items]
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(asked, min(EXAMPLES, len(asked)), replace=False))
    return neighbour_examples(tuned.start.vectors, tuned.best.vectors, plan.items, chosen)
