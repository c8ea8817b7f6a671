"""Closed forms of single neurons, in float64."""

import numpy as np
import pytest
import scipy.signal
import torch
from nets import DT, mixed_network, signals, single

import gle
from gle import operators

PAIRS = [(1.2, 0.2), (1.2, 1.2), (0.6, 0.3), (0.5, 2.0)]
SCHEMES = ["euler", "exponential"]
D = torch.float64


def response(simulate, omega, dt, tau_slowest):
    """Complex gain of simulate(x) at omega, fitted after the transient has died; omega · dt must divide 2π."""
    period = round(2 * np.pi / (omega * dt))
    skip = int(np.ceil(30 * tau_slowest / dt / period)) * period
    n = skip + period
    t = np.arange(n)
    x = np.cos(omega * dt * t)
    y = simulate(torch.as_tensor(x).reshape(-1, 1, 1))
    phase = np.exp(-1j * omega * dt * t[skip:])
    return (y[skip:] @ phase) / (x[skip:] @ phase)


def forward_run(net, scheme):
    def simulate(x):
        sim = gle.Simulation(net, dt=DT, integrator=scheme)
        record = gle.Record("r")
        sim.run(x, record=record)
        return record["r"][0].flatten().numpy()

    return simulate


def error_run(net, scheme):
    """e of a silent neuron whose target is the signal: e_inst = target."""

    def simulate(y):
        sim = gle.Simulation(net, dt=DT, integrator=scheme)
        record = gle.Record("e")
        sim.run(torch.zeros_like(y), y, record=record)
        return record["e"][0].flatten().numpy()

    return simulate


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("tau_m", "tau_r"), PAIRS)
@pytest.mark.parametrize("period", [8, 40, 200])
def test_forward_transfer_function(scheme, tau_m, tau_r, period):
    """Prevents: exchanged time constants or the updated u in the rate, which keep a plausible low-pass."""
    omega = 2 * np.pi / (period * DT)
    expected = operators.discrete_neuron_response(omega, tau_m, tau_r, DT, exponential=scheme == "exponential")
    got = response(forward_run(single(tau_m, tau_r), scheme), omega, DT, max(tau_m, tau_r))
    assert abs(got - expected) < 1e-10
    exact = operators.neuron_response(omega, tau_m, tau_r)
    assert abs(expected - exact) < 4 * DT / min(tau_m, tau_r)  # and both tell of the same neuron


@pytest.mark.parametrize("period", [8, 40, 400])
def test_all_pass_errors_are_late_and_whole(period):
    """Prevents: a filter that attenuates, and one that is early. In discrete time 2a/(z − 1 + a) − 1, whose gain lies
    between 1 and (2 + a)/(2 − a); for dt → 0 (1 − iωτ)/(1 + iωτ), late by 2τ where ωτ is small."""
    tau, omega = 10 * DT, 2 * np.pi / (period * DT)
    net = gle.Network([gle.Layer(1, 1, tau_m=1.0, tau_r=0.4, phi="linear", errors=gle.errors.AllPass(tau), dtype=D)])
    got = response(error_run(net, "euler"), omega, DT, tau)
    a, z = DT / tau, np.exp(1j * omega * DT)
    assert abs(got - (2 * a / (z - 1 + a) - 1)) < 1e-10
    assert 1 - 1e-10 < abs(got) < (2 + a) / (2 - a)
    exact = (1 - 1j * omega * tau) / (1 + 1j * omega * tau)
    assert abs(got - exact) < 2 * a
    if omega * tau < 0.2:
        assert -np.angle(got) / (2 * omega * tau) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("tau_m", "tau_r"), PAIRS)
@pytest.mark.parametrize("period", [8, 40])
def test_error_filter_is_the_inverse(scheme, tau_m, tau_r, period):
    """Prevents: discretising both filters separately, which loses the inversion at dt ≈ τr."""
    omega = 2 * np.pi / (period * DT)
    forward = operators.discrete_neuron_response(omega, tau_m, tau_r, DT, exponential=scheme == "exponential")
    # The error filter is stable where the forward filter has no zero outside the unit circle
    got = response(error_run(single(tau_m, tau_r, weight=0.0), scheme), omega, DT, 4 * max(tau_m, tau_r))
    assert abs(got * forward - 1) < 1e-10


@pytest.mark.parametrize("scheme", SCHEMES)
def test_error_after_forward_is_the_identity(scheme):
    """The matched scheme: what the forward filter did to any signal, the error filter undoes, step by step."""
    x = torch.as_tensor(np.random.default_rng(0).standard_normal(300)).reshape(-1, 1, 1)
    filtered = forward_run(single(1.2, 0.3), scheme)(x)
    assert np.abs(filtered - x.flatten().numpy()).max() > 0.1
    back = error_run(single(1.2, 0.3, weight=0.0), scheme)(torch.as_tensor(filtered).reshape(-1, 1, 1))
    np.testing.assert_allclose(back, x.flatten().numpy(), atol=1e-11)


def test_adjoint_has_the_phase_of_the_error_and_the_reciprocal_gain():
    """Eqs. 29–32; the gain of the two together is bounded by (τm/τr)²."""
    omega = np.logspace(-2, 2, 50)
    e, adjoint = operators.error_response(omega, 1.2, 0.2), operators.adjoint_response(omega, 1.2, 0.2)
    np.testing.assert_allclose(np.angle(e), np.angle(adjoint), atol=1e-12)
    np.testing.assert_allclose(np.abs(e), 1 / np.abs(adjoint), rtol=1e-12)
    assert (np.abs(e / adjoint) <= (1.2 / 0.2) ** 2 + 1e-12).all()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("phi", ["tanh", "softplus", "sigmoid", "relu", "linear", "hard_tanh", "hard_sigmoid"])
