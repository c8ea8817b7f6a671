"""The reference networks for speech commands (Table 3, after Zhang et al. 2017, Appendix A), trained by backprop.

Each takes frames [samples, frames, features]. *published* has the parameters of the table, to the last one, for MFCCs
of ten coefficients and twelve classes; *small*, about 100 000, for a part of the data.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from bench.data.series import Form


class MLP(nn.Module):
    """Three layers of ReLU, all frames at once."""

    def __init__(self, form: Form, widths: tuple[int, ...], dropout: float = 0.0):
        super().__init__()
        sizes = [form.steps * form.features, *widths]
        hidden = [
            part
            for a, b in zip(sizes[:-1], widths, strict=True)
            for part in (nn.Linear(a, b), nn.ReLU(), nn.Dropout(dropout))
        ]
        self.layers = nn.Sequential(*hidden, nn.Linear(sizes[-1], form.classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.flatten(1))


class CNN(nn.Module):
    """What Table 3 calls TCN: two convolutions over time and frequency, a linear layer of low rank, and a hidden layer,
    with batch normalisation after all but the linear one."""

    def __init__(self, form: Form):
        super().__init__()
        time, frequency = (form.steps - 9 - 10) // 2 + 1, form.features - 6
        self.layers = nn.Sequential(
            nn.Unflatten(1, (1, form.steps)),
            nn.Conv2d(1, 60, (10, 4)), nn.BatchNorm2d(60), nn.ReLU(),
            nn.Conv2d(60, 76, (10, 4), stride=(2, 1)), nn.BatchNorm2d(76), nn.ReLU(), nn.Flatten(),
            nn.Linear(76 * time * frequency, 58),
            nn.Linear(58, 128), nn.BatchNorm1d(128), nn.ReLU(),
            nn.Linear(128, form.classes),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class TCN(nn.Module):
    """Dilated convolutions over time, with batch normalisation, averaged over time."""

    def __init__(self, form: Form, channels: int, layers: int = 4, dropout: float = 0.1):
        super().__init__()
        parts: list[nn.Module] = []
        n = form.features
        for i in range(layers):
            wide = 5 if i == 0 else 3
            parts += [
                nn.Conv1d(n, channels, wide, dilation=2**i, padding=(wide // 2) * 2**i, bias=False),
                nn.BatchNorm1d(channels),
                nn.ReLU(),
                nn.Dropout(dropout),
            ]
            n = channels
        self.convolutions, self.readout = nn.Sequential(*parts), nn.Linear(channels, form.classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.convolutions(x.mT).mean(-1))


class Recurrent(nn.Module):
    """A GRU or LSTM, and a linear layer that reads its last state, or its mean state.

    single_bias: PyTorch's recurrent layers have two biases, the published ones one; the second is then zero and stays
    so, and is not counted.
    """

    def __init__(self, form: Form, kind: str, width: int, *, single_bias: bool, mean: bool):
        super().__init__()
        layer = {"gru": nn.GRU, "lstm": nn.LSTM}[kind]
        self.rnn: nn.GRU | nn.LSTM = layer(form.features, width, batch_first=True)
        self.readout, self.mean = nn.Linear(width, form.classes), mean
        if single_bias:
            second = self.rnn.bias_hh_l0
            del self.rnn._parameters["bias_hh_l0"]
            self.rnn.register_buffer("bias_hh_l0", torch.zeros_like(second))

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.rnn(x)
        return self.readout(states.mean(1) if self.mean else states[:, -1])


Make = Callable[[Form], nn.Module]
BASELINES: dict[tuple[str, str], Make] = {  # (kind, size)
    ("mlp", "published"): lambda form: MLP(form, (436, 436, 436)),
    ("tcn", "published"): CNN,
    ("gru", "published"): lambda form: Recurrent(form, "gru", 400, single_bias=True, mean=False),
    ("lstm", "published"): lambda form: Recurrent(form, "lstm", 344, single_bias=True, mean=False),
    ("mlp", "small"): lambda form: MLP(form, (72, 72, 72), dropout=0.1),
    ("tcn", "small"): lambda form: TCN(form, 92),
    ("gru", "small"): lambda form: Recurrent(form, "gru", 160, single_bias=False, mean=True),
    ("lstm", "small"): lambda form: Recurrent(form, "lstm", 136, single_bias=False, mean=True),
}


def seeded(kind: str, size: str, form: Form, seed: int) -> nn.Module:
    """With PyTorch's own initialisation under `seed`; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BASELINES[kind, size](form)
