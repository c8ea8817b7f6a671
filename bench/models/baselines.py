"""The reference networks of Table 2 (§12.3), trained offline with backprop. Each takes series of one feature,
[samples, steps, 1]."""

from __future__ import annotations

import torch
from torch import Tensor, nn

LENGTHS = {"mlp": 360, "tcn": 360, "gru": 72}  # points that each series is supersampled to


class MLP(nn.Module):
    """360 → 100 → 100 → 10, ReLU: the whole series at once."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(LENGTHS["mlp"], 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 10)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.squeeze(-1))


class TCN(nn.Module):
    """Three dilated convolutions of 25 channels, stride 2, kernels 5, 3, 3, dilation 9, and a linear readout.

    The paper gives a readout of 125 inputs, but its parameter count (11 960) needs 800: 25 channels × 32 positions.
    Of the paddings, which are not published, these give 32.
    """

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv1d(1, 25, 5, stride=2, dilation=9, padding=1),
            nn.ReLU(),
            nn.Conv1d(25, 25, 3, stride=2, dilation=9, padding=1),
            nn.ReLU(),
            nn.Conv1d(25, 25, 3, stride=2, dilation=9, padding=4),
            nn.ReLU(),
        )
        self.readout = nn.Linear(25 * 32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.convolutions(x.mT).flatten(1))


class GRU(nn.Module):
    """A bidirectional GRU of 6 units over 72 points; the readout sees its states at all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(1, 6, batch_first=True, bidirectional=True)
        self.readout = nn.Linear(2 * 6 * LENGTHS["gru"], 10)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.gru(x)
        return self.readout(states.flatten(1))


BASELINES: dict[str, type[nn.Module]] = {"mlp": MLP, "tcn": TCN, "gru": GRU}


def n_parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def seeded(kind: str, seed: int) -> nn.Module:
    """The network `kind` with PyTorch's own initialisation under `seed`; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BASELINES[kind]()
