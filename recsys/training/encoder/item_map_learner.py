"""How a map of items learns: softmax over drawn items, step by step away from the whitening."""

import math

import torch
from torch import Tensor, nn

from features.arrays import Float32Array, Int64Array
from recsys.retrieval.whitening import Whitening
from recsys.training.encoder.base import compute_device
from recsys.training.encoder.item_map_batches import MapBatch
from recsys.training.encoder.pace import MIN_TEMPERATURE, TEMPERATURE_LEARNING_RATE, rate_factor


class MapLearner:
    """The map as the whitening times a square matrix, which starts as the identity."""

    def __init__(
        self,
        raw: Float32Array,
        whitening: Whitening,
        *,
        n_steps: int,
        learning_rate: float,
        decay_to_start: float,
        temperature: float,
    ) -> None:
        self._device = compute_device()
        self._raw = raw
        self._mean = whitening.mean
        self._decay = decay_to_start
        self._start = torch.from_numpy(whitening.projection).to(self._device)
        self._identity = torch.eye(self._start.shape[1], device=self._device)
        self._matrix = nn.Parameter(self._identity.clone())
        self._log_temperature = nn.Parameter(
            torch.tensor(math.log(temperature), device=self._device)
        )
        self._optimizer = torch.optim.Adam(
            [
                {"params": [self._matrix], "lr": learning_rate},
                {"params": [self._log_temperature], "lr": TEMPERATURE_LEARNING_RATE},
            ]
        )
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, rate_factor(n_steps))

    @property
    def temperature(self) -> float:
        return math.exp(self._log_temperature.item())

    @torch.no_grad()
    def map(self) -> Whitening:
        """What was learned so far; NaN or inf where the learning rate was far too high."""
        return Whitening(self._mean, (self._start @ self._matrix).cpu().numpy())

    def step(self, batch: MapBatch) -> float:
        """One step against softmax cross-entropy; returns it."""
        vectors = self._vectors(batch.items)
        weights = torch.from_numpy(batch.weights).to(self._device)
        queries = nn.functional.normalize(weights @ vectors[: weights.shape[1]], dim=1)
        excluded = torch.from_numpy(batch.excluded).to(self._device)
        logits = queries @ vectors.T / self._log_temperature.exp()
        targets = torch.from_numpy(batch.targets).to(self._device)
        losses = nn.functional.cross_entropy(
            logits.masked_fill(excluded, -torch.inf), targets, reduction="none"
        )
        loss = (losses * torch.from_numpy(batch.question_weights).to(self._device)).mean()
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._pull_back()
        self._schedule.step()
        return loss.item()

    def _vectors(self, items: Int64Array) -> Tensor:
        rows = torch.from_numpy(self._raw[items] - self._mean).to(self._device)
        return nn.functional.normalize(rows @ (self._start @ self._matrix), dim=1)

    @torch.no_grad()
    def _pull_back(self) -> None:
        rate = self._schedule.get_last_lr()[0]
        self._matrix.lerp_(self._identity, min(1.0, rate * self._decay))
        self._log_temperature.clamp_(min=math.log(MIN_TEMPERATURE))
