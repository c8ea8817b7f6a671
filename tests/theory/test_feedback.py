"""Feedback weights that learn: B approaches Wᵀ (Kolen & Pollack 1994), at the rate at which both forget; or finds W in
what noise does to the rates above (phaseless alignment, Max et al. 2024)."""

import math

import numpy as np
import pytest
import torch
from scipy.signal import lfilter

import gle
from gle.plasticity import layer_gradients
from gle.state import changed

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


SIGMA, MEMORY, HIGH = 0.1, 0.2, 1.0  # of the noise, and of the high-pass of the rates above


def listened(phi="linear", steps=1500, batch=128, noise=None, propagation="delayed", graph=False, **settings):
    """A chain whose feedback listens to noise while slow input goes through and W is left alone. B starts at random,
    and forgets that down to e^(−5)."""
    feedback = gle.synapses.Phaseless(tau=HIGH, decay=SIGMA**2)
    leaky = {"tau_m": 1.0, "tau_r": 0.5}
    if graph:
        synapse = gle.Linear(feedback)
        net = gle.Graph(
            3,
            {"a": gle.Population(6, phi=phi, **leaky), "b": gle.Population(4, phi=phi, **leaky)},
            [gle.Projection("input", "a", synapse=synapse), gle.Projection("a", "b", synapse=synapse)],
            dtype=D,
        )
    else:
        common = {**leaky, "phi": phi, "synapse": gle.Linear(feedback), "dtype": D}
        net = gle.Network([gle.Layer(3, 6, **common), gle.Layer(6, 4, **common)], seed=1)
    before = angle(net.parts[-1])
    g = torch.Generator().manual_seed(7)
    phase = 6.3 * torch.rand(batch, 3, generator=g, dtype=D)
    x = torch.sin(0.02 * torch.arange(steps, dtype=D)[:, None, None] + phase)
    plasticity = gle.Plasticity("sgd", lr=5 / steps / SIGMA**2, learn="B", **settings)
    noise = gle.Noise("rate", SIGMA, tau=MEMORY) if noise is None else noise
    sim = gle.Simulation(net, dt=0.1, integrator=gle.integrators.Euler(propagation), plasticity=plasticity, noise=noise)
    W = net.parts[-1].W.clone()
    sim.run(x)
    assert torch.equal(net.parts[-1].W, W)
    return net.parts[-1], before


def heard(dt=0.1, tau_m=1.0, tau_r=0.5):
    """⟨r̂ ξ⟩/σ² of one linear neuron above: what its filter and the high-pass make of the noise's autocovariance."""
    impulse = np.zeros(400)
    impulse[1] = 1.0  # delayed propagation: seen a step later
    u = lfilter([0, dt / tau_m], [1, dt / tau_m - 1], impulse)
    r = u + tau_r / tau_m * (impulse - u)
    high = r - lfilter([dt / HIGH], [1, dt / HIGH - 1], r)
    return float(high @ np.exp(-dt * np.arange(400) / MEMORY))


@pytest.mark.parametrize("graph", [False, True])
def test_phaseless_alignment_finds_the_weights(graph):
    """From noise alone, with W left alone: B = W, times what linear neurons and the high-pass pass on of the noise.

    Prevents: feedback that learns from the signal, from the wrong layer's noise, or not at all.
    """
    part, before = listened(graph=graph)
    W, B = part.W.detach(), part.B
    assert before > 50
    assert angle(part) < 8
    assert abs(float((W * B).sum() / (W * W).sum()) / heard() - 1) < 0.05


def test_phaseless_alignment_through_tanh():
    """Also where φ′ differs from neuron to neuron and moment to moment, whatever the propagation."""
    for propagation in ("delayed", "instant"):
        part, before = listened("tanh", steps=1000, propagation=propagation)
        assert angle(part) < 15 < 50 < before


def test_phaseless_alignment_hears_its_own_noise_only():
    """Control: where B is told of noise that is not the one that the rates above heard, it finds nothing.

    Prevents: an alignment that comes from the rates' correlations with themselves.
    """
    feedback = gle.synapses.Phaseless(tau=HIGH, decay=SIGMA**2)
    net = gle.Network([gle.Layer(3, 6, tau_m=1.0, tau_r=0.5, dtype=D), gle.Layer(6, 4, tau_m=1.0, tau_r=0.5, dtype=D)])
    g = torch.Generator().manual_seed(0)
    r, xi = (torch.randn(1, 4096, n, generator=g, dtype=D) for n in (4, 6))
    layer = gle.Layer(6, 4, tau_m=1.0, tau_r=0.5, dtype=D, synapse=gle.Linear(feedback))
    told = gle.state.Local(xi, r, r, r, r, r, xi)
    own = changed(told, above=torch.matmul(xi, net.layers[1].W.detach().mT))
    for local, share in ((told, 0.0), (own, 1.0)):
        grad = layer_gradients(layer, changed(layer.theta(), B=torch.zeros(1, 4, 6, dtype=D)), local, ("B",), 4096).B
        W = net.layers[1].W.detach()
        assert abs(float((-grad * W).sum() / (W * W).sum()) - share) < 0.1


