"""Temporal receptive fields (§2.7, Fig. 7): how the rate of a neuron depends on the input of the past.

To first order, r(t) = Σ_s h(s) x(t − s dt) around its resting value, with one kernel h for each input feature: for one
feature a temporal receptive field, for several a spatiotemporal one. Two ways to it:

    h = impulse_response(network, dt=0.1, lags=300)              # the response to a small, short pulse
    h, error = reverse_correlation(x, r, lags=300)               # what white noise x has in common with the rates r

A linear network has one kernel. For a non-linear one the pulse tells about rest, noise about the inputs that the noise
takes it to. Kernels are [lags, inputs, *ensemble, neurons], per step; divide by dt for a density in time.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gle.integrators import Integrator
from gle.network import Network, dense
from gle.recording import Record
from gle.simulate import Simulation
from gle.state import Thetas


@torch.no_grad()
def impulse_response(
    network: Network,
    *,
    dt: float,
    lags: int,
    integrator: str | Integrator = "euler",
    size: float = 1e-3,
    settle: int = 0,
) -> list[Tensor]:
    """Kernels of every layer ℓ, each [lags, inputs, *ensemble, neurons], from a pulse of height `size` that lasts one
    step, in one input feature at a time.

    settle: steps with input zero before the pulse, so that a network with biases is at rest; its response without
    the pulse is subtracted. Raises ValueError for lags < 1 and size 0, and what `Simulation` raises.
    """
    _check_lags(lags)
    if not size:
        raise ValueError("a pulse of size 0 has no response: choose a small number, as 1e-3")
    x = torch.zeros(settle + lags, network.n_in + 1, network.n_in, dtype=network.dtype)
    x[settle, :-1].fill_diagonal_(size)  # the last sample gets no pulse
    record = Record("r")
    Simulation(network, dt=dt, integrator=integrator).run(x, record=record)
    kernels = []
    for r in record["r"].values():
        r = r[settle:].movedim(-2, 1)
        kernels.append((r[:, :-1] - r[:, -1:]) / size)
    return kernels


def reverse_correlation(x: Tensor, r: Tensor, lags: int) -> tuple[Tensor, Tensor]:
    """The kernel [lags, inputs, *ensemble, neurons] that predicts rates from white noise, and its standard error.

    x: the noise, [T, batch, inputs], independent from step to step, from sample to sample and between inputs. r: the
    rates at the same steps [T, *ensemble, batch, neurons]. The kernel is the mean of (r(t) − r̄) x(t − s) over samples
    and steps t ≥ lags − 1, divided by the variance of x.

    The standard error, [inputs, *ensemble, neurons], is √(2 Var r / (N Var x)) for N summands: an upper bound for
    Gaussian noise and a linear network (see `standard_error`).

    Raises ValueError for shapes that do not fit and for fewer than `lags` steps.
    """
    _check_lags(lags)
    if x.ndim != 3 or r.ndim < 3 or len(x) != len(r) or x.shape[1] != r.shape[-2]:
        raise ValueError(
            f"expected inputs [T, batch, inputs] and rates [T, *ensemble, batch, neurons] of the same T and batch, "
            f"got {tuple(x.shape)} and {tuple(r.shape)}"
        )
    if len(x) < lags:
        raise ValueError(f"{lags} lags need at least as many steps, got {len(x)}")
    x, r = x.double(), r.double().movedim(-2, 1)
    n, past = (len(x) - lags + 1) * x.shape[1], lags - 1
    x = x - x.mean((0, 1))
    variance = x.square().mean((0, 1))[:, None]
    late = r.flatten(2) - r[past:].flatten(2).mean((0, 1))
    late[:past] = 0  # so that no product reaches back before the first step
    # the sum over t of r(t) x(t − s) for all s at once; batch by matrix product, frequency by frequency
    cross = torch.fft.rfft(x, dim=0).mH @ torch.fft.rfft(late, dim=0)
    kernel = torch.fft.irfft(cross, n=len(x), dim=0)[:lags] / n / variance
    error = standard_error(variance, late.square().sum((0, 1)) / n, n)
    shape = (x.shape[-1], *r.shape[2:])
    return kernel.reshape(lags, *shape), error.reshape(shape)


def standard_error(var_x: Tensor, var_r: Tensor, n: int) -> Tensor:
    """√(2 Var r / (N Var x)). For a linear network and Gaussian white noise, the variance of the mean of
    r(t) x(t − s) is (Var r Var x + Var²x Σ_k h(s + k) h(s − k)) / N by Isserlis' theorem, and Σ_k h(s + k) h(s − k) ≤
    Σ h² ≤ Var r / Var x by Cauchy and Schwarz."""
    return (2 * var_r / (n * var_x)).sqrt()


def centre(kernel: Tensor, dt: float) -> Tensor:
    """Where the window of a kernel [lags, …] is centred in the past, in time units: Σ s h(s) dt / Σ h(s) […].

    For the whole kernel this is the group delay −dψ/dω of the neuron at ω → 0.
    """
    s = dt * torch.arange(len(kernel)).to(kernel)
    return torch.tensordot(s, kernel, 1) / kernel.sum(0)


@torch.no_grad()
def low_frequency_delay(network: Network, dt: float = 0.0, theta: Thetas | None = None) -> list[Tensor]:
    """The centre that theory expects of each layer's windows, for a network of linear neurons: [inputs, *ensemble,
    neurons] per layer ℓ.

    A neuron delays slow signals by τm − τr (§2.7), on top of the delays of its presynaptic partners, weighted by what
    each of them contributes; along a chain the sum is Σ (τm − τr). dt: of a simulation, whose delayed propagation adds
    one step per layer above the first; 0 for the continuous-time network.

    Raises ValueError for anything but a chain of layers with dense synapses.
    """
    dense(network)
    theta = network.theta() if theta is None else theta
    gain = torch.eye(network.n_in).to(theta[0].W)  # [inputs, *ensemble, neurons] at ω = 0, and minus its slope in iω
    gain = gain.reshape(network.n_in, *[1] * len(network.ensemble), network.n_in)
    moment = torch.zeros_like(gain)
    delays = []
    for l, (i, d) in enumerate(network.places()):
        W, tau_m, tau_r = (getattr(theta[i], name)[d] for name in ("W", "tau_m", "tau_r"))
        through = torch.einsum("...ij,f...j->f...i", W, moment + (dt * gain if l else 0))
        gain = torch.einsum("...ij,f...j->f...i", W, gain)
        moment = through + (tau_m - tau_r) * gain
        delays.append(moment / gain)
    return delays


def _check_lags(lags: int) -> None:
    if lags < 1:
        raise ValueError(f"lags must be at least 1, got {lags}")
