"""Which of an encoder's weights learn from shoppers, and the quickest way to its vectors meanwhile.

`top_layers` computes the layers below once for each text; the others send every text through the
whole network at every step, forwards and backwards. CPU-seconds for 1,000 texts of Beauty (27
tokens, MiniLM, one thread of a busy machine) and peak memory of the process: top 2 layers 7.0 and
1.2 GB, LoRA 15.9 and 1.9 GB, full 21.9 and 2.4 GB; 0.5 GB of it before the encoder is loaded.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from features.arrays import Float32Array, Int64Array
from recsys.progress import Progress
from recsys.training.encoder.base import BaseEncoder, PooledEncoder, compute_device, precision
from recsys.training.encoder.config import EncoderConfig
from recsys.training.encoder.cut import CutEncoder, cache_states
from recsys.training.encoder.tokens import CachedTokens, all_vectors, encode_in_chunks

if TYPE_CHECKING:
    from peft import LoraModel


class Strategy(Protocol):
    """An encoder while it learns; rows are positions among the texts it was given.

    Before `finish` the encoder's network may be in parts; afterwards it is whole, with its
    parameters as they are then.
    """

    def parameters(self) -> list[nn.Parameter]: ...

    def encode(self, rows: Int64Array) -> Tensor:
        """(len(rows), dim) unit vectors, with gradient."""
        ...

    def vectors(self) -> Float32Array:
        """(n_texts, dim) unit vectors of all texts, without gradient."""
        ...

    def finish(self) -> None: ...


def start_strategy(
    base: BaseEncoder, texts: Sequence[str], config: EncoderConfig, progress: Progress
) -> Strategy:
    """Raises NotImplementedError where the architecture has no layers that could be tuned so."""
    tokens = CachedTokens.of(base, texts, compute_device())
    if config.strategy == "top_layers":
        return TopLayers(base, tokens, config.tuned_layers, progress)
    if config.strategy == "lora":
        return LowRank(base.network, tokens, config.lora_rank, config.seed, progress)
    return AllLayers(base.network, tokens, progress)


class TopLayers:
    """The top layers, over the cached states of the layers below."""

    def __init__(
        self, base: BaseEncoder, tokens: CachedTokens, tuned_layers: int, progress: Progress
    ) -> None:
        self._cut = CutEncoder(base.network, tuned_layers)
        self._cache = cache_states(self._cut, tokens, base.dim, progress)
        self._progress = progress

    def parameters(self) -> list[nn.Parameter]:
        return list(self._cut.tuned.parameters())

    def encode(self, rows: Int64Array) -> Tensor:
        return encode_in_chunks(self._cache.tokens, rows, self._chunk)

    def vectors(self) -> Float32Array:
        return all_vectors(self._cache.tokens, self._chunk, self._progress, "encoder: top layers")

    def finish(self) -> None:
        self._cut.close()

    def _chunk(self, rows: Int64Array) -> Tensor:
        return self._cache.finished(self._cut, rows)


class AllLayers:
    """Every weight, token embeddings included."""

    def __init__(self, network: PooledEncoder, tokens: CachedTokens, progress: Progress) -> None:
        self._network = network
        self._tokens = tokens
        self._progress = progress
        network.requires_grad_(requires_grad=True)

    def parameters(self) -> list[nn.Parameter]:
        return [weight for weight in self._network.parameters() if weight.requires_grad]

    def encode(self, rows: Int64Array) -> Tensor:
        return encode_in_chunks(self._tokens, rows, self._chunk)

    def vectors(self) -> Float32Array:
        return all_vectors(self._tokens, self._chunk, self._progress, "encoder: all layers")

    def finish(self) -> None:
        self._network.requires_grad_(requires_grad=False)

    def _chunk(self, rows: Int64Array) -> Tensor:
        _, ids, mask = self._tokens.padded(rows)
        with precision(ids.device):
            vectors: Tensor = self._network(ids, mask)
        return vectors


class LowRank:
    """A low-rank change of every attention projection (LoRA, arXiv:2106.09685), merged at the end.

    The second factor starts at zero, so the encoder starts as it was.
    """

    def __init__(
        self,
        network: PooledEncoder,
        tokens: CachedTokens,
        rank: int,
        seed: int,
        progress: Progress,
    ) -> None:
        self._tuner = _with_adapters(network, rank, seed)
        self._whole = AllLayers(network, tokens, progress)
        network.requires_grad_(requires_grad=False)
        self._factors = {
            name: weight for name, weight in network.named_parameters() if ".lora_" in name
        }
        for factor in self._factors.values():
            factor.requires_grad_()

    def parameters(self) -> list[nn.Parameter]:
        return list(self._factors.values())

    def encode(self, rows: Int64Array) -> Tensor:
        return self._whole.encode(rows)

    def vectors(self) -> Float32Array:
        return self._whole.vectors()

    def finish(self) -> None:
        # Merging a change of zero would still turn -0.0 into 0.0, and the weights' digest with it.
        changed = any(bool(part.any()) for name, part in self._factors.items() if "lora_B" in name)
        self._tuner.merge_and_unload() if changed else self._tuner.unload()  # in place
        self._whole.finish()


def _with_adapters(network: PooledEncoder, rank: int, seed: int) -> "LoraModel":
    from peft import LoraConfig, LoraModel  # five seconds that other strategies need not wait

    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=_attention(network))
    devices = range(torch.cuda.device_count())
    with torch.random.fork_rng(devices):  # the seed is this adapter's alone
        torch.manual_seed(seed)
        return LoraModel(network.model, config, "default")


def _attention(network: PooledEncoder) -> list[str] | str:
    """Full names of the attention's linear layers, whatever the architecture calls them."""
    names = [
        name
        for name, module in network.model.named_modules()
        if isinstance(module, nn.Linear) and any(word in name.lower() for word in ("attn", "atten"))
    ]
    return names or "all-linear"