def test_phaseless_alignment_resumed():
    """Prevents: running means that an interruption forgets."""

    def made():
        synapse = gle.Linear(gle.synapses.Phaseless(decay=0.01))
        common = {"tau_m": 1.0, "tau_r": 0.5, "synapse": synapse, "dtype": D, "ensemble": 2}
        net = gle.Network([gle.Layer(3, 4, **common), gle.Layer(4, 4, depth=2, **common)])
        plasticity = gle.Plasticity("adam", lr={"W": 1e-3, "B": 1e-2}, learn=("W", "B"))
        return gle.Simulation(net, dt=0.1, plasticity=plasticity, noise=gle.Noise("rate", 0.1, tau=1.0))

    g = torch.Generator().manual_seed(1)
    x, y = (torch.randn(20, 5, n, generator=g, dtype=D) for n in (3, 4))
    whole, first, second = made(), made(), made()
    whole.run(x, y)
    first.run(x[:8], y[:8])
    second.run(x[:3], y[:3])
    second.load_state_dict(first.state_dict())
    second.run(x[8:], y[8:])
    assert torch.equal(whole.network.layers[1].B, second.network.layers[1].B)
    assert (whole.network.layers[1].B - made().network.layers[1].B).abs().max() > 1e-3


def test_what_phaseless_feedback_refuses():
    for noise in (gle.Noise("rate", 0.1), gle.Noise("current", 0.1, tau=1.0), ()):
        with pytest.raises(ValueError, match="phaseless feedback learns from noise that lasts"):
            listened(noise=noise)
    with pytest.raises(ValueError, match="learn names B, and no feedback learns from noise"):
        gle.Simulation(student("kolen_pollack"), dt=0.1, plasticity=gle.Plasticity(learn=("W", "B")))
    with pytest.raises(ValueError, match="decay of phaseless feedback must be"):
        gle.synapses.Phaseless(decay=0.0)
    feedback = gle.synapses.Phaseless(tau=0.01)
    with pytest.raises(ValueError, match=r"tau = 0\.01 of the feedback of layers\.0 is not above dt"):
        gle.Simulation(student(feedback), dt=0.1, plasticity=gle.Plasticity(learn="B"))


def test_a_loop_hears_itself_once():
    """Phaseless feedback of a recurrent layer: a neuron's own noise is in its rate as well, and is taken off.

    Prevents: B that grows an identity on top of W.
    """
    synapse = gle.Linear(gle.synapses.Phaseless(tau=HIGH, decay=SIGMA**2))
    net = gle.Graph(
        3,
        {"a": gle.Population(5, tau_m=1.0, tau_r=0.5, phi="linear", errors="instantaneous")},
        [gle.Projection("input", "a"), gle.Projection("a", "a", delay=1, synapse=synapse)],
        dtype=D,
    )
    part = net.projections[1]
    with torch.no_grad():
        part.W.mul_(0.5)
    steps = 1500
    sim = gle.Simulation(
        net, dt=0.1, plasticity=gle.Plasticity("sgd", lr=5 / steps / SIGMA**2, learn="B"),
        noise=gle.Noise("rate", SIGMA, tau=MEMORY),
    )  # fmt: skip
    sim.run(torch.zeros(steps, 128, 3, dtype=D))
    W, B = part.W.detach()[0], part.B[0]
    assert (B.diagonal() - heard() * W.diagonal()).abs().max() < 0.1  # an identity would add 0.8
    assert angle(part) < 30


def test_kolen_pollack_beside_phaseless_keeps_the_rate_of_its_weights():
    """Prevents: a rate for B, which is that of the noise, moving feedback that follows its weights."""
    common = {"tau_m": 1.0, "tau_r": 0.5, "dtype": D}
    layers = [
        gle.Layer(3, 4, synapse=gle.Linear(gle.synapses.Phaseless()), **common),
        gle.Layer(4, 4, synapse=gle.Linear(gle.synapses.Phaseless()), **common),
        gle.Layer(4, 2, phi="linear", synapse=gle.Linear("kolen_pollack"), **common),
    ]
    net = gle.Network(layers)
    before = layers[2].B - layers[2].W.detach()
    plasticity = gle.Plasticity("sgd", lr={"W": 1e-2, "B": 0.3}, learn=("W", "B"), weight_decay={"W": 0.5})
    sim = gle.Simulation(net, dt=0.1, plasticity=plasticity, noise=gle.Noise("rate", 0.1, tau=1.0))
    g = torch.Generator().manual_seed(1)
    sim.run(*(torch.randn(50, 4, n, generator=g, dtype=D) for n in (3, 2)))
    expected = before * (1 - 1e-2 * 0.5) ** 50
    torch.testing.assert_close(layers[2].B - layers[2].W.detach(), expected, atol=1e-12, rtol=0)
