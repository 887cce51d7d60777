"""Shoppers' sequences as contrastive batches: which items to encode and who is whose answer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from features.arrays import BoolArray, Float32Array, Int32Array, Int64Array
from features.errors import ConfigError
from features.history import STEP_DECAY
from recsys.training.encoder.negatives import BatchRules, Negatives
from recsys.training.encoder.sequences import DistinctSequences

HISTORY = 10  # items in a user query; STEP_DECAY^10 = 0.03 of the latest one's weight
WINDOW = 20  # items of one shopper in one batch, so that nobody fills it alone


@dataclass(frozen=True, slots=True)
class ContrastiveData:
    """Everything batches are built from; of training shoppers only, or validation would leak."""

    sequences: DistinctSequences
    negatives: Negatives
    rarity: Float32Array  # (n_items,) at most 1: what a question for this item weighs
    rules: BatchRules

    @classmethod
    def of(
        cls,
        texts: Sequence[str],
        sequences: DistinctSequences,
        rules: BatchRules,
        categories: Int32Array | None = None,
    ) -> "ContrastiveData":
        """`texts[row]` is the text of item row; `categories` (n_items,) has -1 for none."""
        negatives = Negatives.of(texts, sequences, rules, categories)
        rarity = np.ones(len(texts), np.float32)
        if rules.popularity_cap:
            asked = _times_asked(sequences, len(texts))
            rarity = np.minimum(rarity, rules.popularity_cap / np.maximum(asked, 1.0))
        return cls(sequences, negatives, rarity.astype(np.float32), rules)


@dataclass(frozen=True, slots=True)
class Visit:
    """A stretch of one shopper's sequence, at most WINDOW items."""

    user: int
    items: Int32Array
    weights: Float32Array  # of the events, one an item


@dataclass(frozen=True, slots=True)
class PlannedBatch:
    """What one step will encode, known before any of it is encoded."""

    visits: Sequence[Visit]
    hard: Int64Array  # further items, only there to be wrong

    @property
    def items(self) -> Int64Array:
        """(m,) distinct item rows, ascending."""
        return np.unique(np.concatenate([*(visit.items for visit in self.visits), self.hard]))


@dataclass(frozen=True, slots=True)
class ContrastiveBatch:
    """`weights @ item vectors` are the queries; query i's answer is column `targets[i]`.

    Every question has a wrong answer left; where none has, q is 0 and there is nothing to learn.
    """

    items: Int64Array  # (m,) unique item rows
    weights: Float32Array  # (q, m) rows sum to 1
    targets: Int64Array  # (q,)
    excluded: BoolArray  # (q, m) neither the answer nor wrong
    question_weights: Float32Array  # (q,) sum to q


def plan_batches(
    data: ContrastiveData,
    users: Int64Array,
    *,
    max_texts: int,
    rng: np.random.Generator,
    since_us: int | None = None,
    replay: float = 0.0,
) -> list[PlannedBatch]:
    """The batches of `plan_visits`, with hard negatives paid from the same budget."""
    visited, hard = data.rules.batch_items, data.rules.hard_negatives
    planned = plan_visits(
        data.sequences,
        users,
        batch_items=visited,
        max_texts=max_texts * visited // (visited + hard),
        rng=rng,
        since_us=since_us,
        replay=replay,
    )
    return [PlannedBatch(visits, _hard_negatives(data, visits, rng)) for visits in planned]


def plan_visits(
    sequences: DistinctSequences,
    users: Int64Array,
    *,
    batch_items: int,
    max_texts: int,
    rng: np.random.Generator,
    since_us: int | None = None,
    replay: float = 0.0,
) -> list[list[Visit]]:
    """Batches of visits that together encode about `max_texts` texts; every user once a round.

    A batch is full with `batch_items` texts, or half as many visits in a tiny catalogue.
    With `since_us` only shoppers with news are visited, in stretches that end in an item first
    met at `since_us` or later; `replay` of the visits, less than 1, go to the others.
    """
    if not 0 <= replay < 1:
        raise ConfigError(f"plan_visits: expected a replay share in [0, 1), found {replay}.")
    batches: list[list[Visit]] = []
    batch: list[Visit] = []
    seen: set[int] = set()
    encoded = 0
    for visit in _rounds(sequences, users, rng, since_us, replay):
        batch.append(visit)
        seen.update(visit.items.tolist())
        full = len(seen) >= min(batch_items, max_texts - encoded)
        if full or len(batch) >= batch_items // 2:
            batches.append(batch)
            encoded += len(seen)
            batch, seen = [], set()
        if encoded >= max_texts:
            break
    return batches


