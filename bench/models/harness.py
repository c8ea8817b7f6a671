"""Trained networks in the NeuroBench harness (Yik et al. 2025; `pip install "gle-toolkit[neurobench]"`).

    Benchmark(harness.model(network, dt=0.2), loader, [], [], [[Footprint, ConnectionSparsity],
              [ActivationSparsity, SynapticOperations]]).run()

The harness finds what it counts by the types of modules: connections are `nn.Linear`, activations whatever it is told.
What it does not find it reports as zero, without a word; so the network is rebuilt here from such modules, and
`counted` counts the same without the harness.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gle.dynamics import rate
from gle.integrators import Euler, Integrator
from gle.network import Layer, Network
from gle.operators import euler_fraction, low_pass
from gle.recording import Record
from gle.simulate import Simulation
from gle.state import Theta
from gle.synapses import Linear


class Neurons(nn.Module):
    """The neurons of one layer: current [batch, n] in, rate r [batch, n] out, one Euler step a call. The membrane
    potential is a buffer, and counts for the footprint, as the time constants do."""

    u: Tensor
    tau_m: Tensor

    def __init__(self, layer: Layer, tau_m: Tensor, tau_r: Tensor, dt: float):
        super().__init__()
        self.layer, self.dt = [layer], dt  # a list: the layer itself is no submodule
        self.register_buffer("tau_m", tau_m.clone())
        self.register_buffer("tau_r", tau_r.clone())
        self.register_buffer("u", torch.zeros_like(tau_m).unsqueeze(0))

    def forward(self, current: Tensor) -> Tensor:
        r, _ = rate(self.layer[0].phi, Theta(tau_m=self.tau_m, tau_r=self.tau_r), self.u, current)
        self.u = low_pass(self.u, current, euler_fraction(self.dt, self.tau_m))
        return r


class Unrolled(nn.Module):
    """A network, frozen, as the harness wants it: [batch, T, features] → [batch, T, n_out], from rest. forward Euler
    with instant propagation: one product per layer and step."""

    def __init__(self, network: Network, dt: float, member: tuple[int, ...] = ()):
        super().__init__()
        if len(member) != len(network.ensemble):
            raise ValueError(f"member {member} does not name one of an ensemble with axes {network.ensemble}")
        parts: list[nn.Module] = []
        for i, d in network.places():
            layer = network.layers[i]
            if not isinstance(layer.synapse, Linear):
                raise ValueError(f"layer {i} has {type(layer.synapse).__name__} synapses: the harness takes Linear")
            at = (d, *member)
            W, b = layer.W.detach()[at], None if layer.b is None else layer.b.detach()[at]
            connections = nn.Linear(W.shape[1], W.shape[0], bias=b is not None, dtype=W.dtype, device=W.device)
            connections.load_state_dict({"weight": W} if b is None else {"weight": W, "bias": b})
            parts += [connections, Neurons(layer, layer.tau_m[at], layer.tau_r[at], dt)]
        self.parts = nn.Sequential(*parts).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        for part in self.parts:
            if isinstance(part, Neurons):
                part.u = part.u.new_zeros(len(x), part.u.shape[-1])
        outputs = torch.stack([self.parts(x_t) for x_t in x.unbind(1)], 1)
        for part in self.parts:
            if isinstance(part, Neurons):
                part.u = part.u[:1]  # the footprint is that of one copy of the network, whatever the batch was
        return outputs


def check_installed() -> None:
    if importlib.util.find_spec("neurobench") is None:
        raise ModuleNotFoundError(
            'NeuroBench is not installed: pip install "gle-toolkit[neurobench]"', name="neurobench"
        )


def model(network: Network, dt: float, member: tuple[int, ...] = ()):
    """The network as a `NeuroBenchModel`. member: which of an ensemble.

    Raises ModuleNotFoundError without the extra, ValueError for synapses other than Linear.
    """
    check_installed()
    from neurobench.models import TorchModel

    wrapped = TorchModel(Unrolled(network, dt, member))
    wrapped.add_activation_module(Neurons)
    return wrapped


def measured(network: Network, dt: float, x: Tensor, member: tuple[int, ...] = ()) -> dict[str, float]:
    """What the harness says of the network while it reads x [batch, T, features]; operations per step."""
    wrapped = model(network, dt, member)
    from neurobench.benchmarks import Benchmark
    from neurobench.metrics.static import ConnectionSparsity, Footprint
    from neurobench.metrics.workload import ActivationSparsity, SynapticOperations

    x = x.to(network.device, network.dtype)
    pairs = torch.utils.data.TensorDataset(x, torch.zeros(len(x)))
    metrics = [[Footprint, ConnectionSparsity], [ActivationSparsity, SynapticOperations]]
    said = Benchmark(wrapped, torch.utils.data.DataLoader(pairs, len(x)), [], [], metrics).run(quiet=True)
    operations = said["SynapticOperations"]
    return {
        "footprint": said["Footprint"],
        "connection_sparsity": said["ConnectionSparsity"],
        "activation_sparsity": said["ActivationSparsity"],
        "dense": float(operations["Dense"]) / x.shape[1],
        "effective": float(operations["Effective_MACs"] + operations["Effective_ACs"]) / x.shape[1],
    }


@torch.no_grad()
def counted(network: Network, dt: float, x: Tensor, member: tuple[int, ...] = ()) -> dict[str, float]:
    """The same, counted on a `Simulation` of the network, without the harness."""
    scheme: Integrator = Euler("instant")
    rates = Record("r", every=1)
    Simulation(network, dt=dt, integrator=scheme).run(x.transpose(0, 1), record=rates)
    at = (slice(None), *member)
    r = [layer[at] for layer in rates["r"].values()]  # each [T, batch, n]
    pre = [x.transpose(0, 1).to(r[0]), *r[:-1]]
    W = [network.layers[i].W[(d, *member)] for i, d in network.places()]
    kept = [t[(d, *member)] for i, d in network.places() for t in network.layers[i].theta()[:4] if t is not None]
    potentials = sum(w.shape[0] for w in W)
    steps = x.shape[0] * x.shape[1]
    return {
        "footprint": (sum(t.numel() for t in kept) + potentials) * W[0].element_size(),
        "connection_sparsity": 1 - sum(map(nonzero, W)) / sum(w.numel() for w in W),
        "activation_sparsity": 1 - sum(map(nonzero, r)) / sum(t.numel() for t in r),
        "dense": float(sum(w.numel() for w in W)),
        "effective": sum(active(p, w) for p, w in zip(pre, W, strict=True)) / steps,
    }


def nonzero(t: Tensor) -> int:
    return int(torch.count_nonzero(t))


def active(pre: Tensor, W: Tensor) -> float:
    """Products of two numbers other than zero in W r, over all steps: pre [T, batch, in]."""
    return float(((pre != 0).sum((0, 1)).double() * (W != 0).sum(0)).sum())


ROWS: Sequence[tuple[str, str]] = (
    ("footprint", "footprint (bytes)"),
    ("connection_sparsity", "connection sparsity"),
    ("activation_sparsity", "activation sparsity"),
    ("dense", "synaptic operations a step, dense"),
    ("effective", "synaptic operations a step, effective"),
)
