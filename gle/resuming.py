"""A simulation on disk and back: all that a continuation needs, compared before it is loaded."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from gle.carry import from_dict, to_dict
from gle.checks import check_time_constants
from gle.credit import plain, remembered

if TYPE_CHECKING:
    from gle.simulate import Simulation


def saved_state(sim: Simulation) -> dict:
    """What `Simulation.state_dict` returns."""
    batch = sim.carry.state[0].u.shape[-2] if sim.carry.state else 0
    saved = {"step": sim.step, "batch": batch, "carry": to_dict(sim.carry._replace(memory=None))}
    if sim.network.described:
        saved["network"] = sim.network.described
    if sim.noises:
        saved["noise"] = [repr(noise) for noise in sim.noises]
    if sim.plasticity is not None:
        saved["plasticity"] = description(sim)
    if sim.carry.memory is not None:
        saved["memory"] = plain(sim.carry.memory)
    if sim.shared is not None:
        saved["optimizer"] = copy.deepcopy(sim.shared.optimizer.state_dict())
    return saved


def description(sim: Simulation) -> dict[str, Any]:
    """What learning depends on: it goes on in no simulation in which any of this differs."""
    assert sim.plasticity is not None
    rule = "GLE" if sim.rule is None else type(sim.rule).__name__
    return {**sim.plasticity.description(sim.network), "rule": rule}


def load_state(sim: Simulation, saved: dict) -> None:
    """What `Simulation.load_state_dict` does."""
    sim.check(own=sim.shared is not None)  # else its own are the ones that are loaded
    if missing := [k for k in ("step", "batch", "carry") if not isinstance(saved, dict) or k not in saved]:
        raise ValueError(f"this is no saved simulation: it has no {', '.join(missing)}")
    if not all(isinstance(saved[k], int) and saved[k] >= 0 for k in ("step", "batch")):
        raise ValueError(f"step and batch of a saved simulation must count, got {saved['step']}, {saved['batch']}")
    if sim.plasticity is None:
        saved = {k: v for k, v in saved.items() if k not in ("plasticity", "optimizer", "memory")}
        if isinstance(saved["carry"], dict):
            saved["carry"] = {**saved["carry"], "learning": None}
    for name, own in (("network", sim.network.described), ("noise", [repr(noise) for noise in sim.noises])):
        was = saved.get(name, [])
        if was != own and (name == "noise" or was):  # older states have neither
            there, here = ("; ".join(map(str, x)) or "none" for x in (was, own))
            raise ValueError(f"the state was saved with another {name}, {there}; this simulation has {here}")
    parts = saved["carry"] if isinstance(saved["carry"], dict) else {}
    from_dict(sim.carry.theta, parts.get("theta"), "carry.theta")  # the network first, then its plasticity
    own = {} if sim.plasticity is None else description(sim)
    there = saved.get("plasticity", {})  # older states have none
    for k, was in there.items() if isinstance(there, dict) else [("description", there)]:
        if was != own.get(k):
            raise ValueError(f"the state was saved by a plasticity with {k} = {was}, this one has {own.get(k)}")
    if ("optimizer" in saved) != (sim.shared is not None):
        which = ("one of gle.plasticity", "one of torch.optim")
        was, here = which["optimizer" in saved], which[sim.shared is not None]
        raise ValueError(f"the state was saved with another optimizer, {was}; this simulation has {here}")
    carry = from_dict(sim.at_rest(saved["batch"]), saved["carry"], "carry")
    check_time_constants(sim.network, sim.dynamics.dt, carry.theta)
    carry = carry._replace(memory=remembered(saved.get("memory"), sim.rule))
    if sim.shared is not None:
        sim.shared.load_state_dict(saved["optimizer"])
        sim.network.load_theta(carry.theta)
        carry = carry._replace(theta=sim.network.theta())
    sim.carry, sim.step = carry, saved["step"]
    sim.write_back()
