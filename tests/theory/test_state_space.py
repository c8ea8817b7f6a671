"""One layer as a linear state-space model (Eqs. 40–42), in float64, against scipy.signal and the simulation."""

import numpy as np
import pytest
import scipy.signal
import torch
from nets import DT

import gle
from gle import operators
from gle.analysis.state_space import StateSpace, discretise, layer_state_space, run, transfer

SCHEMES = ["euler", "exponential"]
TAU_M, TAU_R = [0.6, 1.2, 2.0], [0.2, 1.2, 0.7]


def network(bias=True, ensemble=(2,), dtype=torch.float64):
    common = {"phi": "linear", "bias": bias, "ensemble": ensemble, "dtype": dtype}
    return gle.Network(
        [
            gle.Layer(2, 3, tau_m=TAU_M, tau_r=TAU_R, **common),
            gle.Layer(3, 3, tau_m=TAU_R, tau_r=TAU_M, depth=2, **common),
        ],
        5,
    )


def with_one(x):
    """The constant input that carries the bias."""
    return torch.cat([x, torch.ones_like(x[..., :1])], -1)


def noise(*shape):
    return torch.as_tensor(np.random.default_rng(1).standard_normal(shape))


def numpy(system):
    return [t.numpy() for t in system]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("l", [0, 1, -1])
def test_a_simulated_layer_is_its_model(scheme, l, bias):
    """Each layer of one ensemble member, fed with what the layer below it sent, against scipy's own discretisation and
    simulation of the model.

    Prevents: a layer, member or bias taken from elsewhere, and W transposed, where all sizes agree.
    """
    net, x = network(bias), noise(80, 1, 2)
    record = gle.Record("r")
    gle.Simulation(net, dt=DT, integrator=scheme).run(x, record=record)
    rates, place = record["r"], range(net.depth)[l]
    # the layer sees the rates of the step before (delayed propagation), at first those at rest
    sent = x[:, 0] if place == 0 else torch.cat([torch.zeros(1, 3).double(), rates[place - 1][:-1, 1, 0]])
    system = layer_state_space(net, l, member=(1,))
    seen = (with_one(sent) if bias else sent).numpy()
    method = "euler" if scheme == "euler" else "zoh"
    discrete = scipy.signal.cont2discrete(numpy(system), DT, method=method)
    _, expected, _ = scipy.signal.dlsim(discrete, seen)
    np.testing.assert_allclose(rates[place][:, 1, 0], expected, atol=1e-12)
    assert np.abs(expected).max() > 0.1
    assert np.abs(rates[place][:, 0, 0].numpy() - expected).max() > 0.1  # the other member differs


@pytest.mark.parametrize("scheme", SCHEMES)
def test_discretised_and_run_as_scipy_does(scheme):
    """A model whose A is not diagonal, from a state that is not at rest.

    Prevents: exp of the entries in place of the matrix exponential, and observing y after the step.
    """
    g = np.random.default_rng(3)
    A = g.standard_normal((3, 3)) - 2 * np.eye(3)
    matrices = (A, *(g.standard_normal(shape) for shape in [(3, 2), (2, 3), (2, 2)]))
    expected = scipy.signal.cont2discrete(matrices, DT, method="euler" if scheme == "euler" else "zoh")
    step = discretise(StateSpace(*map(torch.as_tensor, matrices)), DT, scheme)
    for ours, theirs in zip(step, expected):
        np.testing.assert_allclose(ours, theirs, atol=1e-13)
    x, u = noise(50, 2), torch.ones(3).double()
    _, y, states = scipy.signal.dlsim(expected, x.numpy(), x0=u.numpy())
    ours, _ = run(step, x, u)
    np.testing.assert_allclose(ours, y, atol=1e-12)
    head, middle = run(step, x[:20], u)  # in two parts
    np.testing.assert_allclose(middle, states[20], atol=1e-12)
    np.testing.assert_allclose(torch.cat([head, run(step, x[20:], middle)[0]]), y, atol=1e-12)


def test_continuous_model_in_time():
    """A layer's continuous model against scipy's lsim for input held over each step."""
    system = layer_state_space(network(bias=False, ensemble=()), 0)
    x = noise(60, 2)
    t = DT * np.arange(len(x))
    _, y, _ = scipy.signal.lsim(numpy(system), x.numpy(), t, interp=False)
    np.testing.assert_allclose(run(discretise(system, DT, "exponential"), x)[0], y, atol=1e-12)


def test_transfer_function_is_that_of_the_neurons():
    """C (s − A)⁻¹ B + D = neuron's response times W, in continuous and in discrete time."""
    net = network(bias=False, ensemble=())
    W, omega = net.layers[0].W[0].detach().numpy(), np.array([0.01, 1.0, 10.0])
    system = layer_state_space(net)
    exact = np.stack([operators.neuron_response(omega, m, r) for m, r in zip(TAU_M, TAU_R)], -1)
    np.testing.assert_allclose(transfer(system, 1j * omega), exact[..., None] * W, atol=1e-14)
    for scheme in SCHEMES:
        exact = [
            operators.discrete_neuron_response(omega, m, r, DT, exponential=scheme == "exponential")
            for m, r in zip(TAU_M, TAU_R)
        ]
        step = discretise(system, DT, scheme)
        expected = np.stack(exact, -1)[..., None] * W
        np.testing.assert_allclose(transfer(step, np.exp(1j * omega * DT)), expected, atol=1e-12)


def test_learned_parameters():
    """theta: the parameters of a simulation, which the network's modules do not have before its stream ends."""
    net = network(ensemble=())
    sim = gle.Simulation(net, dt=DT, plasticity=gle.Plasticity("sgd", lr=0.1))
    stream = sim.stream(noise(20, 1, 2), noise(20, 1, 3))
    for _ in range(5):
        next(stream)
    before, after = layer_state_space(net), layer_state_space(net, theta=sim.carry.theta)
    assert (before.D - after.D).abs().max() > 1e-3
    torch.testing.assert_close(after.D[:, :2], sim.carry.theta[0].W[0] * (net.layers[0].tau_r / net.layers[0].tau_m).T)


def test_bad_input():
    net = network()
    with pytest.raises(ValueError, match="no layer 3: the network has 3"):
        layer_state_space(net, 3, (0,))
    for member in [(), (2,), (0, 0)]:
        with pytest.raises(ValueError, match="ensemble"):
            layer_state_space(net, 0, member)
    system = layer_state_space(net, 0, (0,))
    for dt in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="dt must be a positive number"):
            discretise(system, dt)
    with pytest.raises(ValueError, match="unknown scheme 'rk4'"):
        discretise(system, DT, "rk4")
    with pytest.raises(ValueError, match="inputs have 2 features, the model has 3"):
        run(discretise(system, DT), noise(5, 2))  # the constant input of the bias is missing
