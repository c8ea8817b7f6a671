"""The local rules against autograd: on the energy of Postulate 2, and in the limits where GLE is backprop."""

import numpy as np
import pytest
import torch
from nets import DT, flat, mixed_network, signals
from scipy.signal import lfilter

import gle
from gle import plasticity as pl
from gle import rules
from gle.costs import CrossEntropy, MeanSquaredError
from gle.dynamics import Dynamics
from gle.integrators import Euler

LEARN = ("W", "b", "tau_m", "tau_r")
INSTANT = {"tau_m": [0.4, 1.2, 2.0, 0.9], "tau_r": [0.4, 1.2, 2.0, 0.9]}


def step_from_random_state(net, gamma, cost, propagation="instant", seed=1):
    """One step; returns what the synapses saw, and the gradients."""
    g = torch.Generator().manual_seed(seed)

    def random(s):
        return torch.randn(s.shape, generator=g, dtype=s.dtype)

    x, y = signals(1)
    dynamics = Dynamics(DT, 0.8, gamma, cost)
    theta = net.theta()
    state = []
    for layer, p, s in zip(net.layers, theta, net.initial_state(5)):
        u, v, r, e = random(s.u), random(s.v), torch.tanh(random(s.r)), random(s.e)
        state.append(type(s)(u, v, r, e, layer.synapse.backproject(p.W, p.B, e)))
    state = tuple(state)
    new, local = Euler(propagation).step(net, theta, state, (x[0],), (y[0],), dynamics)
    return state, new, local, pl.gradients(net, theta, local, LEARN, 5), (x[0], y[0])


def test_gradients_of_the_energy():
    """Postulate 4 on the energy of Postulate 2: ∂/∂θ of ½‖e‖² at fixed u, u̇ gives Eqs. 21–23.

    Prevents: wrong signs and factors of the time-constant rules, which no other rule shows.
    """
    net = mixed_network()
    state, _, local, grads, _ = step_from_random_state(net, 0.0, MeanSquaredError())
    compared = 0
    for layer, s, seen, g in zip(net.layers, state, local, grads):
        p = [t.detach().clone().requires_grad_() for t in (layer.W, layer.b, layer.tau_m)]
        W, b, tau_m = p
        u_dot = ((seen.current - s.u) / layer.tau_m.unsqueeze(-2)).detach()
        current = seen.pre.detach() @ W.mT + b.unsqueeze(-2)
        # mismatch error of Postulate 2, shifted by a constant so that its value is the e of the network
        mismatch = s.u + tau_m.unsqueeze(-2) * u_dot - current
        e = mismatch + (seen.e - mismatch).detach()
        energy = 0.5 * e.square().sum() / 5
        for expected, got in zip(torch.autograd.grad(energy, p), (g.W, g.b, g.tau_m)):
            assert expected.abs().max() > 1e-3
            torch.testing.assert_close(got, expected, atol=1e-12, rtol=0)
            compared += 1
    assert compared == 9


