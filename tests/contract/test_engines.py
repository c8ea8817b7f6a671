"""Engines: what carries a simulation from block to block, and that it looks at no number on the way."""

import copy

import pytest
import torch
from nets import mixed_network, signals
from torch.utils._python_dispatch import TorchDispatchMode

import gle
from gle.engines import ENGINES, Eager

LOOKS = (torch.ops.aten._local_scalar_dense, torch.ops.aten.is_nonzero, torch.ops.aten.equal)


class Looks(TorchDispatchMode):
    """Counts what would wait for a device."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.overloadpacket in LOOKS
        return func(*args, **(kwargs or {}))


def simulation(**changes):
    settings = {"dt": 0.2, "cost": "cross_entropy", "plasticity": gle.Plasticity(lr=1e-3), **changes}
    return gle.Simulation(mixed_network(), **settings)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"plasticity": gle.Plasticity(every=4)},
        {"plasticity": gle.Plasticity(traces=(0.4, 0.4), centred=2.0), "gamma": 0.1},
        {"noise": gle.Noise("rate", 0.1, tau=1.0)},
        {"rule": gle.rules.RTRL()},
        {"plasticity": None},
    ],
    ids=["every step", "every fourth", "filtered", "noisy", "a rule", "frozen"],
)
def test_no_number_is_looked_at_while_it_runs(changes):
    """A run of 48 steps looks at as many numbers as one of 12, those of its beginning and end.

    Prevents: a loop in which a device waits for the processor at every step.
    """
    counts = []
    for steps in (12, 48):
        sim = simulation(**changes)
        x, y = signals(steps)
        sim.run(x[:4], y[:4])  # the first run's own checks
        with Looks() as looks:
            sim.run(x, y)
        counts.append(looks.count)
    assert counts[0] == counts[1] > 0


class Backwards(Eager):
    """An engine of one's own, which takes three steps at a time and counts them."""

    def __init__(self, sim):
        super().__init__(sim)
        self.blocks = []

    def length(self, step, left, every):
        return 3 if left is None or left >= 3 else left

    def advance(self, carry, xs, targets, update, ends=False, drawn=()):
        self.blocks.append(len(xs))
        return super().advance(carry, xs, targets, update, ends, drawn)


def test_an_engine_of_ones_own():
    """One class and, to have a name, one line; it gives the numbers of the others."""
    x, y = signals(10)
    plain = simulation()
    plain.run(x, y)
    ENGINES["threes"] = Backwards
    try:
        own = simulation(engine="threes")
    finally:
        del ENGINES["threes"]
    own.run(x, y)
    assert own.engine.blocks == [3, 3, 3, 1]
    again = copy.deepcopy(own)
    again.run(x, y)
    assert again.engine.sim is again
    assert again.engine.blocks[4:] == [3, 3, 3, 1]
    assert own.engine.blocks == [3, 3, 3, 1]
    for p, q in zip(plain.network.parameters(), own.network.parameters(), strict=True):
        assert torch.equal(p, q)


def test_engines_say_what_they_decline():
    class Picky(Eager):
        @staticmethod
        def declines(sim):
            return "picky takes no plasticity" if sim.plasticity else None

    with pytest.raises(ValueError, match="picky takes no plasticity"):
        simulation(engine=Picky)
    simulation(engine=Picky, plasticity=None)
    with pytest.raises(ValueError, match="unknown engine 'warp'; choose one of eager, compiled"):
        simulation(engine="warp")
    with pytest.raises(ValueError, match=r"engine must be one of eager, compiled, or a class like"):
        simulation(engine=3)
    with pytest.raises(ValueError, match=r"compile=True is engine='compiled'; got engine=.*leave out one of both"):
        simulation(engine=Picky, compile=True)
    with pytest.raises(ValueError, match="RTRL runs eagerly: use compile=False"):
        simulation(engine="compiled", rule=gle.rules.RTRL())