def _rounds(
    sequences: DistinctSequences,
    users: Int64Array,
    rng: np.random.Generator,
    since_us: int | None,
    replay: float,
) -> Iterator[Visit]:
    others = users[:0]
    if since_us is not None:
        has_news = np.isin(users, sequences.users_since(since_us))
        users, others = users[has_news], users[~has_news]
    n_replayed = min(len(others), round(len(users) * replay / (1 - replay)))
    while len(users):
        replayed = rng.choice(others, n_replayed, replace=False) if n_replayed else others[:0]
        for user in rng.permutation(np.concatenate([users, replayed])):
            yield _stretch(sequences, int(user), since_us, rng)


def _stretch(
    sequences: DistinctSequences, user: int, since_us: int | None, rng: np.random.Generator
) -> Visit:
    """At most WINDOW items that end at random, though not before the first new one."""
    items = sequences.items(user)
    first_new = 0
    if since_us is not None:
        first_new = int(np.searchsorted(sequences.times(user), since_us))
        first_new %= len(items)  # nothing is new: a replayed shopper, of whom any stretch will do
    earliest = max(min(WINDOW, len(items)), first_new + 1)
    end = earliest + int(rng.integers(len(items) - earliest + 1))
    start = max(0, end - WINDOW, first_new - HISTORY)  # older ones would be in no query about news
    return Visit(user, items[start:end], sequences.weights_of(user)[start:end])


def _hard_negatives(
    data: ContrastiveData, visits: Sequence[Visit], rng: np.random.Generator
) -> Int64Array:
    categories = data.negatives.categories
    if categories is None:
        return np.empty(0, np.int64)
    answers = np.concatenate([visit.items[1:] for visit in visits])
    taken = np.unique(np.concatenate([visit.items for visit in visits])).astype(np.int64)
    return categories.draw(answers, taken, data.rules.hard_negatives, rng)


def build_batch(planned: PlannedBatch, data: ContrastiveData) -> ContrastiveBatch:
    """All next-item questions of the visits over the batch's items that have a wrong answer."""
    items = planned.items
    weights, targets, asked, own = [], [], [], []
    for visit in planned.visits:
        columns = np.searchsorted(items, visit.items)
        rows = decayed_weights(len(columns))
        dense = np.zeros((len(rows), len(items)), np.float32)
        dense[:, columns] = rows
        weights.append(dense)
        targets.append(columns[1:])
        asked.append(visit.weights[1:])
        same = data.negatives.same_text(items, data.sequences.items(visit.user))
        own.append(np.broadcast_to(same, dense.shape))
    answer = np.concatenate(targets)
    excluded = np.concatenate(own) | data.negatives.forbidden(items)[answer]
    excluded[np.arange(len(answer)), answer] = False
    kept = np.flatnonzero((~excluded).sum(axis=1) > 1)
    answer = answer[kept]
    weight = np.concatenate(asked)[kept] * data.rarity[items[answer]]
    if len(weight):
        weight *= len(weight) / weight.sum()
    return ContrastiveBatch(items, np.concatenate(weights)[kept], answer, excluded[kept], weight)


def decayed_weights(length: int) -> Float32Array:
    """(length - 1, length): row i weighs items 0..i, the question before item i + 1."""
    age = np.arange(length - 1)[:, None] - np.arange(length)[None, :]
    weights = np.where((age >= 0) & (age < HISTORY), STEP_DECAY ** np.maximum(age, 0), 0.0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)


def _times_asked(sequences: DistinctSequences, n_items: int) -> Int64Array:
    """(n_items,) shoppers who met an item after another one."""
    later = np.ones(len(sequences.item_rows), bool)
    later[sequences.indptr[:-1][np.diff(sequences.indptr) > 0]] = False
    return np.bincount(sequences.item_rows[later], minlength=n_items)