def test_prospective_time_constants():
    """Eq. 24: τr acts through the rate on the mismatch of the layer above, at the top on the cost."""
    net = mixed_network()
    cost = CrossEntropy()
    state, _, local, grads, (_, y) = step_from_random_state(net, 0.0, cost)
    places = list(net.places())
    for n, (i, d) in enumerate(places):
        layer, seen = net.layers[i], local[i]
        tau_r = layer.tau_r[d].detach().clone().requires_grad_()
        u_dot = (seen.current[d] - state[i].u[d]) / layer.tau_m[d]
        r = layer.phi.phi(state[i].u[d] + tau_r * u_dot.detach())
        if n + 1 == len(places):
            energy = 0.8 * cost.value(r, y).sum() / 5
        else:
            j, c = places[n + 1]
            mismatch = -(r @ net.layers[j].W[c].mT)
            e = mismatch + (local[j].e[c] - mismatch).detach()
            energy = 0.5 * e.square().sum() / 5
        (expected,) = torch.autograd.grad(energy, tau_r)
        assert expected.abs().max() > 1e-4
        torch.testing.assert_close(grads[i].tau_r[d], expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("cost", ["mse", "cross_entropy"])
@pytest.mark.parametrize("phi", ["tanh", "softplus", "sigmoid", "relu", "hard_tanh", "hard_sigmoid"])
def test_instantaneous_network_is_backprop(cost, phi):
    """τm = τr, instant propagation: at every step the gradient is that of backprop, whatever the state."""
    net = mixed_network(taus=INSTANT, phi=phi)
    net_cost = CrossEntropy() if cost == "cross_entropy" else MeanSquaredError()
    _, _, _, grads, (x, y) = step_from_random_state(net, 0.0, net_cost)
    check_backprop(net, net_cost, x, y, grads)


@pytest.mark.parametrize("scheme", ["euler", "exponential", "rk4"])
@pytest.mark.parametrize("cost", ["mse", "cross_entropy"])
def test_steady_state_is_backprop(cost, scheme):
    """Constant input and target, γ = 0: after the transient the gradient is that of backprop, element by element,
    for any τ."""
    net = mixed_network()
    x, y = signals(1)
    sim = gle.Simulation(net, dt=DT, cost=cost, beta=0.8, integrator=scheme)
    sim.run(x.expand(600, -1, -1), y.expand(600, -1, -1))
    _, local = sim.integrator.step(net, net.theta(), sim.carry.state, (x[0],) * 3, (y[0],) * 3, sim.dynamics)
    check_backprop(net, sim.dynamics.cost, x[0], y[0], pl.gradients(net, net.theta(), local, ("W", "b"), 5))


def check_backprop(net, cost, x, y, grads):
    parameters = [p.requires_grad_() for layer in net.layers for p in (layer.W, layer.b)]
    r = x
    for i, d in net.places():
        layer = net.layers[i]
        r = layer.phi.phi(r @ layer.W[d].mT + layer.b[d])
    expected = torch.autograd.grad(0.8 * cost.value(r, y).mean(), parameters)
    for got, e in zip(flat(grads, ("W", "b")), expected):
        assert e.abs().max() > 1e-6
        torch.testing.assert_close(got, e, atol=1e-9, rtol=1e-9)


def test_feedback_alignment_uses_its_own_weights():
    """Prevents: a random feedback pathway that is silently the transpose, or that learns."""
    transpose, random = mixed_network(), mixed_network(feedback="fixed_random")
    x, y = signals(60)
    sims = [gle.Simulation(n, dt=DT, plasticity=gle.Plasticity("sgd", lr=0.01)) for n in (transpose, random)]
    B = random.layers[1].B.clone()
    for sim in sims:
        sim.run(x, y)
    a, b = (sim.carry.theta for sim in sims)
    assert (a[0].W - b[0].W).abs().max() > 1e-4
    torch.testing.assert_close(b[1].B, B, atol=0, rtol=0)
    transpose, random = mixed_network(), mixed_network(feedback="fixed_random")
    with torch.no_grad():
        for layer in random.layers:
            layer.B.copy_(layer.W)
    _, _, _, g_random, _ = step_from_random_state(random, 0.0, MeanSquaredError())
    _, _, _, g_transpose, _ = step_from_random_state(transpose, 0.0, MeanSquaredError())
    for p, q in zip(flat(g_random), flat(g_transpose)):
        torch.testing.assert_close(p, q, atol=1e-13, rtol=0)


def test_costs_are_consistent():
    """error = −∂value/∂r."""
    g = torch.Generator().manual_seed(0)
    r = torch.randn(6, 4, generator=g, dtype=torch.float64, requires_grad=True)
    target = torch.softmax(torch.randn(6, 4, generator=g, dtype=torch.float64), -1)
    for cost in (MeanSquaredError(), CrossEntropy()):
        (grad,) = torch.autograd.grad(cost.value(r, target).sum(), r)
        assert grad.abs().max() > 0.1
        torch.testing.assert_close(cost.error(r, target), -grad, atol=1e-12, rtol=0)


@pytest.mark.parametrize("pairs", [[(0.4, 1.2), (0.0, 0.6), (0.5, 0.0), (DT, 1.0), (0.8, 2.0)], (0.4, 1.2)])
def test_synaptic_filters(pairs):
    """W and b learn from filtered error and rate, against scipy's filter; τ from the unfiltered ones.

    Prevents: time constants that reach the wrong layer or signal.
    """
    steps, net = 40, mixed_network()
    x, y = signals(steps)

    def waiting(traces):
        """Gradients summed over the stream by plasticity that never acts, and what the synapses saw."""
        plasticity = gle.Plasticity("sgd", lr=1.0, learn=LEARN, every=1000, traces=traces)
        sim = gle.Simulation(net, dt=DT, cost="cross_entropy", plasticity=plasticity)
        seen = gle.Record("r", "e")
        sim.run(x, y, record=seen)
        return sim.carry.learning.pending, seen

    (got, seen), (unfiltered, _) = waiting(pairs), waiting(None)
    per_layer = pairs if isinstance(pairs, list) else [pairs] * net.depth

    def filtered(signal, tau):
        a = DT / tau if tau else 1.0
        return lfilter([a], [1, a - 1], np.asarray(signal), axis=0)

    for layer, ((i, d), (tau_e, tau_pre)) in enumerate(zip(net.places(), per_layer)):
        e = filtered(seen["e"][layer], tau_e)
        # a layer sees the rates of the previous step
        below = x if layer == 0 else torch.cat([torch.zeros_like(seen["r"][layer - 1][:1]), seen["r"][layer - 1][:-1]])
        r = filtered(below, tau_pre)
        np.testing.assert_allclose(got[i].W[d], -np.einsum("tbo,tbi->oi", e, r) / 5, atol=1e-10)
        np.testing.assert_allclose(got[i].b[d], -e.sum((0, 1)) / 5, atol=1e-10)
        assert (got[i].W[d] - unfiltered[i].W[d]).abs().max() > 1e-3
    for a, b in zip(flat(got, ("tau_m", "tau_r")), flat(unfiltered, ("tau_m", "tau_r"))):
        torch.testing.assert_close(a, b, atol=0, rtol=0)


@pytest.mark.parametrize("traces", [None, (0.4, 1.2)])
def test_centred_plasticity(traces):
    """ΔW sees the presynaptic deviation from the running mean over batch and time, against scipy's filter; Δb sees e
    alone. Prevents: a mean of something else, or one that lags."""
    steps, net, tau = 40, mixed_network(), 2.0
    x, y = signals(steps)
    x = x + 1.5

    def waiting(centred):
        plasticity = gle.Plasticity("sgd", lr=1.0, every=1000, traces=traces, centred=centred)
        sim = gle.Simulation(net, dt=DT, cost="cross_entropy", plasticity=plasticity)
        seen = gle.Record("r", "e")
        sim.run(x, y, record=seen)
        return sim.carry.learning.pending, seen

    def filtered(signal, tau):
        return lfilter([DT / tau], [1, DT / tau - 1], np.asarray(signal), axis=0)

    (got, seen), (plain, _) = waiting(tau), waiting(None)
    for layer, (i, d) in enumerate(net.places()):
        below = x if layer == 0 else torch.cat([torch.zeros_like(seen["r"][layer - 1][:1]), seen["r"][layer - 1][:-1]])
        e, r = (
            (filtered(s, t) for s, t in zip((seen["e"][layer], below), traces)) if traces else (seen["e"][layer], below)
        )
        e, r = np.asarray(e), np.asarray(r)
        mean = filtered(r.mean(1, keepdims=True), tau)
        np.testing.assert_allclose(got[i].W[d], -np.einsum("tbo,tbi->oi", e, r - mean) / 5, atol=1e-10)
        torch.testing.assert_close(got[i].b[d], plain[i].b[d], atol=0, rtol=0)
        assert (got[i].W[d] - plain[i].W[d]).abs().max() > 1e-3


def test_bias_takes_up_what_weights_add_to_the_mean():
    """A centred update moves the current at the mean rate by lr·e, what b alone learns, however W moves.

    Prevents: weights that drag the mean current along; a bias that follows with the wrong sign or mean."""
    net, (x, y), lr = mixed_network(), signals(30), 0.05
    sim = gle.Simulation(net, dt=DT, cost="cross_entropy", plasticity=gle.Plasticity("sgd", lr=lr, centred=2.0))
    sim.run(x[:-1] + 1.0, y[:-1])
    before = sim.carry
    sim.run(x[-1:] + 1.0, y[-1:])
    for old, new, s, mean in zip(before.theta, sim.carry.theta, sim.carry.state, sim.carry.learning.means, strict=True):
        at_mean = [(p.W @ mean.mT).squeeze(-1) + p.b for p in (old, new)]
        torch.testing.assert_close(at_mean[1] - at_mean[0], lr * s.e.mean(-2), atol=1e-12, rtol=0)
        assert ((new.W - old.W) @ mean.mT).abs().max() > 1e-5


# a scan, and single steps (with filters that filter nothing)
@pytest.mark.parametrize("traces", [None, (0.0, 0.0)])
def test_instantaneous_errors_are_backprop_at_every_instant(traces):
    """Whatever the time constants: the gradients of `rules.Instantaneous`, which knows no error neurons.

    Prevents: time constants that still act on instantaneous errors, in single steps or in the scan."""
    x, y = signals(12)
    instant = {"dt": DT, "cost": "cross_entropy", "integrator": Euler("instant")}

    def waiting(errors):
        plasticity = gle.Plasticity("sgd", lr=1.0, every=1000, traces=traces)
        sim = gle.Simulation(mixed_network(errors=errors), plasticity=plasticity, **instant)
        sim.run(x, y)
        return flat(sim.carry.learning.pending, ("W", "b"))

    sim = gle.Simulation(mixed_network(), **instant)
    expected = flat(rules.assign(rules.Instantaneous(), sim, x, y).grads, ("W", "b"))
    for got, e in zip(waiting("instantaneous"), expected, strict=True):
        torch.testing.assert_close(got, e, atol=1e-12, rtol=0)
    assert (waiting("prospective")[0] - waiting("instantaneous")[0]).abs().max() > 1e-3


@pytest.mark.parametrize("members", [(), (2,)])
def test_each_neuron_has_an_eligibility_trace_of_its_own(members):
    """A layer of neurons of many time constants, in no order, saturating, below neurons without a memory: with
    instantaneous errors its gradient is the exact one (autograd through the simulated steps), and so is theirs. Without
    the traces, or with one for the layer, it is not.

    Prevents: traces that belong to other neurons, or lag by a step.
    """
    x, y = signals(25)
    tau_m = [0.6, 2.4, 0.6, 1.2, 2.4, 0.6, 1.2]
    tau_r = [0.2, 0.2, 0.6, 1.2, 0.2, 0.2, 3.0]
    common = {"dtype": torch.float64, "ensemble": members}
    net = gle.Network(
        [
            gle.Layer(2, 7, tau_m=tau_m, tau_r=tau_r, errors="instantaneous", phi="tanh", **common),
            gle.Layer(7, 5, tau_m=1.0, tau_r=1.0, errors="instantaneous", phi="tanh", **common),
            gle.Layer(5, 3, tau_m=1.0, tau_r=1.0, phi="linear", **common),
        ],
        seed=3,
    )
    instant = {"dt": DT, "cost": "cross_entropy", "integrator": Euler("instant")}

    def waiting(traces):
        sim = gle.Simulation(net, plasticity=gle.Plasticity("sgd", lr=1.0, every=1000, traces=traces), **instant)
        sim.run(x, y)
        return flat(sim.carry.learning.pending, ("W",))

    exact = flat(rules.assign(rules.BPTT(), gle.Simulation(net, **instant), x, y).grads, ("W",))
    for got, e in zip(waiting("own"), exact, strict=True):
        assert e.abs().max() > 1e-2
        torch.testing.assert_close(got, e, atol=1e-12, rtol=0)
    for rival in (None, [(0.0, 1.2), (0.0, 0.0), (0.0, 0.0)]):
        assert (waiting(rival)[0] - exact[0]).abs().max() > 1e-3


def test_eligibility_traces_stand_in_for_prospective_errors():
    """A linear layer of leaky integrators (τr = dt) under instantaneous output neurons: with instantaneous errors and a
    presynaptic trace of its own τm, its gradient is the exact one (autograd through the simulated steps).

    Prevents: a trace whose filter is not the membrane's."""
    tau, (x, y) = 1.2, signals(25)
    common = {"dtype": torch.float64, "phi": "linear"}
    net = gle.Network(
        [
            gle.Layer(2, 4, tau_m=tau, tau_r=DT, errors="instantaneous", **common),
            gle.Layer(4, 3, tau_m=1.0, tau_r=1.0, **common),
        ],
        seed=3,
    )
    plasticity = gle.Plasticity("sgd", lr=1.0, every=1000, traces=[(0.0, tau), (0.0, 0.0)])
    instant = {"dt": DT, "cost": "cross_entropy", "integrator": Euler("instant")}
    sim = gle.Simulation(net, plasticity=plasticity, **instant)
    sim.run(x, y)
    exact = rules.assign(rules.BPTT(), gle.Simulation(net, **instant), x, y).grads
    for got, e in zip(flat(sim.carry.learning.pending, ("W",)), flat(exact, ("W",)), strict=True):
        assert e.abs().max() > 1e-2
        torch.testing.assert_close(got, e, atol=1e-10, rtol=0)
