"""A trained network listens to a recording of any length, step by step, as it would to a microphone.

What is live differs from a clip: nobody knows its mean and variance beforehand, so they are those of the last second;
and there is a past before it, which delayed inputs see.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import gle
from bench.data import audio
from bench.data.series import delayed, in_steps
from bench.data.speech_commands import Features
from bench.kit.figures import plt
from bench.kit.folder import read_json

QUIET = 0.3  # of the gate: below it there is nothing much to hear


@dataclass
class Heard:
    """times: of the frames, in seconds, [T]. probability: of each class by what was heard in the last second,
    [T, classes]. gate: how much each frame counts, [T]. classes: their names."""

    times: np.ndarray
    probability: np.ndarray
    gate: np.ndarray
    classes: list[str]

    def lines(self, every: float = 0.25) -> Iterator[str]:
        """For a terminal: what is heard, every so many seconds."""
        said = -every
        for t, p, g in zip(self.times, self.probability, self.gate, strict=True):
            if t - said < every - 1e-9:
                continue
            said = t
            best = int(p.argmax())
            bar = "█" * round(20 * float(p[best]))
            name = self.classes[best].strip("_")
            yield f"{t:6.2f} s  {'…' if g < QUIET else ' '} {name:<10} {100 * p[best]:3.0f} % {bar}"

    def draw(self) -> plt.Figure:
        figure, (top, bottom) = plt.subplots(2, sharex=True, height_ratios=(3, 1), figsize=(8, 4.5))
        image = top.imshow(
            self.probability.T, aspect="auto", origin="lower", cmap="magma", vmin=0, vmax=1, interpolation="nearest",
            extent=(self.times[0], self.times[-1], -0.5, len(self.classes) - 0.5),
        )  # fmt: skip
        top.set_yticks(range(len(self.classes)), [c.strip("_") for c in self.classes], fontsize=7)
        figure.colorbar(image, ax=top, label="probability")
        bottom.plot(self.times, self.gate, "k-", linewidth=0.8)
        bottom.set(xlabel="time / s", ylabel="gate", ylim=(0, 1.1))
        figure.colorbar(image, ax=bottom).ax.set_visible(False)
        return figure


def hear(recording: Path, weights: Path) -> Heard:
    """What the first network in a file of weights makes of a recording.

    Raises ValueError for a recording that cannot be read or is shorter than a window, and where network.pt, or
    heard.json beside it, is none or fits not.
    """
    samples = torch.from_numpy(audio.read(recording))
    sim = gle.load(weights)
    if not isinstance(sim, gle.Simulation):
        raise ValueError(f"{weights} holds a network, not how it runs: give network.pt of a run of bench.gsc")
    about = read_json(weights.with_name("heard.json"), "it is written beside network.pt by bench.gsc")
    try:
        features, lags, gated = Features(**about["features"]), tuple(about["lags"]), bool(about["gated"])
        classes = list(about["classes"])
        if features.hop < 1 or features.size < 1 or features.window < 2 or any(lag < 1 for lag in lags):
            raise ValueError(f"{features}, lags {lags}")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{weights.with_name('heard.json')} is damaged ({error!r}): take the run's own") from error
    if features.kind != "log_mel":
        raise ValueError(f"{weights} hears {features.kind}, of whole clips: only log_mel can be heard live")
    expected = (features.size * (1 + len(lags)), len(classes))
    if (sim.network.n_in, sim.network.n_out) != expected:
        raise ValueError(f"{weights} is {sim.network.n_in} → {sim.network.n_out}, heard.json tells of {expected}")
    if len(samples) <= features.window // 2:
        raise ValueError(f"{recording} has {len(samples)} samples, fewer than a window of {features.window} needs")
    x = live(samples, features)
    outputs = streamed(sim, delayed(x, lags))
    gate = audio.gate(x) if gated else torch.ones(len(x))
    return Heard(
        np.arange(len(x)) * features.hop / audio.RATE,
        recent(outputs.softmax(-1), gate, features.frames).numpy(),
        gate.numpy(),
        classes,
    )


def live(samples: Tensor, features: Features) -> Tensor:
    """log-mel frames [T, size], each with mean and variance of the second that ends with it."""
    mel = audio.log_mel(samples, features.size, features.window, features.hop)
    frames = [audio.standardised(mel[max(0, t + 1 - features.frames) : t + 1])[-1] for t in range(len(mel))]
    return torch.stack(frames)


def streamed(sim: gle.Simulation[Any], x: Tensor) -> Tensor:
    """The outputs at the end of each frame, [T, classes], of the first member; the network's state goes on from each to
    the next."""
    k = max(1, round(1 / sim.dynamics.dt))
    said, state, before = [], None, x[0]
    for frame in x:
        steps = in_steps(torch.stack([before, frame]), 2 * k)[:k] if k > 1 else frame[None]
        outputs, state = sim.predict(steps.unsqueeze(1), state=state)
        said.append(outputs[-1].flatten(0, -3)[0, 0] if outputs.ndim > 3 else outputs[-1, 0])
        before = frame
    return torch.stack(said)


def recent(p: Tensor, gate: Tensor, frames: int) -> Tensor:
    """Mean of p [T, classes] over the last `frames`, weighted by the gate."""
    kernel = torch.ones(frames, dtype=torch.float64)

    def window(z: Tensor) -> Tensor:
        padded = torch.nn.functional.pad(z.double().T, (frames - 1, 0))
        return torch.nn.functional.conv1d(padded.unsqueeze(1), kernel[None, None]).squeeze(1).T

    return (window(p * gate[:, None]) / window(gate[:, None])).float()
