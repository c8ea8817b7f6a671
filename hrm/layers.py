"""The blocks that L and H modules are made of: post-norm, RMSNorm without a learned scale, SwiGLU, rotary positions, no
biases.

    x ← norm(x + mix(x))     mix: attention between positions, a SwiGLU over them, a convolution of the grid, or units
    x ← norm(x + SwiGLU(x))
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrm.tasks.sudoku import boxes

EPS = 1e-5  # of RMSNorm


def wide(x: Tensor) -> Tensor:
    """In float32, or float64 where it is so already."""
    return x if x.dtype == torch.float64 else x.float()


def widest(x: Tensor) -> Tensor:
    """In float64, which Apple's MPS does not have."""
    return x.float() if x.device.type == "mps" else x.double()


def rms_norm(x: Tensor) -> Tensor:
    """x / √(mean x² + ε) over the last axis, computed in no less than float32."""
    return F.rms_norm(wide(x), x.shape[-1:], eps=EPS).to(x.dtype)


def truncated_normal(shape: tuple[int, ...], std: float, generator: torch.Generator | None = None) -> Tensor:
    """Normal numbers cut off at two standard deviations, scaled so that what remains has the given std."""
    low = math.erf(-2 / math.sqrt(2))
    uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
    standard = torch.erfinv(low + uniform * -2 * low) * math.sqrt(2)
    density = math.exp(-2) / math.sqrt(2 * math.pi)
    left = math.sqrt(1 - 4 * density / -low)  # std of the truncated standard normal
    return (standard * (std / left)).to(torch.get_default_dtype())


class Linear(nn.Linear):
    """Without bias, weights truncated-normal with std 1/√fan-in (LeCun)."""

    def __init__(self, n_in: int, n_out: int):
        super().__init__(n_in, n_out, bias=False)

    def reset_parameters(self) -> None:
        with torch.no_grad():
            self.weight.copy_(truncated_normal(tuple(self.weight.shape), self.in_features**-0.5))


def rotations(length: int, size: int, theta: float) -> tuple[Tensor, Tensor]:
    """cos and sin of RoPE's angles, each [length, size]: pair i of a head turns by θ^(−2i/size) a position."""
    frequency = theta ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
    angle = torch.outer(torch.arange(length, dtype=torch.float64), frequency).repeat(1, 2)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [..., length, size] turned by its position; component i is paired with i + size/2."""
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat([-second, first], -1) * sin


class Attention(nn.Module):
    """Every position sees every other: [batch, length, d] → the same. rope_theta: None for no rotary positions."""

    cos: Tensor
    sin: Tensor

    def __init__(self, d: int, heads: int, length: int, rope_theta: float | None):
        super().__init__()
        if d % heads or d // heads % 2:
            raise ValueError(f"d = {d} must divide into {heads} heads of an even size")
        self.heads = heads
        self.qkv, self.out = Linear(d, 3 * d), Linear(d, d)
        self.rotary = rope_theta is not None
        cos, sin = rotations(length, d // heads, rope_theta or 1.0)
        self.register_buffer("cos", cos.to(torch.get_default_dtype()), persistent=False)
        self.register_buffer("sin", sin.to(torch.get_default_dtype()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # [batch, heads, length, size]
        if self.rotary:
            cos, sin = self.cos.to(q.dtype), self.sin.to(q.dtype)
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).flatten(2))


class SwiGLU(nn.Module):
    """W_down (silu(W_gate x) ∘ W_up x), the inner width ⅔ · expansion · d, rounded up to a multiple."""

    def __init__(self, d: int, expansion: float, multiple: int = 256):
        super().__init__()
        inner = math.ceil(round(expansion * d * 2 / 3) / multiple) * multiple
        self.gate_up, self.down = Linear(d, 2 * inner), Linear(inner, d)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, -1)
        return self.down(F.silu(gate) * up)


class TokenMixer(nn.Module):
    """A SwiGLU over positions in place of attention; for one length only."""

    def __init__(self, length: int, expansion: float, multiple: int):
        super().__init__()
        self.mlp = SwiGLU(length, expansion, multiple)

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x.transpose(1, 2)).transpose(1, 2)


class Convolution(nn.Module):
    """Each cell of a grid sees itself and its eight neighbours, beyond the edge zeros: [batch, rows · columns, d] → the
    same. What is far away takes many steps, as in the recurrent networks that "think deeper" about larger mazes
    (Schwarzschild et al. 2021); in return nothing depends on a cell's place, or on the size of the grid."""

    def __init__(self, d: int, columns: int):
        super().__init__()
        self.columns = columns
        self.weight = nn.Parameter(truncated_normal((d, d, 3, 3), (9 * d) ** -0.5))  # LeCun

    def forward(self, x: Tensor) -> Tensor:
        grid = x.transpose(1, 2).unflatten(2, (-1, self.columns))  # [batch, d, rows, columns]
        return F.conv2d(grid, self.weight, padding=1).flatten(2).transpose(1, 2)


class Units(nn.Module):
    """Each candidate, a digit in a cell, hears from the four units that it is in: from its digit in all cells of its
    row, of its column and of its box, and from all digits in its cell. [batch, n · n · n, d] → the same, digits last.

    A unit adds up its n members and thinks of the sum, y = SwiGLU(Σ x / √n), which all of them are told. Rows and
    columns think with the same weights, boxes and cells with their own. So whatever symmetry Sudoku has (`hrm.tasks.
    sudoku.symmetry`: digits, bands, stacks, rows, columns and, of square boxes, transposition), a puzzle that it
    changes leads to the answer that it changes.
    """

    def __init__(self, d: int, n: int, expansion: float, multiple: int):
        super().__init__()
        h, w = boxes(n)
        self.n, self.grid = n, (n // h, h, n // w, w, n)  # band, row in it, stack, column in it, digit
        self.line, self.box, self.cell = (SwiGLU(d, expansion, multiple) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        z = x.unflatten(1, self.grid)
        each = ((self.line, (3, 4)), (self.line, (1, 2)), (self.box, (2, 4)), (self.cell, (5,)))
        row, column, box, cell = (unit(z.sum(members, keepdim=True) * self.n**-0.5) for unit, members in each)
        return (row + column + box + cell).flatten(1, 5)


MIXERS: dict[str, Callable[..., nn.Module]] = {
    "attention": lambda c: Attention(c.d, c.heads, c.states, c.rope_theta if c.positions != "learned" else None),
    "mlp": lambda c: TokenMixer(c.states, c.expansion, c.multiple),
    "conv": lambda c: Convolution(c.d, c.columns),
    "units": lambda c: Units(c.d, c.columns, c.expansion, c.multiple),
}


class Block(nn.Module):
    """Mixing between positions, then a SwiGLU at each; norms behind the sums (post-norm)."""

    def __init__(self, mixer: nn.Module, d: int, expansion: float, multiple: int):
        super().__init__()
        self.mixer, self.mlp = mixer, SwiGLU(d, expansion, multiple)

    def forward(self, x: Tensor) -> Tensor:
        x = rms_norm(x + self.mixer(x))
        return rms_norm(x + self.mlp(x))
