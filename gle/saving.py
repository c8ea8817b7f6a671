"""Networks and simulations on disk: architecture, parameters and dynamics, as tensors and plain values.

    gle.save("digits.pt", sim)
    outputs, state = gle.load("digits.pt").predict(inputs)      # in another process, without the code that trained it

What a training needs to go on, neurons' state and optimisers' memory, is in `Simulation.state_dict`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gle.costs import COSTS
from gle.errors import ERRORS
from gle.files import write_whole
from gle.graph import Graph, Population, Projection
from gle.integrators import INTEGRATORS, RK4
from gle.network import Layer, Network
from gle.neurons import ACTIVATIONS, RATE_FUNCTIONS
from gle.simulate import Simulation
from gle.synapses import FEEDBACKS, SYNAPSES

LAYOUT = 1  # of a file; raised where an older one could no longer be read as it was meant
DTYPES = {str(d).removeprefix("torch."): d for d in (torch.float16, torch.bfloat16, torch.float32, torch.float64)}


def save(path: Path | str, item: Network | Graph | Simulation) -> None:
    """Writes the file whole, or leaves what was there. Of a simulation, the parameters are those that it has now.

    Raises ValueError for parts of one's own (activations, costs, …) that stand in no registry, from which `load` could
    make them again; OSError where the file cannot be written.
    """
    if not isinstance(item, (Network, Graph, Simulation)):
        raise ValueError(f"a Network or a Simulation can be saved, not a {type(item).__name__}")
    net = item.network if isinstance(item, Simulation) else item
    parameters = net.state_dict()
    if isinstance(item, Simulation):
        own = {id(t): name for name, t in (*net.named_parameters(), *net.named_buffers())}
        for p, q in zip(net.theta(), item.carry.theta, strict=True):
            parameters |= {own[id(t)]: v.detach() for t, v in zip(p, q, strict=True) if t is not None}
    wiring = {"graph": _graph_described(net)} if isinstance(net, Graph) else {"layers": [*map(_described, net.layers)]}
    contents = {
        "layout": LAYOUT,
        "dtype": str(net.dtype).removeprefix("torch."),
        "ensemble": [int(n) for n in net.ensemble],
        **wiring,
        "parameters": {k: v.clone() for k, v in parameters.items()},
        "dynamics": _dynamics(item) if isinstance(item, Simulation) else None,
    }
    write_whole(path, lambda file: torch.save(contents, file))


def load(path: Path | str, device: torch.device | str = "cpu") -> Any:
    """What was saved: a `Network` or `Graph`, or a `Simulation` of it, frozen and at rest, for `predict` (give a new
    `Simulation` its network to learn on).

    Raises ValueError, naming the file, where it is damaged, of another version, or no saved network.
    """
    try:
        device = torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {device!r} is none that can be used here: {str(error).splitlines()[0]}") from None
    if not Path(path).is_file():
        raise ValueError(f"there is no file {path}")
    try:
        return _made(_archive(path), device)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{path} holds no network of this version: {str(error).splitlines()[0]}") from None


def _archive(path: Path | str) -> Any:
    """The contents of a file that torch.save wrote, its checksums compared first. Raises ValueError where it is no such
    file, is damaged, or holds more than tensors and plain values."""
    try:  # as hrm.weights does, which takes nothing of this package
        with zipfile.ZipFile(path) as parts:  # torch.load does not look at the checksums
            broken = parts.testzip()
        if broken is None:
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ValueError(error.strerror or error) from None
    except Exception as error:  # a damaged file leads to errors of any kind
        raise ValueError("it is damaged, or holds more than tensors and plain values") from error
    raise ValueError(f"its part {broken} is damaged")


# -- parts by their names ----------------------------------------------------------------------------------------------


def _name(part: Any, registry: Mapping[str, Any], what: str) -> str:
    """Under which a part stands in its registry, as itself or as an instance of a class there."""
    for name, known in registry.items():
        if part is known or type(part) is known:
            return name
    raise ValueError(f"{what} {getattr(part, 'name', None) or type(part).__name__} is none of {', '.join(registry)}")


def _part(part: Any, registry: Mapping[str, Any], what: str) -> Any:
    """Its name, and with it what it was made with, where that is anything."""
    name = _name(part, registry, what)
    options = part.options() if hasattr(part, "options") else {}
    options = {k: _part(v, ERRORS, what) if hasattr(v, "constants") else v for k, v in options.items()}
    return {"name": name, **options} if options else name


def _parts(part: Any) -> dict[str, Any]:
    """What neurons have, of a layer or a population."""
    return {
        "phi": _part(part.phi, {**ACTIVATIONS, **RATE_FUNCTIONS}, "activation"),
        "errors": _part(part.errors, ERRORS, "errors"),
    }


def _joins(part: Any) -> dict[str, Any]:
    """What synapses have, of a layer or a projection."""
    return {
        "synapse": _part(part.synapse, SYNAPSES, "synapse"),
        "feedback": _part(part.synapse.feedback, FEEDBACKS, "feedback"),
    }


def _learning(part: Any) -> dict[str, Any]:
    frozen = [k for k in ("W", "b") if (p := getattr(part, k)) is not None and not p.requires_grad]
    return {"bias": part.b is not None, "plastic": bool(part.plastic), "frozen": frozen}


def _described(layer: Layer) -> dict[str, Any]:
    sizes = {"n_in": int(layer.n_in), "n_out": int(layer.n_out), "depth": int(layer.depth)}
    return {**sizes, **_parts(layer), **_joins(layer), **_learning(layer)}


def _graph_described(net: Graph) -> dict[str, Any]:
    return {
        "n_in": int(net.n_in),
        "output": net.names[net.top],
        "populations": [
            {"name": part.name, "size": int(part.n_out), **_parts(part), **_learning(part)} for part in net.populations
        ],
        "projections": [
            {**{k: getattr(part.given, k) for k in _GIVEN}, **_joins(part), **_learning(part)}
            for part in net.projections
        ],
    }


def _dynamics(sim: Simulation) -> dict[str, Any]:
    dt, beta, gamma, cost, _ = sim.dynamics
    name = _name(sim.integrator, INTEGRATORS, "integrator")
    made = INTEGRATORS[name]()
    if getattr(sim.integrator, "fraction", None) is not getattr(made, "fraction", None):
        raise ValueError("an integrator with a fraction of one's own could not be made again")
    return {
        "dt": float(dt),
        "integrator": name,
        "propagation": sim.integrator.propagation,
        "cost": _name(cost, COSTS, "cost"),
        "beta": beta,
        "gamma": gamma,
    }


# -- and back ----------------------------------------------------------------------------------------------------------

_PARTS = {"phi": object, "errors": object}
_JOINS = {"synapse": object, "feedback": object}
_LEARNING = {"bias": bool, "plastic": bool, "frozen": list}
_LAYER = {"n_in": int, "n_out": int, "depth": int, **_PARTS, **_JOINS, **_LEARNING}
_GRAPH = {"n_in": int, "output": str, "populations": list, "projections": list}
_POPULATION = {"name": str, "size": int, **_PARTS, **_LEARNING}
_GIVEN = {
    "source": str, "target": str, "compartment": object, "delay": int, "epsilon": float, "gain_control": bool,
}  # fmt: skip
_PROJECTION = {**_GIVEN, **_JOINS, **_LEARNING}
_DYNAMICS = {"dt": float, "integrator": str, "propagation": str, "cost": str, "beta": object, "gamma": object}


def _entries(saved: Any, expected: Mapping[str, type], what: str) -> list[Any]:
    """The values in the order of `expected`, each of its type."""
    if not isinstance(saved, dict) or saved.keys() != expected.keys():
        names = sorted(map(str, saved.keys() ^ expected.keys())) if isinstance(saved, dict) else [type(saved).__name__]
        raise ValueError(f"{what} should have {', '.join(expected)}; off: {', '.join(names)}")
    for name, kind in expected.items():
        if kind is not object and type(saved[name]) is not kind:
            raise ValueError(f"{name} = {saved[name]!r} is no {kind.__name__}")
    return [saved[name] for name in expected]


def _known(name: str, registry: Mapping[str, Any], what: str) -> Any:
    if name not in registry:
        raise ValueError(f"{what} {name!r} is none of {', '.join(registry)}")
    return registry[name]


def _made(saved: Any, device: torch.device | str) -> Network | Graph | Simulation:
    layout = saved.get("layout") if isinstance(saved, dict) else None
    if layout != LAYOUT:
        raise ValueError(f"its layout is {layout}, this version reads {LAYOUT}")
    graph = "graph" in saved
    wired = {"graph": dict} if graph else {"layers": list}
    contents = {"layout": int, "dtype": str, "ensemble": list, **wired, "parameters": dict, "dynamics": object}
    _, dtype, ensemble, wiring, parameters, dynamics = _entries(saved, contents, "the file")
    common = {"dtype": _known(dtype, DTYPES, "dtype"), "ensemble": tuple(ensemble)}
    net = _graph(wiring, common) if graph else Network([_layer(layer, common) for layer in wiring])
    own = net.state_dict()
    for name in own.keys() | parameters.keys():
        a, b = own.get(name), parameters.get(name)
        if not isinstance(a, Tensor) or not isinstance(b, Tensor) or (a.shape, a.dtype) != (b.shape, b.dtype):
            raise ValueError(f"{name} does not fit the layers that the file describes")
        if not b.isfinite().all():
            raise ValueError(f"{name} is not finite")
    net.load_state_dict(parameters)
    net.to(device)
    if dynamics is None:
        return net
    dt, integrator, propagation, cost, beta, gamma = _entries(dynamics, _DYNAMICS, "dynamics")
    kind = _known(integrator, INTEGRATORS, "integrator")
    made = kind() if kind is RK4 else kind(propagation)
    if made.propagation != propagation:
        raise ValueError(f"{integrator} has {made.propagation} propagation, not {propagation!r}")
    _known(cost, COSTS, "cost")
    return Simulation(net, dt=dt, integrator=made, cost=cost, beta=beta, gamma=gamma)


def _again(saved: Any, registry: Mapping[str, Any], what: str, **others: Any) -> Any:
    """A part from its name and what it was made with."""
    options = dict(saved) if isinstance(saved, dict) else {"name": saved}
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise ValueError(f"{what} {saved!r} has no name")
    made = _known(name, registry, what)
    if "inner" in options:
        options["inner"] = _again(options["inner"], ERRORS, what)
    try:
        return made(**options, **others) if isinstance(made, type) else made
    except TypeError as error:
        raise ValueError(f"{what} {name}: {error}") from None


def _neurons(saved: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a layer or population that `_parts` described; its time constants come with the parameters."""
    phi = _again(saved["phi"], {**ACTIVATIONS, **RATE_FUNCTIONS}, "activation")
    return {"phi": phi, "errors": _again(saved["errors"], ERRORS, "errors"), "tau_m": 1.0, "tau_r": 1.0}


