"""What one tuning will read: its batches, the shoppers held out, and the items both need."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from features.arrays import Float32Array, Int32Array, Int64Array
from recsys.retrieval.whitening import Whitening
from recsys.training.encoder.batches import ContrastiveData, PlannedBatch, plan_batches
from recsys.training.encoder.config import EncoderConfig
from recsys.training.encoder.sequences import DistinctSequences
from recsys.training.encoder.validation import Recalls, Validation, held_out_users


@dataclass(frozen=True, slots=True)
class TuningPlan:
    """Positions in `items` are the rows that a strategy encodes."""

    data: ContrastiveData
    batches: list[PlannedBatch]
    validation: Validation
    items: Int64Array  # item rows that tuning or validation needs, ascending
    position: Int64Array  # (n_items,) where an item row is in `items`, -1 where it is not needed

    @classmethod
    def of(
        cls,
        texts: Sequence[str],
        sequences: DistinctSequences,
        config: EncoderConfig,
        categories: Int32Array | None,
        since_us: int | None,
    ) -> "TuningPlan":
        """With `since_us` the batches are about what was first met then or later."""
        rng = np.random.default_rng(config.seed)
        asked, training = held_out_users(sequences)
        validation = Validation.of(sequences, asked, since_us)
        data = ContrastiveData.of(texts, sequences.only(training), config.rules, categories)
        batches = plan_batches(
            data,
            training,
            max_texts=_budget(data.sequences, config, since_us),
            rng=rng,
            since_us=since_us,
            replay=config.replay if since_us is not None else 0.0,
        )
        items = np.unique(np.concatenate([validation.items, *(batch.items for batch in batches)]))
        position = np.full(len(texts), -1, np.int64)
        position[items] = np.arange(len(items))
        return cls(data, batches, validation, items, position)

    @property
    def unseen(self) -> Int64Array:
        """Positions of held-out shoppers' items that no batch encodes; all theirs if none is."""
        asked = self.validation.items
        taught = np.concatenate([asked[:0], *(batch.items for batch in self.batches)])
        unseen = np.setdiff1d(asked, taught)
        return self.position[unseen if len(unseen) else asked]

    def recalls(self, vectors: Float32Array) -> Recalls:
        """`vectors` (len(items), d) as the encoder gives them."""
        return self.validation.recall(Whitening.fit(vectors)(vectors), self.position)


def _budget(sequences: DistinctSequences, config: EncoderConfig, since_us: int | None) -> int:
    """Texts: at most `epochs` of each item that the visited shoppers have met."""
    if since_us is not None:
        sequences = sequences.only(sequences.users_since(since_us))
    return min(config.max_texts, int(config.epochs * len(np.unique(sequences.item_rows))))
