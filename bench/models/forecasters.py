"""Reference forecasters for the Mackey-Glass task: echo state network, LSTM, linear autoregression, and the last value.

Each learns one series by heart and then goes on alone: `forecast(past, steps)` sees the past, [points], and returns the
next `steps` points. The protocol is NeuroBench's (Yik et al. 2025): 75 points per Lyapunov time, ten Lyapunov times
of each. A new forecaster is one class and one line in `FORECASTERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn


class Forecaster(Protocol):
    def __call__(self, past: np.ndarray, steps: int) -> np.ndarray: ...


class LastValue:
    """Repeats the last value for ever."""

    def __init__(self, seed: int = 0):
        pass

    def __call__(self, past: np.ndarray, steps: int) -> np.ndarray:
        return np.full(steps, past[-1])


LEAST_PAST = 52  # points that every forecaster can learn from


def check_length(past: np.ndarray, least: int, name: str) -> None:
    """Raises ValueError for a past of fewer points."""
    if len(past) < least:
        raise ValueError(f"{name} needs a past of at least {least} points, got {len(past)}: give a longer sequence")


def ridge(features: np.ndarray, targets: np.ndarray, penalty: float) -> np.ndarray:
    """argmin ‖F w − y‖² + penalty ‖w‖². F: [points, features]."""
    gram = features.T @ features + penalty * np.eye(features.shape[1])
    return np.linalg.solve(gram, features.T @ targets)


class LinearAutoregression:
    """The next value as a linear function of the last `window` ones, fitted by ridge regression."""

    def __init__(self, seed: int = 0, window: int = 50, penalty: float = 1e-6):
        self.window, self.penalty = window, penalty

    def __call__(self, past: np.ndarray, steps: int) -> np.ndarray:
        check_length(past, self.window + 2, "linear autoregression")
        windows = np.lib.stride_tricks.sliding_window_view(past, self.window)[:-1]
        ones = np.ones((len(windows), 1))
        w = ridge(np.hstack([windows, ones]), past[self.window :], self.penalty)
        series = list(past[-self.window :])
        for _ in range(steps):
            series.append(float(np.dot(w[:-1], series[-self.window :]) + w[-1]))
        return np.array(series[self.window :])


class EchoState:
    """An echo state network (Jaeger 2001): a fixed random reservoir, of which the readout alone is trained.

    x ← (1 − α) x + α tanh(W x + s (u − ū) + b), y = w·[1, u, x]. Sizes are NeuroBench's. The other constants are the
    best of 166 random ones on eight sequences of the held-out series (`chaos.HELD_OUT_HISTORY`).

    units, connectivity: of the reservoir. radius: spectral radius of W. leak: α. scale, bias: s and b, uniform
    within ±. penalty: of the ridge regression. warm_up: points that it does not learn from.
    """

    def __init__(
        self,
        seed: int = 0,
        units: int = 186,
        connectivity: float = 0.11,
        radius: float = 0.85,
        leak: float = 0.7,
        scale: float = 0.93,
        bias: float = 0.2,
        penalty: float = 2e-10,
        warm_up: int = 45,
    ):
        rng = np.random.default_rng(seed)
        W = rng.uniform(-1, 1, (units, units)) * (rng.random((units, units)) < connectivity)
        self.W = W * radius / np.abs(np.linalg.eigvals(W)).max()
        self.w_in = rng.uniform(-scale, scale, units)
        self.bias = rng.uniform(-bias, bias, units)
        self.leak, self.penalty, self.warm_up = leak, penalty, warm_up

    def _step(self, x: np.ndarray, u: float) -> np.ndarray:
        return (1 - self.leak) * x + self.leak * np.tanh(self.W @ x + self.w_in * u + self.bias)

    def __call__(self, past: np.ndarray, steps: int) -> np.ndarray:
        check_length(past, self.warm_up + 2, "the ESN")
        mean = past.mean()
        x = np.zeros(len(self.W))
        states = []
        for u in past - mean:
            x = self._step(x, u)
            states.append(np.concatenate([[1.0, u], x]))
        learned = slice(self.warm_up, -1)
        w = ridge(np.array(states)[learned], (past - mean)[self.warm_up + 1 :], self.penalty)
        forecast, features = [], states[-1]
        for _ in range(steps):
            u = float(w @ features)
            x = self._step(x, u)
            features = np.concatenate([[1.0, u], x])
            forecast.append(u)
        return np.array(forecast) + mean


class LSTM(nn.Module):
    """A long short-term memory of `hidden` units that sees the last `window` points at every step, trained by
    backprop through the whole past, its error being that of the next point (teacher forcing).

    Window and size are NeuroBench's, as are the layer norm of the input and the rectifier before the readout.
    """

    def __init__(
        self,
        seed: int = 0,
        window: int = 50,
        hidden: int = 100,
        epochs: int = 200,
        lr: float = 5e-3,
        weight_decay: float = 1e-3,
    ):
        super().__init__()
        self.window, self.epochs, self.lr, self.weight_decay = window, epochs, lr, weight_decay
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.norm = nn.LayerNorm(window)
            self.lstm = nn.LSTM(window, hidden)
            self.readout = nn.Linear(hidden, 1)
        self.double()

    def run(self, windows: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """windows: [T, window] → the point after each of them, [T], and the state."""
        h, state = self.lstm(self.norm(windows).unsqueeze(1), state)
        return self.readout(torch.relu(h))[:, 0, 0], state

    def forward(self, past: np.ndarray, steps: int) -> np.ndarray:
        check_length(past, 2, "the LSTM")
        series = torch.from_numpy(np.ascontiguousarray(past, dtype=np.float64))
        padded = torch.cat([series.new_zeros(self.window - 1), series])
        windows = padded.unfold(0, self.window, 1)  # the last one ends with the last point of the past
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        for _ in range(self.epochs):
            predicted, _ = self.run(windows[:-1])
            optimizer.zero_grad()
            nn.functional.mse_loss(predicted, series[1:]).backward()
            optimizer.step()
        with torch.no_grad():
            predicted, state = self.run(windows)
            forecast = [predicted[-1]]
            window = windows[-1]
            for _ in range(steps - 1):
                window = torch.cat([window[1:], forecast[-1].reshape(1)])
                predicted, state = self.run(window.unsqueeze(0), state)
                forecast.append(predicted[0])
        return torch.stack(forecast).numpy()


FORECASTERS: dict[str, Callable[[int], Forecaster]] = {
    "last value": LastValue,
    "linear": LinearAutoregression,
    "ESN": EchoState,
    "LSTM": LSTM,
}
