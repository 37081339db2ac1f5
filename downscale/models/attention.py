"""Self-attention over the cells of a map."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

_HEAD = 32


class SelfAttention(nn.Module):
    """Every cell looks at every other one (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762), beside a straight path.

    For maps of a few hundred cells: memory grows with the square of their number. The last projection starts at zero, so that a fresh
    layer changes nothing. There is no position code: the convolutions before it know the edges of the box.

    Args:
        width: features; heads have 32 of them, or all where 32 does not divide the width.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // _HEAD if width % _HEAD == 0 else 1
        self.norm = nn.GroupNorm(1, width)
        self.look = nn.Conv2d(width, 3 * width, 1)
        self.out = nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(batch, width, y, x) to the same."""
        shape = x.shape
        query, key, value = (
            part.reshape(shape[0], self.heads, -1, shape[2] * shape[3]).transpose(2, 3) for part in self.look(self.norm(x)).chunk(3, 1)
        )
        seen = F.scaled_dot_product_attention(query, key, value)
        return x + self.out(seen.transpose(2, 3).reshape(shape))
