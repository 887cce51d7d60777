"""The sequence model as a torch network, and its loss over the whole catalogue."""

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  torch's own convention

TEXT_SCALE = 2.0  # Beauty, validation R@10 after 6 epochs: 1 .115, 2 .118, 4 (dropout .4) .095
LOSS_ROWS = 192  # logits made at once: 192 × 12,000 floats stay in cache; 128-256 are alike


class Block(nn.Module):
    """Causal self-attention and a feed-forward layer, each on a normalised residual stream."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(dim)
        self.queries_keys_values = nn.Linear(dim, 3 * dim)
        self.attention_out = nn.Linear(dim, dim)
        self.forward_norm = nn.LayerNorm(dim)
        self.forward_in = nn.Linear(dim, 4 * dim)
        self.forward_out = nn.Linear(4 * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def start_near_identity(self) -> None:
        """What comes out of an untrained network is then close to the latest item's vector."""
        for layer in (self.attention_out, self.forward_out):
            layer.weight.data.mul_(0.3)

    def forward(self, x: Tensor) -> Tensor:
        b, length, dim = x.shape
        split = self.queries_keys_values(self.attention_norm(x))
        split = split.view(b, length, 3, self.heads, dim // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind(0)
        # Padding is on the right, so the causal mask alone keeps it from being looked at.
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        mixed = mixed.transpose(1, 2).reshape(b, length, dim)
        x = x + self.dropout(self.attention_out(mixed))
        hidden = F.gelu(self.forward_in(self.forward_norm(x)))
        return cast(Tensor, x + self.dropout(self.forward_out(self.dropout(hidden))))


class SequenceNetwork(nn.Module):
    """SASRec (Kang & McAuley 2018) whose item vectors are an embedding plus a map of the text.

    Positions count back from the latest item, so a history and its tail look alike.
    """

    def __init__(
        self,
        text_vectors: Tensor,
        *,
        dim: int,
        blocks: int,
        heads: int,
        max_length: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.text_vectors = text_vectors  # fixed, and not part of the state
        n_items, text_dim = text_vectors.shape
        self.items = nn.Embedding(n_items, dim)
        self.adaptor = nn.Linear(text_dim, dim, bias=False)
        self.positions = nn.Embedding(max_length, dim)
        self.blocks = nn.ModuleList(Block(dim, heads, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.items.weight, std=0.02)
        nn.init.normal_(self.positions.weight, std=0.02)
        # The leading whitened components, so that text likeness counts from the first step. With
        # the scale and the near-identity blocks, changed together: Beauty, validation R@10 after
        # 6 epochs .118 against .104 from a random map.
        self.adaptor.weight.data.copy_(TEXT_SCALE * torch.eye(dim, text_dim))
        for block in self.blocks:
            cast(Block, block).start_near_identity()

    def item_vectors(self, rows: Tensor | None = None) -> Tensor:
        """(n_items, dim), or those of `rows`."""
        if rows is None:
            return self.items.weight + cast(Tensor, self.adaptor(self.text_vectors))
        return cast(Tensor, self.items(rows) + self.adaptor(self.text_vectors[rows]))

    def states(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        """(b, length, dim) item vectors → the shopper after each of them, same shape."""
        back = lengths[:, None] - 1 - torch.arange(vectors.shape[1])
        x = self.dropout(vectors + self.positions(back.clamp(min=0)))
        for block in self.blocks:
            x = block(x)
        return cast(Tensor, self.norm(x))

    def forward(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        """(b, dim): the shopper after the latest item; what is exported."""
        last = (lengths - 1)[:, None, None].expand(-1, 1, vectors.shape[2])
        return self.states(vectors, lengths).gather(1, last).squeeze(1)


class _CatalogueLoss(torch.autograd.Function):
    """Softmax cross-entropy whose gradient is made in the forward pass, a few rows at a time.

    The (positions × items) logits never exist at once: 48 ms instead of 260 ms for 1,536 × 12,101
    on 2 cores, and bf16 matrix products were no faster (2026, Xeon with AVX-512).
    """

    @staticmethod
    def forward(ctx: Any, users: Tensor, items: Tensor, targets: Tensor) -> Tensor:  # noqa: ANN401
        user_grad, item_grad = torch.empty_like(users), torch.zeros_like(items)
        total = users.new_zeros(())
        for start in range(0, len(users), LOSS_ROWS):
            rows = slice(start, start + LOSS_ROWS)
            chosen = targets[rows, None]
            probabilities = torch.softmax(users[rows] @ items.T, dim=1)
            total -= probabilities.gather(1, chosen).clamp_min(1e-20).log().sum()
            probabilities.scatter_add_(1, chosen, -probabilities.new_ones(chosen.shape))
            torch.mm(probabilities, items, out=user_grad[rows])
            item_grad.addmm_(probabilities.T, users[rows])
        ctx.save_for_backward(user_grad / len(users), item_grad / len(users))
        return total / len(users)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:  # noqa: ANN401
        user_grad, item_grad = ctx.saved_tensors
        return user_grad * grad, item_grad * grad, None


def catalogue_loss(users: Tensor, items: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of `targets` (n,) among all items; users (n, d), items (m, d)."""
    return cast(Tensor, _CatalogueLoss.apply(users, items, targets))  # type: ignore[no-untyped-call]


def sampled_rows(targets: Tensor, n_items: int, n_negatives: int) -> tuple[Tensor, Tensor]:
    """The batch's distinct targets, then about `n_negatives` uniform items that are not targets.

    Also returns the place of each target among them.
    """
    positives, places = torch.unique(targets, return_inverse=True)
    drawn = torch.unique(torch.randint(n_items, (n_negatives,)))
    return torch.cat([positives, drawn[~torch.isin(drawn, positives)]]), places


def sampled_loss(users: Tensor, items: Tensor, targets: Tensor, n_items: int) -> Tensor:
    """`catalogue_loss` estimated from the `items` of `sampled_rows`; `targets` are their places.

    A negative stands for all items that are not targets of the batch, so its logit is raised by
    the logarithm of how many each stands for.
    """
    n_positives = int(targets.max()) + 1
    n_negatives = len(items) - n_positives
    logits = users @ items.T
    if n_negatives:
        logits[:, n_positives:] += math.log((n_items - n_positives) / n_negatives)
    return F.cross_entropy(logits, targets)
