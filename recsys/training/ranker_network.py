"""What the ranker is while it learns: networks, the pull of positions, and the listwise loss."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from features.arrays import Float32Array, Int64Array
from recsys.ranking.ranker import CLIP
from recsys.training.queries import RankingRows

MOST_POSITIONS = 50  # further down a page all places pull alike


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded queries: (q, c, f) features, (q, c, a) labels, (q, c) real slots and positions."""

    features: Tensor
    labels: Tensor
    real: Tensor
    positions: Tensor  # -1 where no slate was shown
    weights: Tensor  # (q,)


class Batches:
    """Standardised rows, handed out as padded batches; slates weigh `slate_weight`."""

    def __init__(
        self, rows: RankingRows, mean: Float32Array, scale: Float32Array, slate_weight: float
    ) -> None:
        scaled = rows.features - mean
        scaled *= scale  # in place, as below: at 30,000 queries the matrix is over a gigabyte
        np.clip(scaled, -CLIP, CLIP, out=scaled)
        scaled[np.isnan(scaled)] = 0.0
        self._features = torch.from_numpy(scaled)
        self._labels = torch.from_numpy(rows.labels)
        self._positions = torch.from_numpy(rows.positions.astype(np.int64))
        self._weights = torch.from_numpy(
            np.where(rows.of_slates, slate_weight, 1.0).astype(np.float32)
        )
        self._offsets = rows.offsets

    def of(self, queries: Int64Array) -> Batch:
        sizes = self._offsets[queries + 1] - self._offsets[queries]
        slots = np.arange(int(sizes.max()))[None, :]
        real = slots < sizes[:, None]
        index = torch.from_numpy(np.where(real, self._offsets[queries][:, None] + slots, 0))
        return Batch(
            features=self._features[index],
            labels=self._labels[index],
            real=torch.from_numpy(real),
            positions=self._positions[index],
            weights=self._weights[torch.from_numpy(queries)],
        )


class Networks(nn.Module):
    """An ensemble, and one pull a position that is added to every logit of what was shown there.

    Additive towers (Zhao et al. 2019) in a softmax over the slate mean P(action) = P(looks there) ·
    P(action | looks). Whatever the action, it takes a look, so one table serves all of them.
    """

    def __init__(
        self,
        n_features: int,
        n_actions: int,
        hidden: tuple[int, ...],
        dropout: float,
        ensemble: int,
    ) -> None:
        super().__init__()
        widths = (n_features, *hidden)
        self.networks = nn.ModuleList(_network(widths, n_actions, dropout) for _ in range(ensemble))
        self.pull = nn.Parameter(torch.zeros(MOST_POSITIONS))

    def forward(self, batch: Batch) -> Tensor:
        """(networks, q, c, a) logits."""
        slot = batch.positions.clamp(0, MOST_POSITIONS - 1)
        pull = torch.where(batch.positions >= 0, self.pull[slot], 0.0)
        own = torch.stack([network(batch.features) for network in self.networks])
        logits: Tensor = own + pull[None, :, :, None]
        return logits

    def pulls(self) -> Float32Array:
        """(MOST_POSITIONS,) against the first position."""
        pull = self.pull.detach().numpy()
        return np.asarray(pull - pull[0], np.float32)


def _network(widths: tuple[int, ...], n_actions: int, dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width, hidden in pairwise(widths):
        layers += [nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(widths[-1], n_actions))


def losses(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """(networks,) sums over queries and the actions they have of -Σ y/Σy · log softmax; weight.

    The weight is never zero, though all of a batch may be slates that weigh nothing.
    """
    masked = logits.masked_fill(~batch.real[None, :, :, None], -1e9)
    log_share = torch.log_softmax(masked, dim=2)
    labels = batch.labels * batch.real[:, :, None]
    total = labels.sum(dim=1)
    loss = -(labels * log_share).sum(dim=2) / total.clamp(min=1.0)
    weight = batch.weights[:, None] * (total > 0)
    return (loss * weight).sum(dim=(1, 2)), weight.sum().clamp(min=1e-9)


@torch.no_grad()
def validation_loss(
    networks: Networks, data: Batches, queries: Int64Array, batch_queries: int
) -> float:
    """Of the mean of the networks' logits, which is what will be served."""
    networks.eval()
    total, weight = 0.0, 0.0
    for part in np.array_split(queries, max(1, -(-len(queries) // batch_queries))):
        batch = data.of(part)
        found, n = losses(networks(batch).mean(dim=0, keepdim=True), batch)
        total, weight = total + float(found), weight + float(n)
    return total / weight
