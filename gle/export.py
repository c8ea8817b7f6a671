"""Trained networks for other programs: NIR, which simulators and neuromorphic hardware read, and ONNX.

    gle.export.to_nir("filter.nir", net)        # the equations, in continuous time
    net = gle.export.from_nir("filter.nir")
    gle.export.to_onnx("step.onnx", sim)        # one step of sim.predict

What each can express, and what is refused, is in docs/exchange.md.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from gle.files import write_whole
from gle.given import positive
from gle.graph import INPUT, Graph, Population, Projection
from gle.network import Layer, Network
from gle.neurons import ACTIVATIONS, Spike
from gle.simulate import Simulation
from gle.state import State, changed, mapped, select
from gle.synapses import Conv2d, Diagonal, Identity, Linear, Masked, Synapse
from gle.wiring import Wiring

Shape = tuple[int, ...]


def _package(name: str, extra: str) -> ModuleType:
    """Raises ImportError, with what to install, where it is missing."""
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"this needs the package {error.name}: pip install 'gle-toolkit[{extra}]'") from error


# -- NIR: a neuron is a leaky integrator beside an identity ------------------------------------------------------------
#
# r = φ(u + τr u̇) with τm u̇ = I − u is r = φ(ratio · I + (1 − ratio) · u), ratio = τr/τm: two nodes between the same
# neighbours, whose outputs add up. A `Scale` holds the ratio, and the `LI` the rest, as its resistance.


class _Joined(NamedTuple):
    """What reaches a population from one source."""

    source: str
    synapse: Synapse
    W: Any  # array, or None
    b: Any


class _Unit(NamedTuple):
    """A population, of which n = the product of its shape."""

    name: str
    phi: str
    tau_m: np.ndarray  # [n]
    tau_r: np.ndarray
    b: Any  # [n] or None
    joined: list[_Joined]


def to_nir(path: Path | str, item: Wiring | Simulation, *, member: Sequence[int] | int = (), unit: float = 1.0) -> None:
    """Writes the forward network, whole or not at all, as a graph of the Neuromorphic Intermediate Representation.

    item: a chain or a `Graph`, or a simulation, whose dt and scheme then stand in the file as a remark. The equations
    in the file are continuous in time and know no dt. member: which one of an ensemble, an index for each of its axes.
    unit: what a τ is multiplied by, to be in the time unit of the file's readers.

    Raises ValueError, naming the part, for what NIR cannot express: rate functions other than "linear" and "spike",
    delayed projections, synapses other than Linear, Masked, Diagonal, Identity and Conv2d; ImportError without the
    package nir (the extra "nir"); OSError where the file cannot be written.
    """
    nir = _package("nir", "nir")
    net, theta = (item.network, item.carry.theta) if isinstance(item, Simulation) else (item, None)
    if not isinstance(net, (Network, Graph)):
        raise ValueError(f"a Network, a Graph or a Simulation can be written, not a {type(net).__name__}")
    units = list(_units(net, net.theta() if theta is None else theta, _chosen(net, member)))
    graph = _nir_graph(nir, units, net.n_in, _name(net, net.top), positive("unit", unit))
    if isinstance(item, Simulation):
        scheme = item.integrator
        graph.metadata = {
            "dt": item.dynamics.dt * unit,
            "integrator": type(scheme).__name__,
            "propagation": scheme.propagation,
        }
    write_whole(path, lambda file: nir.write(file, graph))


def _chosen(net: Wiring, member: Sequence[int] | int) -> tuple[int, ...]:
    index = (member,) if isinstance(member, int) else tuple(member)
    if len(index) != len(net.ensemble) or any(not 0 <= i < n for i, n in zip(index, net.ensemble, strict=False)):
        raise ValueError(f"member = {member!r}: NIR holds one network, give an index for each axis of {net.ensemble}")
    return index


def _name(net: Network | Graph, i: int, d: int = -1) -> str:
    return net.names[i] if isinstance(net, Graph) else f"layer{list(net.places()).index((i, d % net.layers[i].depth))}"


def _units(net: Network | Graph, theta: Any, member: tuple[int, ...]) -> Iterator[_Unit]:
    """Its populations, each behind those that it hears. Raises ValueError for what NIR has no words for."""

    def array(t: Tensor | None) -> Any:
        exact = torch.float64 if t is not None and t.dtype == torch.float64 else torch.float32
        return None if t is None else t[member].detach().to("cpu", exact).numpy()

    below = INPUT
    for i, d in [(i, 0) for i in net.order] if isinstance(net, Graph) else net.places():
        part, p, name = net.neurons[i], mapped(array, select(theta[i], d)), _name(net, i, d)
        if part.phi is not ACTIVATIONS["linear"] and type(part.phi) is not Spike:
            raise ValueError(
                f"NIR has no nodes for φ = {part.phi.name} of {name!r}: it knows linear and spiking neurons alone"
            )
        if "/" in name:
            raise ValueError(f"NIR's files cannot hold a population called {name!r}: give it a name without '/'")
        if isinstance(net, Network):
            joined, b = [_Joined(below, part.synapse, p.W, p.b)], None
        else:
            joined, b = [], p.b
            for k, projection in enumerate(net.projections, start=len(net.names)):
                if projection.given.target == name:
                    if projection.given.delay:
                        raise ValueError(
                            f"NIR is continuous in time and cannot express the delay by a step of {projection.given}"
                        )
                    q = mapped(array, select(theta[k], 0))
                    joined.append(_Joined(projection.given.source, projection.synapse, q.W, q.b))
        yield _Unit(name, part.phi.name, p.tau_m, p.tau_r, b, joined)
        below = name


def _nir_graph(nir: Any, units: list[_Unit], n_in: int, output: str, unit: float) -> Any:
    shapes = _shapes(units, n_in)
    nodes: dict[str, Any] = {INPUT: nir.Input(input_type={"input": np.array(shapes[INPUT])})}
    edges: list[tuple[str, str]] = []
    speaks = {INPUT: [INPUT]}  # the nodes whose sum is what a population says

    def chain(sources: list[str], *names: str) -> list[str]:
        for name in names:
            edges.extend((source, name) for source in sources)
            sources = [name]
        return sources

    for name, phi, tau_m, tau_r, b, joined in units:
        shape, ratio = shapes[name], tau_r / tau_m
        neurons = [f"{name}_li", f"{name}_scale"]
        nodes[neurons[0]] = nir.LI(
            tau=(tau_m * unit).reshape(shape), r=(1 - ratio).reshape(shape), v_leak=np.zeros_like(ratio).reshape(shape)
        )
        nodes[neurons[1]] = nir.Scale(scale=ratio.reshape(shape))
        with_bias = next((k for k, join in enumerate(joined) if isinstance(join.synapse, Linear)), 0)
        for k, join in enumerate(joined):
            sources = speaks[join.source]
            for kind, node in _join(nir, name, join, b if k == with_bias else None, shapes).items():
                nodes[f"{name}_{kind}{k or ''}"] = node
                sources = chain(sources, f"{name}_{kind}{k or ''}")
            for neuron in neurons:
                chain(sources, neuron)
        speaks[name] = neurons
        if phi == "spike":
            nodes[f"{name}_threshold"] = nir.Threshold(threshold=np.ones_like(ratio).reshape(shape))
            speaks[name] = chain(neurons, f"{name}_threshold")
    nodes["output"] = nir.Output(output_type={"output": np.array(shapes[output])})
    chain(speaks[output], "output")
    return nir.NIRGraph(nodes=nodes, edges=edges)


def _shapes(units: list[_Unit], n_in: int) -> dict[str, Shape]:
    """Of each population, and the input: (n,), or (channels, height, width) before and behind convolutions. Raises
    ValueError for what would have to change its shape."""
    first = [j.synapse for u in units for j in u.joined if j.source == INPUT and isinstance(j.synapse, Conv2d)]
    shapes: dict[str, Shape] = {INPUT: (first[0].channels[0], *first[0].size) if first else (n_in,)}
    for unit in units:
        made: list[Shape] = []
        for source, synapse, *_ in unit.joined:
            if isinstance(synapse, Conv2d):
                if synapse.channels_last or synapse.average:
                    raise ValueError(f"{unit.name!r}: convolutions are written with channels first, and with weights")
                if shapes[source] != (synapse.channels[0], *synapse.size):
                    raise ValueError(f"{unit.name!r}: NIR cannot make an image of what comes from {source!r}")
                made.append((synapse.channels[1], *synapse.size_out))
            else:
                keeps = isinstance(synapse, (Diagonal, Identity))
                made.append(shapes[source] if keeps else (len(unit.tau_m),))
        if len(set(made)) > 1:
            raise ValueError(f"NIR cannot add images and vectors, as they meet in {unit.name!r}")
        shapes[unit.name] = made[0]
    return shapes


def _join(nir: Any, name: str, join: _Joined, b: Any, shapes: dict[str, Shape]) -> dict[str, Any]:
    """The nodes of one projection, in their order; b: the population's bias, where it stands here."""
    source, synapse, W, own = join
    shape, flat = shapes[source], len(shapes[source]) == 1
    if type(synapse) not in (Linear, Masked, Diagonal, Identity, Conv2d):  # not even kinds of these
        raise ValueError(f"NIR has no node for the {type(synapse).__name__} synapses of {name!r}")
    if isinstance(synapse, Conv2d):
        if b is not None:
            raise ValueError(f"NIR has no node for a bias of each neuron of {name!r}: give its convolution the bias")
        how = {"stride": synapse.stride, "padding": synapse.padding, "dilation": (1, 1), "groups": 1}
        return {"conv": nir.Conv2d(synapse.size, W, bias=np.zeros(len(W), W.dtype) if own is None else own, **how)}
    b = own if b is None else b if own is None else b + own
    if isinstance(synapse, Linear):
        W = W * synapse.mask.cpu().numpy() if isinstance(synapse, Masked) else W
        flatten = {} if flat else {"flatten": nir.Flatten({"input": np.array(shape)}, start_dim=0)}
        return flatten | ({"linear": nir.Linear(W)} if b is None else {"affine": nir.Affine(W, b)})
    if b is None:
        return {} if W is None else {"diagonal": nir.Scale(W.reshape(shape))}
    if not flat:
        raise ValueError(f"NIR has no node for the bias of {name!r}, whose neurons are an image: leave it out")
    return {"affine": nir.Affine(np.diag(np.ones_like(b) if W is None else W), b)}