def _synapse(saved: dict[str, Any]) -> Any:
    feedback = _again(saved["feedback"], FEEDBACKS, "feedback")
    return _again(saved["synapse"], SYNAPSES, "synapse", feedback=feedback)


def _freeze(part: Any, frozen: list) -> None:
    for kind in frozen:
        if kind not in ("W", "b") or getattr(part, kind) is None:
            raise ValueError(f"frozen = {frozen} names what a part does not have")
        getattr(part, kind).requires_grad_(False)


def _layer(saved: Any, common: dict[str, Any]) -> Layer:
    n_in, n_out, depth, *_, bias, plastic, frozen = _entries(saved, _LAYER, "a layer")
    made = {**_neurons(saved), "synapse": _synapse(saved), "bias": bias, "plastic": plastic}
    layer = Layer(n_in, n_out, depth=depth, **made, **common)
    _freeze(layer, frozen)
    return layer


def _graph(saved: Any, common: dict[str, Any]) -> Graph:
    n_in, output, populations, projections = _entries(saved, _GRAPH, "a graph")
    made: dict[str, Population] = {}
    for p in populations:
        name, size, *_, bias, plastic, _ = _entries(p, _POPULATION, "a population")
        made[name] = Population(size, **_neurons(p), bias=bias, plastic=plastic)
    joined = []
    for p in projections:
        *_, bias, plastic, _ = _entries(p, _PROJECTION, "a projection")
        kept = {k: p[k] for k in _GIVEN}
        joined.append(Projection(**kept, synapse=_synapse(p), bias=bias, plastic=plastic))
    net = Graph(n_in, made, joined, output=output, **common)
    for part, p in zip((*net.populations, *net.projections), (*populations, *projections), strict=True):
        _freeze(part, p["frozen"])
    return net
