"""Controls in place of L and H: with them an `HRM` becomes a plain recurrent network, or a deep feed-forward one.

z ← blocks(z + x̃)     every step: L has no memory of its own, H hands on what L found
"""

from __future__ import annotations

import bisect
import dataclasses
import functools

import torch
from torch import Tensor, nn

from hrm.model import HRM, OF_NEURONS, Blocks, Config


class Memoryless(nn.Module):
    """The blocks of another module, fed with the injection alone."""

    def __init__(self, blocks: Blocks):
        super().__init__()
        self.own = blocks

    def initial(self, batch: int) -> Tensor:
        return self.own.initial(batch)

    def forward(self, carry: Tensor, injection: Tensor) -> Tensor:
        return self.own.blocks(injection)

    def read(self, carry: Tensor) -> Tensor:
        return carry


class Mirror(nn.Module):
    """Without parameters: its carry is the last injection."""

    z0: Tensor

    def __init__(self, blocks: Blocks):
        super().__init__()
        self.shape = blocks.shape
        self.register_buffer("z0", blocks.z0.clone())

    def initial(self, batch: int) -> Tensor:
        return self.z0.expand(batch, *self.shape)

    def forward(self, carry: Tensor, injection: Tensor) -> Tensor:
        return injection

    def read(self, carry: Tensor) -> Tensor:
        return carry


# Options of `Config` that these networks do not have
ABSENT = ("modules", "shared", "damping", "z0", *OF_NEURONS)


def recurrent(config: Config, layers: int, steps: int, seed: int = 0) -> HRM:
    """A network of `layers` blocks that is run `steps` times in a segment; with steps = 1 and one segment, a deep
    feed-forward network. It has neither neurons nor damping, and begins at a fixed z0. seed: of its weights."""
    plain = {name: getattr(Config, name) for name in ABSENT}
    config = dataclasses.replace(config, H_cycles=steps, L_cycles=1, **plain)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        blocks = Blocks(config, layers)
        return HRM(config, L=Memoryless(blocks), H=Mirror(blocks))


def width_for(parameters: int, layers: int, config: Config) -> int:
    """The width, a multiple of two heads' least size, at which so many blocks (`narrowed`) have nearest to so many
    parameters. Raises ValueError where that would be more than 512."""
    unit = 2 * config.heads
    widths = range(unit, 513, unit)

    @functools.cache
    def size(d: int) -> int:
        with torch.device("meta"):  # nothing but its size is wanted
            return recurrent(narrowed(config, d), layers, 1).n_parameters()

    if size(widths[-1]) < parameters:
        raise ValueError(
            f"{layers} blocks of up to {widths[-1]} features have no {parameters} parameters: ask for a smaller network"
        )
    above = bisect.bisect_left(widths, parameters, key=size)
    return min(widths[max(0, above - 1) : above + 1], key=lambda d: abs(size(d) - parameters))


def narrowed(config: Config, d: int) -> Config:
    """The same with features of another width, and gates of any multiple of eight."""
    return dataclasses.replace(config, d=d, multiple=8)