# -- and back ----------------------------------------------------------------------------------------------------------


def from_nir(path: Path | str, *, dt: float | None = None, unit: float = 1.0) -> Network | Graph:
    """The network in a NIR file, as `to_nir` or another program wrote it: a `Network` where it is a chain of dense
    layers, else a `Graph`.

    dt: of the simulation to come, in the network's time unit; needed where leaky integrators stand alone, without a
    `Scale` beside them: what those say is their potential after the step, which GLE writes as τr = dt. unit: what τ
    were multiplied by.

    Raises ValueError, naming file and node, for what is no graph of leaky integrators behind affine maps, scales and
    convolutions; ImportError without the package nir.
    """
    nir = _package("nir", "nir")
    if not Path(path).is_file():
        raise ValueError(f"there is no file {path}")
    try:
        graph = nir.read(Path(path))
    except Exception as error:  # a damaged file leads to errors of any kind
        raise ValueError(f"{path} holds no NIR graph: {(str(error) or repr(error)).splitlines()[0]}") from None
    try:
        return _Read(nir, graph, None if dt is None else positive("dt", dt), positive("unit", unit)).network()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


class _Read:
    """A NIR graph, read as populations of prospective neurons."""

    def __init__(self, nir: Any, graph: Any, dt: float | None, unit: float):
        self.nir, self.nodes, self.dt, self.unit = nir, graph.nodes, dt, unit
        before: dict[str, set[str]] = {k: set() for k in self.nodes}
        behind: dict[str, set[str]] = {k: set() for k in self.nodes}
        for a, b in graph.edges:
            before[b].add(a)
            behind[a].add(b)
        self.before, self.behind = before, behind
        known = (
            nir.Input, nir.Output, nir.LI, nir.Scale, nir.Affine, nir.Linear, nir.Conv2d, nir.Flatten, nir.Threshold,
        )  # fmt: skip
        for name, node in self.nodes.items():
            if not isinstance(node, known):
                raise ValueError(f"GLE has nothing for node {name!r}, a {type(node).__name__}")
        self.used = set(self._named(nir.Input, nir.Output))
        self.inlet, self.outlet = (self._only(kind) for kind in (nir.Input, nir.Output))
        self.speaks: dict[str, set[str]] = {INPUT: {self.inlet}}  # of each population, the nodes whose sum it says
        self.thresholds: dict[str, np.ndarray] = {}
        self.ahead = {li: self._beside(li) for li in self._named(nir.LI)}
        for li, scale in self.ahead.items():
            voice = {li} if scale is None else {li, scale}
            following = behind[li]
            self.used |= voice
            if len(following) == 1 and isinstance(self.nodes[last := next(iter(following))], nir.Threshold):
                if before[last] != voice:
                    raise ValueError(f"threshold {last!r} hears more than {', '.join(sorted(voice))}")
                self.thresholds[li], voice = self.nodes[last].threshold, {last}
                self.used.add(last)
            self.speaks[self._called(li)] = voice
        if len(self.speaks) <= len(self.ahead):
            raise ValueError("two of its leaky integrators have the same name, or that of the input")

    def _named(self, *kinds: type) -> list[str]:
        return [name for name, node in self.nodes.items() if isinstance(node, kinds)]

    def _only(self, kind: type) -> str:
        found = self._named(kind)
        if len(found) != 1:
            raise ValueError(f"a network has one {kind.__name__} node, this graph has {len(found)}")
        return found[0]

    @staticmethod
    def _called(li: str) -> str:
        return li.removesuffix("_li").replace(".", "_").replace("→", "_")

    def _beside(self, li: str) -> str | None:
        """The `Scale` between the same neighbours: what the neuron passes on without a memory."""
        found = [
            k
            for k in self._named(self.nir.Scale)
            if self.before[k] == self.before[li] and self.behind[k] == self.behind[li]
        ]
        return min(found, default=None)

    def _sources(self, name: str, heard: set[str]) -> list[str]:
        """The populations that say these nodes."""
        sources = [k for k, voice in self.speaks.items() if voice <= heard]
        if not sources or set().union(*(self.speaks[k] for k in sources)) != heard:
            raise ValueError(f"what node {name!r} hears, {', '.join(sorted(heard)) or 'nothing'}, is no population")
        return sources

    def _joined(self, li: str) -> Iterator[_Joined]:
        nir = self.nir
        voices = set().union(*self.speaks.values())
        if direct := self.before[li] & voices:
            yield from (_Joined(k, Identity(), None, None) for k in self._sources(li, direct))
        for name in sorted(self.before[li] - voices):
            node, heard = self.nodes[name], self.before[name]
            self.used.add(name)
            while len(heard) == 1 and isinstance(self.nodes[flat := next(iter(heard))], nir.Flatten):
                self.used.add(flat)
                heard = self.before[flat]
            b = getattr(node, "bias", None)
            for k in self._sources(name, heard):
                if isinstance(node, nir.Conv2d):
                    yield _Joined(k, self._convolution(name, node), node.weight, b)
                elif isinstance(node, (nir.Affine, nir.Linear)) and node.weight.ndim == 2:
                    yield _Joined(k, Linear(), node.weight, b)
                elif isinstance(node, nir.Scale):
                    yield _Joined(k, Diagonal(), node.scale.ravel(), None)
                else:
                    raise ValueError(f"node {name!r}, a {type(node).__name__}, leads to no leaky integrator")
                b = None  # of several sources, once

    def _convolution(self, name: str, node: Any) -> Conv2d:
        padding = 0 if isinstance(node.padding, str) and node.padding == "valid" else node.padding
        if isinstance(padding, str) or node.groups != 1 or np.any(np.asarray(node.dilation) != 1):
            raise ValueError(f"convolution {name!r} has groups, dilation or padding that GLE has not")
        if node.input_shape is None:
            raise ValueError(f"convolution {name!r} does not say how large its input is")
        two = [tuple(int(n) for n in np.broadcast_to(x, 2)) for x in (node.input_shape, node.stride, padding)]
        c_out, c_in, *kernel = node.weight.shape
        return Conv2d((c_in, c_out), two[0], tuple(kernel), two[1], two[2])  # type: ignore[arg-type]

    def _unit(self, li: str) -> _Unit:
        """The gain of a neuron, R + s of its two nodes, goes into its synapses."""
        node, joined = self.nodes[li], list(self._joined(li))
        tau, r = (np.asarray(x, np.float64).ravel() for x in (node.tau / self.unit, node.r))
        if np.any(node.v_leak != 0):
            raise ValueError(f"{li!r} has v_leak ≠ 0, where neurons of GLE have biases: leave it out")
        scale = self.ahead[li]
        if scale is not None:
            s = np.asarray(self.nodes[scale].scale, np.float64).ravel()
            gain = r + s
            tau_r = tau * s / np.where(gain == 0, np.nan, gain)
        elif self.dt is not None:
            gain, tau_r = r, np.full_like(tau, self.dt)
        else:
            raise ValueError(
                f"{li!r} is a leaky integrator that does not look ahead, which GLE writes as τr = dt: give dt"
            )
        if bad := [float(x) for x in (*tau, *tau_r) if not (x > 0 and math.isfinite(x))]:
            raise ValueError(f"time constants of {li!r} would be τm, τr = {bad[0]:g}, which must be positive")
        if (threshold := self.thresholds.get(li)) is not None:
            if np.any(threshold <= 0):
                raise ValueError(f"{li!r}: a threshold must be positive to be scaled to one")
            gain = gain / np.asarray(threshold, np.float64).ravel()
        if not np.allclose(gain, 1, rtol=0, atol=1e-6):
            joined = [_louder(li, j, gain) for j in joined]
        b = [j.b for j in joined if j.b is not None and not isinstance(j.synapse, Conv2d)]
        joined = [j if isinstance(j.synapse, Conv2d) else j._replace(b=None) for j in joined]
        phi = "linear" if threshold is None else "spike"
        return _Unit(self._called(li), phi, tau, tau_r, sum(b) if b else None, joined)

    def network(self) -> Network | Graph:
        units = [self._unit(li) for li in self.ahead]
        if left := sorted(self.nodes.keys() - self.used):
            raise ValueError(
                f"node {left[0]!r}, a {type(self.nodes[left[0]]).__name__}, stands neither before a leaky integrator "
                "nor behind one"
            )
        heads = self._sources(self.outlet, self.before[self.outlet])
        if len(heads) != 1 or heads[0] == INPUT:
            raise ValueError(f"the output hears {', '.join(heads)}, and should hear one population")
        n_in = int(np.prod(self.nodes[self.inlet].input_type["input"]))
        exact = any(node.tau.dtype == np.float64 for node in self.nodes.values() if isinstance(node, self.nir.LI))
        where = {"dtype": torch.float64 if exact else torch.float32}
        chain = _in_chain(units)
        if chain is not None and chain[-1].name == heads[0]:
            return _chain(chain, where)
        return _graph(units, n_in, heads[0], where)