def test_instantaneous_neuron_ignores_its_membrane(scheme, phi):
    """τr = τm: r = φ(input) at every step, whatever u and dt."""
    x = torch.linspace(-4, 4, 30, dtype=torch.float64).reshape(-1, 1, 1)
    got = forward_run(single(0.7, 0.7, phi=phi), scheme)(x)
    reference = {
        "tanh": np.tanh,
        "softplus": lambda u: np.log1p(np.exp(u)),
        "sigmoid": lambda u: 1 / (1 + np.exp(-u)),
        "relu": lambda u: np.maximum(u, 0),
        "linear": lambda u: u,
        "hard_tanh": lambda u: np.clip(u, -1, 1),
        "hard_sigmoid": lambda u: np.clip(u / 6 + 0.5, 0, 1),
    }[phi]
    np.testing.assert_allclose(got, reference(x.flatten().numpy()), atol=1e-12)


def test_shortest_prospection_is_a_leaky_integrator():
    """τr = dt: r = φ(u after the step)."""
    x, _ = signals(60, 1)
    net = single(1.2, DT, phi="tanh")
    sim = gle.Simulation(net, dt=DT)
    record = gle.Record("u", "r")
    sim.run(x[..., :1], record=record)
    torch.testing.assert_close(record["r"][0], torch.tanh(record["u"][0]), atol=1e-13, rtol=0)


def test_layer_is_a_diagonal_state_space_model():
    """Eqs. 40–42 against scipy: u' = (1 − a) u + a W x, y = (1 − α) u + α W x with α = τr/τm."""
    tau_m, tau_r = np.array([0.6, 1.2, 2.0]), np.array([0.2, 1.2, 0.7])
    net = gle.Network([gle.Layer(2, 3, tau_m=tau_m, tau_r=tau_r, phi="linear", bias=False, dtype=torch.float64)], 5)
    W = net.layers[0].W[0].detach().numpy()
    x = np.random.default_rng(1).standard_normal((80, 2))
    a, alpha = DT / tau_m, tau_r / tau_m
    system = (np.diag(1 - a), a[:, None] * W, np.diag(1 - alpha), alpha[:, None] * W, DT)
    _, expected, _ = scipy.signal.dlsim(system, x)
    record = gle.Record("r")
    gle.Simulation(net, dt=DT).run(torch.as_tensor(x).unsqueeze(1), record=record)
    np.testing.assert_allclose(record["r"][0][:, 0], expected, atol=1e-12)


def test_latent_equilibrium_limit():
    """τm = τr everywhere and instant propagation: the network is a feed-forward network, with no transient at all."""
    net = mixed_network(taus={"tau_m": [0.4, 1.2, 2.0, 0.9], "tau_r": [0.4, 1.2, 2.0, 0.9]})
    x, _ = signals(12)
    record = gle.Record("r", layers=[-1])
    gle.Simulation(net, dt=DT, integrator=gle.integrators.Euler("instant")).run(x, record=record)
    r = x
    for i, d in net.places():
        layer = net.layers[i]
        r = layer.phi.phi(r @ layer.W[d].mT + layer.b[d])
    torch.testing.assert_close(record["r"][4], r.detach(), atol=1e-12, rtol=0)


@pytest.mark.parametrize("traces", [None, (0.4, 1.2)])
def test_jump_of_the_target_grows_on_its_way_down(traces):
    """Each error neuron passes a jump amplified by τm/τr, where the exact adjoint would damp it by the same factor;
    once settled, it passes the error unchanged. A synaptic filter takes dt/τ_e of the jump, and all of the settled
    error.

    Prevents: filters on the errors that travel on, in place of those that the synapses see.
    """
    tau_m, tau_r, weight, depth = 1.2, 0.2, 0.5, 4
    layers = [
        gle.Layer(1, 1, depth=depth, phi="linear", tau_m=tau_m, tau_r=tau_r, dtype=torch.float64),
        gle.Layer(1, 1, phi="linear", tau_m=1.0, tau_r=1.0, dtype=torch.float64),
    ]
    net = gle.Network(layers)
    with torch.no_grad():
        for layer in layers:
            layer.W.fill_(weight)
            layer.b.fill_(0.0)
    y = torch.cat([torch.zeros(5, 1, 1), torch.ones(200, 1, 1)]).double()
    sim = gle.Simulation(net, dt=DT, plasticity=gle.Plasticity("sgd", lr=0.0, traces=traces), block=1)
    bottom, seen = [], []
    for carry in sim.stream(zip(torch.zeros_like(y), y)):
        bottom.append(carry.state[0].e[0].item())
        seen.append((carry.learning.traces or ((carry.state[0].e,),))[0][0][0].item())
    first = next(t for t, e in enumerate(bottom) if e)
    jump = (weight * tau_m / tau_r) ** depth
    assert bottom[first] == pytest.approx(jump, rel=1e-12)
    assert bottom[-1] == pytest.approx(weight**depth, rel=1e-9)
    assert seen[first] == pytest.approx(jump * (DT / traces[0] if traces else 1.0), rel=1e-12)
    assert seen[-1] == pytest.approx(weight**depth, rel=1e-9)
