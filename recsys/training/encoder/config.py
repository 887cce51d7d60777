"""What the encoder's training is told, and what it says afterwards."""

import math
from dataclasses import asdict, dataclass

from features.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """What to tune and how much; the defaults are measured in the module that uses them."""

    base: str | None = None  # a folder or a hub name; None is the embedded all-MiniLM-L6-v2
    max_tokens: int = 48  # twice the mean of a title with its tags
    tuned_layers: int = 2  # of 6; 0 ships the base as it is
    max_texts: int = 20_000  # encoded while tuning; 120 CPU-seconds at 27 tokens a text
    epochs: float = 3.0  # at most so many texts per item, which keeps small shops fast
    learning_rate: float = 1e-4
    temperature: float = 0.12  # where the frozen encoder's loss is lowest (.10 to .20)
    min_sequences: int = 200  # shoppers with two items; fewer cannot even validate
    seed: int = 0

    def __post_init__(self) -> None:
        positive = (self.max_tokens, self.learning_rate, self.temperature, self.min_sequences)
        if min(positive) <= 0 or min(self.tuned_layers, self.max_texts, self.epochs) < 0:
            raise ConfigError(
                f"EncoderConfig: expected positive sizes and rates, found {asdict(self)}."
                " Correct the negative or zero value."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderReport:
    """Which encoder was shipped and why; recalls are those of next items at 10, whitened."""

    base: str
    digest: str  # of the shipped weights, tokenizer and length
    tuned: bool
    reason: str
    texts_encoded: int = 0
    steps: int = 0
    frozen_recall: float | None = None
    tuned_recall: float | None = None
    validation_questions: int = 0
    first_loss: float | None = None
    last_loss: float | None = None
    temperature: float | None = None
    onnx_difference: float = math.nan