def _louder(name: str, join: _Joined, gain: np.ndarray) -> _Joined:
    source, synapse, W, b = join
    if isinstance(synapse, Conv2d):
        raise ValueError(f"{name!r} scales what a convolution says: scale the convolution instead")
    if isinstance(synapse, Identity):
        return _Joined(source, Diagonal(), gain, b)
    return _Joined(source, synapse, (W.T * gain).T, None if b is None else b * gain)


def _in_chain(units: list[_Unit]) -> list[_Unit] | None:
    """From the input up, or None where they are no chain of dense layers."""
    above = {u.joined[0].source: u for u in units if len(u.joined) == 1 and isinstance(u.joined[0].synapse, Linear)}
    chain: list[_Unit] = []
    while len(chain) < len(units) and (unit := above.get(chain[-1].name if chain else INPUT)) is not None:
        chain.append(unit)
    return chain if len(chain) == len(units) else None


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


@torch.no_grad()
def _set(p: Any, value: np.ndarray) -> None:
    p.copy_(_tensor(value).expand_as(p))


def _chain(units: list[_Unit], where: Mapping[str, Any]) -> Network:
    layers = []
    for _, phi, tau_m, tau_r, b, (join,) in units:
        n_out, n_in = join.W.shape
        layers.append(
            Layer(n_in, n_out, tau_m=_tensor(tau_m), tau_r=_tensor(tau_r), phi=phi, bias=b is not None, **where)
        )
    net = Network(layers)
    for layer, unit in zip(layers, units, strict=True):
        _set(layer.W, unit.joined[0].W)
        if layer.b is not None:
            _set(layer.b, unit.b)
    return net


