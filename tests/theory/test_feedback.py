"""Feedback weights that learn: B approaches Wᵀ (Kolen & Pollack 1994), at the rate at which both forget."""

import math

import pytest
import torch

import gle

D = torch.float64


def student(feedback, seed=0):
    """3 → 8 → 6 → 2, a chain of leaky neurons."""
    common = {"tau_m": 1.0, "tau_r": 0.5, "dtype": D, "synapse": gle.Linear(feedback)}
    layers = [gle.Layer(3, 8, **common), gle.Layer(8, 6, **common), gle.Layer(6, 2, phi="linear", **common)]
    return gle.Network(layers, seed=seed)


def angle(layer):
    """Between B and W, in degrees."""
    W, B = layer.W.detach().flatten(), layer.B.flatten()
    return math.degrees(math.acos(float(W @ B / W.norm() / B.norm())))


def taught(feedback, steps=1000, **plasticity):
    """A student of another network's slow responses: itself, and its error before and after."""
    g = torch.Generator().manual_seed(7)
    phase = 6.3 * torch.rand(8, 3, generator=g, dtype=D)
    x = torch.sin(0.1 * 0.5 * torch.arange(steps, dtype=D)[:, None, None] + phase)
    y = gle.Simulation(student("transpose", seed=5), dt=0.1).predict(x)[0]
    net = student(feedback)
    sim = gle.Simulation(net, dt=0.1, plasticity=gle.Plasticity(**plasticity))
    before = float((sim.predict(x)[0] - y).square().mean())
    sim.run(x, y)
    return net, float((sim.predict(x)[0] - y).square().mean()) / before


@pytest.mark.parametrize(("optimizer", "lr"), [("sgd", 0.5), ("adam", 0.01)])
def test_kolen_pollack_aligns(optimizer, lr):
    """Prevents: feedback that only seems to learn; the control without its rule stays where it began."""
    decay = 0.006 / lr  # to e^(−6) of where they began
    start = [angle(layer) for layer in student("kolen_pollack").layers[1:]]
    assert min(start) > 60
    net, left = taught("kolen_pollack", optimizer=optimizer, lr=lr, weight_decay={"W": decay})
    assert max(angle(layer) for layer in net.layers[1:]) < 10
    assert left < 0.3
    fixed, _ = taught("fixed_random", optimizer=optimizer, lr=lr, weight_decay={"W": decay})
    assert torch.equal(fixed.layers[1].B, student("fixed_random").layers[1].B)
    assert min(angle(layer) for layer in fixed.layers[1:]) > 20


def test_difference_falls_with_the_decay():
    """B − W shrinks by 1 − lr·decay at each update, whatever is learned; without decay it stays."""
    for decay in (0.0, 0.05):
        net, _ = taught("kolen_pollack", steps=200, optimizer="sgd", lr=0.1, weight_decay=decay)
        for layer, at_first in zip(net.layers, student("kolen_pollack").layers, strict=True):
            expected = (at_first.B - at_first.W.detach()) * (1 - 0.1 * decay) ** 200
            torch.testing.assert_close(layer.B - layer.W.detach(), expected, atol=1e-12, rtol=0)
            assert (layer.W - at_first.W).detach().abs().max() > 1e-3


@pytest.mark.parametrize("optimizer", ["adam", gle.SGD(0.9)])
def test_feedback_learns_under_any_rule(optimizer):
    """By BPTT, which knows of no feedback weights, B takes W's steps all the same, and GLE goes on from there.

    Prevents: feedback that stays behind, and an optimiser that loses what it kept of it.
    """
    g = torch.Generator().manual_seed(1)
    x, y = (torch.randn(20, 4, n, generator=g, dtype=D) for n in (3, 2))
    net = student("kolen_pollack")
    before = [layer.B - layer.W.detach() for layer in net.layers]
    sim = gle.Simulation(net, dt=0.1, plasticity=gle.Plasticity(optimizer, lr=0.01))
    gle.rules.learn(gle.rules.BPTT(), sim, x, y, stretch=10)
    sim.run(x, y)
    for layer, first, difference in zip(net.layers, student("kolen_pollack").layers, before, strict=True):
        assert (layer.B - first.B).abs().max() > 1e-3
        torch.testing.assert_close(layer.B - layer.W.detach(), difference, atol=1e-12, rtol=0)


def test_weight_decay_is_adam_s_own():
    """`Plasticity(weight_decay=…)` beside AdamW's, for every kind that has one."""
    ended = []
    for settings in ({"optimizer": gle.Adam(weight_decay=0.5)}, {"optimizer": "adam", "weight_decay": 0.5}):
        net, _ = taught("transpose", steps=30, lr=0.01, **settings)
        ended.append([p.detach() for layer in net.layers for p in (layer.W, layer.b)])
    for a, b in zip(*ended, strict=True):
        assert torch.equal(a, b)


def test_what_cannot_be():
    net = student("kolen_pollack")
    plasticity = gle.Plasticity(torch.optim.SGD(net.parameters(), lr=0.1))
    with pytest.raises(ValueError, match=r"the feedback of layers\.0 learns by the optimisers of gle\.plasticity"):
        gle.Simulation(net, dt=0.1, plasticity=plasticity)
    for settings, message in (
        ({"weight_decay": -1.0}, "weight_decay must be ≥ 0 and finite, got -1"),
        ({"weight_decay": {"B": 0.1}}, "weight_decay names B; there are W, b"),
        ({"weight_decay": 0.1, "centred": 5.0}, "centred goes without weight_decay"),
        ({"weight_decay": 0.1, "optimizer": torch.optim.SGD(net.parameters(), lr=0.1)}, "a weight_decay of its own"),
    ):
        with pytest.raises(ValueError, match=message):
            gle.Plasticity(**settings)
