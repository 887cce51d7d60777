"""An encoder cut in two: what the lower layers say of each text is computed once and kept."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from features.arrays import Int64Array
from features.errors import ConfigError
from recsys.progress import Progress
from recsys.training.encoder.base import PooledEncoder, precision
from recsys.training.encoder.tokens import CachedTokens


class CutEncoder:
    """An encoder cut below its top layers, of any architecture that loops over a ModuleList.

    `lower` gives the states at the cut, `upper` finishes them; `close` makes the encoder whole
    again, with whatever the top layers have learned.
    """

    def __init__(self, encoder: PooledEncoder, tuned_layers: int) -> None:
        self._encoder = encoder
        self._owner, self._name, self._layers = _find_layers(encoder)
        self._cut = len(self._layers) - tuned_layers
        self._others: int | None = None  # what a layer gives besides states; None: a bare tensor
        self.tuned = self._layers[self._cut :]
        encoder.requires_grad_(requires_grad=False)
        self.tuned.requires_grad_(requires_grad=True)
        self._check()

    def lower(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        self._install(self._layers[: self._cut])
        captured: list[Tensor | tuple[Tensor, ...]] = []
        hook = self._layers[self._cut - 1].register_forward_hook(
            lambda _module, _inputs, output: captured.append(output)
        )
        try:
            self._encoder(input_ids, attention_mask)
        finally:
            hook.remove()
            self.close()
        output = captured[0]
        if isinstance(output, Tensor):
            return output
        self._others = len(output) - 1
        return output[0]

    def upper(self, states: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The last untuned layer stays in the loop, answering with the cached states."""
        stand_in = self._layers[self._cut - 1]
        answer = states if self._others is None else (states, *[None] * self._others)
        stand_in.forward = lambda *_inputs, **_named: answer
        self._install(self._layers[self._cut - 1 :])
        try:
            vectors: Tensor = self._encoder(input_ids, attention_mask)
        finally:
            del stand_in.forward
            self.close()
        return vectors

    def close(self) -> None:
        self._install(self._layers)

    @torch.no_grad()
    def _check(self) -> None:
        """An architecture that does not survive the cut must not be tuned to nonsense."""
        ids = torch.arange(1, 9, device=self._encoder.model.device).reshape(2, 4)
        mask = torch.ones_like(ids)
        try:
            difference = self.upper(self.lower(ids, mask), ids, mask) - self._encoder(ids, mask)
        except (RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise NotImplementedError(f"the transformer cannot be cut ({error!r})") from error
        if not difference.abs().max() < 1e-4:
            raise NotImplementedError("the transformer's layers do more than follow each other")

    def _install(self, layers: nn.ModuleList) -> None:
        setattr(self._owner, self._name, layers)


def check_depth(encoder: PooledEncoder, tuned_layers: int) -> None:
    """Raises ConfigError where the encoder has too few layers for that many to be tuned."""
    depth = int(getattr(encoder.model.config, "num_hidden_layers", 0))
    if depth and not 0 < tuned_layers < depth:
        within = f"Set tuned_layers to 1 to {depth - 1}, or choose" if depth > 1 else "Choose"
        raise ConfigError(
            f"EncoderConfig: found tuned_layers={tuned_layers} and a base of depth {depth},"
            " expected fewer layers than that, as the lowest stays as it is."
            f" {within} the strategy `full` or `lora`."
        )


def _find_layers(encoder: PooledEncoder) -> tuple[nn.Module, str, nn.ModuleList]:
    depth = getattr(encoder.model.config, "num_hidden_layers", 0)
    for owner in encoder.model.modules():
        for name, child in owner.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == depth > 1:
                return owner, name, child
    raise NotImplementedError("no list of transformer layers to cut")


@dataclass(frozen=True, slots=True)
class CachedStates:
    """Every token's state at the cut."""

    tokens: CachedTokens
    states: Tensor  # (n_tokens, d) bfloat16

    def finished(self, cut: CutEncoder, rows: Int64Array) -> Tensor:
        """(len(rows), dim) unit vectors."""
        places, ids, mask = self.tokens.padded(rows)
        with precision(ids.device):
            return cut.upper(self.states[places].float(), ids, mask)


@torch.no_grad()
def cache_states(
    cut: CutEncoder, tokens: CachedTokens, dim: int, progress: Progress
) -> CachedStates:
    """Half the memory of fp32; the vectors agree at cosine .9999."""
    device = tokens.input_ids.device
    states = torch.empty((len(tokens.input_ids), dim), dtype=torch.bfloat16, device=device)
    chunks = tokens.chunks(np.arange(len(tokens)))
    for chunk in progress.track(chunks, total=len(chunks), label="encoder: lower layers"):
        places, ids, mask = tokens.padded(chunk)
        with precision(device):
            hidden = cut.lower(ids, mask)
        kept = mask.bool()
        states[places[kept]] = hidden[kept].to(torch.bfloat16)
    return CachedStates(tokens, states)
