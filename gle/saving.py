"""Networks and simulations on disk: architecture, parameters and dynamics, as tensors and plain values.

    gle.save("digits.pt", sim)
    outputs, state = gle.load("digits.pt").predict(inputs)      # in another process, without the code that trained it

What a training needs to go on, neurons' state and optimisers' memory, is in `Simulation.state_dict`.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gle.costs import COSTS
from gle.integrators import INTEGRATORS, RK4
from gle.network import ERRORS, Layer, Network
from gle.neurons import ACTIVATIONS
from gle.simulate import Simulation
from gle.synapses import FEEDBACKS, SYNAPSES

LAYOUT = 1  # of a file; raised where an older one could no longer be read as it was meant
DTYPES = {str(d).removeprefix("torch."): d for d in (torch.float16, torch.bfloat16, torch.float32, torch.float64)}


def save(path: Path | str, item: Network | Simulation) -> None:
    """Writes the file whole, or leaves what was there. Of a simulation, the parameters are those that it has now.

    Raises ValueError for parts of one's own (activations, costs, …) that stand in no registry, from which `load` could
    make them again; OSError where the file cannot be written.
    """
    if not isinstance(item, (Network, Simulation)):
        raise ValueError(f"a Network or a Simulation can be saved, not a {type(item).__name__}")
    net = item.network if isinstance(item, Simulation) else item
    parameters = net.state_dict()
    if isinstance(item, Simulation):
        for i, p in enumerate(item.carry.theta):
            parameters |= {f"layers.{i}.{k}": v.detach() for k, v in p._asdict().items() if v is not None}
    contents = {
        "layout": LAYOUT,
        "dtype": str(net.dtype).removeprefix("torch."),
        "ensemble": [int(n) for n in net.ensemble],
        "layers": [_described(layer) for layer in net.layers],
        "parameters": {k: v.clone() for k, v in parameters.items()},
        "dynamics": _dynamics(item) if isinstance(item, Simulation) else None,
    }
    target = Path(path)
    half = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with open(half, "wb") as file:
            torch.save(contents, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(half, target)
    except BaseException:
        half.unlink(missing_ok=True)
        raise


def load(path: Path | str, device: torch.device | str = "cpu") -> Any:
    """What was saved: a `Network`, or a `Simulation` of it, frozen and at rest, for `predict` (give a new `Simulation`
    its network to learn on).

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


def _described(layer: Layer) -> dict[str, Any]:
    return {
        "n_in": int(layer.n_in),
        "n_out": int(layer.n_out),
        "depth": int(layer.depth),
        "phi": _name(layer.phi, ACTIVATIONS, "activation"),
        "synapse": _name(layer.synapse, SYNAPSES, "synapse"),
        "feedback": _name(layer.synapse.feedback, FEEDBACKS, "feedback"),
        "errors": layer.errors,
        "bias": layer.b is not None,
        "plastic": bool(layer.plastic),
        "frozen": [k for k in ("W", "b") if (p := getattr(layer, k)) is not None and not p.requires_grad],
    }


def _dynamics(sim: Simulation) -> dict[str, Any]:
    dt, beta, gamma, cost = sim.dynamics
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

_CONTENTS = {"layout": int, "dtype": str, "ensemble": list, "layers": list, "parameters": dict, "dynamics": object}
_LAYER = {
    "n_in": int, "n_out": int, "depth": int, "phi": str, "synapse": str, "feedback": str, "errors": str, "bias": bool,
    "plastic": bool, "frozen": list,
}  # fmt: skip
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


def _made(saved: Any, device: torch.device | str) -> Network | Simulation:
    layout = saved.get("layout") if isinstance(saved, dict) else None
    if layout != LAYOUT:
        raise ValueError(f"its layout is {layout}, this version reads {LAYOUT}")
    _, dtype, ensemble, layers, parameters, dynamics = _entries(saved, _CONTENTS, "the file")
    common = {"dtype": _known(dtype, DTYPES, "dtype"), "ensemble": tuple(ensemble)}
    net = Network([_layer(layer, common) for layer in layers])
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


def _layer(saved: Any, common: dict[str, Any]) -> Layer:
    n_in, n_out, depth, phi, synapse, feedback, errors, bias, plastic, frozen = _entries(saved, _LAYER, "a layer")
    _known(phi, ACTIVATIONS, "activation")
    _known(feedback, FEEDBACKS, "feedback")
    if errors not in ERRORS or not set(frozen) <= {"W", "b"}:
        raise ValueError(f"a layer with errors = {errors!r} and frozen = {frozen} is none of this version")
    layer = Layer(
        n_in, n_out, depth=depth, phi=phi, synapse=_known(synapse, SYNAPSES, "synapse")(feedback), errors=errors,
        bias=bias, plastic=plastic, tau_m=1.0, tau_r=1.0, **common,
    )  # fmt: skip
    for kind in frozen:
        getattr(layer, kind).requires_grad_(False)
    return layer