def _graph(units: list[_Unit], n_in: int, output: str, where: Mapping[str, Any]) -> Graph:
    populations = {u.name: Population(len(u.tau_m), u.tau_m, u.tau_r, u.phi, bias=u.b is not None) for u in units}
    joins = [
        (Projection(j.source, u.name, synapse=j.synapse, bias=j.b is not None), j) for u in units for j in u.joined
    ]
    net = Graph(n_in, populations, [given for given, _ in joins], output=output, **where)
    for unit in units:
        if unit.b is not None:
            _set(net[unit.name].b, unit.b)
    for given, join in joins:
        for kind in ("W", "b"):
            if getattr(join, kind) is not None:
                _set(getattr(net[str(given)], kind), getattr(join, kind))
    return net


# -- ONNX: one step of `Simulation.predict` ---------------------------------------------------------------------------


class _Step(nn.Module):
    """State in, state out, as a function of tensors alone."""

    def __init__(self, sim: Simulation):
        super().__init__()
        delays = isinstance(sim.network, Graph) and any(part.given.delay for part in sim.network.projections)
        self.fields = ("u", "r") if delays or sim.integrator.propagation == "delayed" else ("u",)
        self.sim = [sim]  # not among the modules: what counts are the parameters that it has now
        self.theta = mapped(Tensor.detach, sim.carry.theta)
        self.rest = self._tensors(sim.network.initial_state(1))

    def _tensors(self, state: State) -> list[Tensor]:
        return [getattr(s, field) for field in self.fields for s in state]

    def names(self) -> list[str]:
        net = self.sim[0].network
        own = net.names if isinstance(net, Graph) else range(len(net.neurons))
        return [f"{field}.{name}" for field in self.fields for name in own]

    def forward(self, start: Tensor, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """start: [batch], which samples begin at rest, whatever their state."""
        sim, anew = self.sim[0], start.unsqueeze(-1)
        begun = [torch.where(anew, a, b) for a, b in zip(self.rest, state, strict=True)]
        still = sim.network.initial_state(x.shape[-2])
        n = len(still)
        before = tuple(
            changed(z, **{field: begun[k * n + i] for k, field in enumerate(self.fields)}) for i, z in enumerate(still)
        )
        nodes = len(sim.integrator.nodes)
        dynamics = changed(sim.dynamics, gamma=0.0)  # there are no errors that it could couple
        after, _ = sim.integrator.step(sim.network, self.theta, before, (x,) * nodes, (None,) * nodes, dynamics)
        return sim.network.output(after), self._tensors(after)


def to_onnx(path: Path | str, sim: Simulation) -> None:
    """Writes one step of `sim.predict`, whole or not at all, as an ONNX file, for a batch of any size.

    Inputs: start [batch], true where a sample begins at rest; input [*ensemble, batch, n_in]; and the state, u.0, u.1,
    … (with delayed propagation also r.0, …) of the layers, or by the names of a graph's populations, each
    [depth, *ensemble, batch, n]. Outputs: output [*ensemble, batch, n_out] and the state after, next_u.0, …

    Raises ValueError for what is no Simulation, and for dtypes but float32 and float64; ImportError without the
    packages onnx and onnxscript (the extra "onnx"); OSError where the file cannot be written.
    """
    _package("onnx", "onnx"), _package("onnxscript", "onnx")
    if not isinstance(sim, Simulation):
        raise ValueError(f"a step is one of a Simulation, which has the dt, not of a {type(sim).__name__}")
    net = sim.network
    if net.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"a network in {net.dtype} is not written: give a Simulation of network.float()")
    sim.check(learns=False)
    step = _Step(sim).eval()
    state, names = step._tensors(net.initial_state(2)), step.names()
    x = net.parts[0].theta().tau_m.new_zeros(*net.ensemble, 2, net.n_in)
    batch = torch.export.Dim("batch")
    rows: tuple[Any, ...] = ({0: batch}, {x.ndim - 2: batch}, [{s.ndim - 2: batch} for s in state])
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter's own, of what it uses itself
        given = (torch.zeros(2, dtype=torch.bool, device=x.device), x, state)
        traced = torch.export.export(step, given, dynamic_shapes=rows)
        traced.graph.eliminate_dead_code()  # errors, which are zero, and which ONNX has not all the operators for
        program = torch.onnx.export(
            traced, dynamo=True, verbose=False, dynamic_shapes=rows, input_names=["start", "input", *names],
            output_names=["output", *(f"next_{name}" for name in names)],
        )  # fmt: skip
    assert program is not None
    program.model.metadata_props["dt"] = str(sim.dynamics.dt)
    write_whole(path, lambda file: file.write(program.model_proto.SerializeToString()))
