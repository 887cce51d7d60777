"""What the encoder's training is told, and what it says afterwards."""

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from features.errors import ConfigError
from recsys.training.encoder.negatives import BatchRules
from recsys.training.encoder.pace import MIN_TEMPERATURE

Strategy = Literal["frozen", "top_layers", "lora", "full"]
Shipped = Literal["base", "tuned", "kept", "continued"]
# top_layers on Beauty, one seed, no anchor, held-out recall@10 and similarity to the base: frozen
# .0772, 1e-4 .0831 and .89, 2e-4 .0841 and .83; the others are what people start them with
LEARNING_RATES = {"frozen": 0.0, "top_layers": 2e-4, "lora": 1e-3, "full": 3e-5}
BOUNDS = {  # both ends are allowed
    "max_tokens": (4, 8_192),
    "tuned_layers": (0, 1_000),
    "lora_rank": (1, 1_024),
    "max_texts": (0, 10**9),
    "epochs": (0.0, 1_000.0),
    "learning_rate": (1e-9, math.inf),
    "temperature": (MIN_TEMPERATURE, 10.0),
    "anchor": (0.0, 1_000.0),
    "evaluate_every": (1, 10**9),
    "patience": (1, 10**9),
    "replay": (0.0, 0.95),
    "old_tolerance": (0.0, 1.0),
    "min_sequences": (2, 10**9),
    "seed": (0, 2**63 - 1),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """What to tune and how much; the defaults are measured in the module that uses them."""

    base: str | None = None  # a folder or a hub name; None is the embedded all-MiniLM-L6-v2
    max_tokens: int = 48  # twice the mean of a title with its tags
    query_prefix: str | None = None  # None: what the base's own configuration says
    passage_prefix: str | None = None
    strategy: Strategy = "top_layers"
    tuned_layers: int = 2  # of 6, for `top_layers`; 0 ships the base as it is
    lora_rank: int = 8
    rules: BatchRules = field(default_factory=BatchRules)
    max_texts: int = 20_000  # encoded while tuning; 140 CPU-seconds at 27 tokens a text
    epochs: float = 3.0  # at most so many texts per item, which keeps small shops fast
    learning_rate: float | None = None  # None: LEARNING_RATES has one for each strategy
    temperature: float = 0.12  # where the frozen encoder's loss is lowest (.10 to .20)
    # weight of the mean cosine distance from the base's vectors; on Beauty, at the rate 2e-4, 0.5
    # drifts half as far (similarity .91 for .83) for .0849 held-out recall@10 instead of .0841
    anchor: float = 0.5
    evaluate_every: int = 20  # steps between looks, of 78 on Beauty; a third of shorter tunings
    patience: int = 3  # looks without a higher recall before tuning stops; the first may be early
    replay: float = 0.5  # share of visits to shoppers without news, when continuing
    old_tolerance: float = 0.03  # of old items' recall; its standard error is .022 on Beauty
    min_sequences: int = 200  # shoppers with two items; fewer cannot even validate
    seed: int = 0

    def __post_init__(self) -> None:
        if self.strategy not in get_args(Strategy):
            raise ConfigError(
                f"EncoderConfig: strategy={self.strategy!r}, expected one of"
                f" {', '.join(get_args(Strategy))}. Correct the name."
            )
        for name, (low, high) in BOUNDS.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:  # NaN fails too
                raise ConfigError(
                    f"EncoderConfig: {name}={value}, expected {low} to {high}. Correct the value."
                )

    @property
    def tunes_nothing(self) -> bool:
        idle = self.strategy == "top_layers" and self.tuned_layers == 0
        return self.strategy == "frozen" or idle or min(self.max_texts, self.epochs) == 0

    @property
    def rate(self) -> float:
        return LEARNING_RATES[self.strategy] if self.learning_rate is None else self.learning_rate


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One step of tuning; the recall is None where nobody looked."""

    step: int
    loss: float
    validation_recall: float | None = None


@dataclass(frozen=True, slots=True)
class NeighbourExample:
    """The items nearest to one, nearest first, by whitened vectors."""

    item_row: int
    before: tuple[int, ...]
    after: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderReport:
    """Which encoder was shipped and why; recalls are those of next items at 10, whitened.

    They are asked of shoppers held out of the tuning. What tuning began with is the frozen base,
    or the live encoder where it was continued; "before" and "after" are about that.
    """

    base: str
    digest: str  # of the shipped weights, tokenizer and length
    tuned: bool  # tonight
    shipped: Shipped = "base"
    reason: str
    strategy: Strategy = "top_layers"
    texts_encoded: int = 0
    texts_per_second: float | None = None  # forwards and backwards, looks at validation left out
    cpu_seconds: float = 0.0  # of tuning, with the encodings before and after
    steps: int = 0
    best_step: int = 0
    stopped_early: bool = False
    start_recall: float | None = None  # of what tuning began with
    tuned_recall: float | None = None  # of the best step
    recall_new_before: float | None = None  # on items that nobody had met when it was last tuned
    recall_new_after: float | None = None
    recall_old_before: float | None = None
    recall_old_after: float | None = None
    validation_questions: int = 0
    anchor_similarity: float | None = None  # mean cosine with the base, centred; 1: no drift
    start_similarity: float | None = None  # the same with what tuning began with
    first_loss: float | None = None
    last_loss: float | None = None
    temperature: float | None = None
    curve: tuple[CurvePoint, ...] = ()
    examples: tuple[NeighbourExample, ...] = ()
    onnx_difference: float = math.nan
