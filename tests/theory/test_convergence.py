"""Order of convergence against scipy's ODE solver, on a right-hand side written here from Eqs. 6 and 7."""

import numpy as np
import pytest
import scipy.integrate
import torch

import gle
from gle.integrators import RK4, Euler, Exponential

T = 2.0
TAU_M = [np.array([1.0, 0.7, 1.3]), np.array([0.8, 1.5, 1.1]), np.array([1.0, 1.2])]
TAU_R = [np.array([0.5, 0.7, 0.9]), np.array([0.8, 0.6, 1.4]), np.array([0.6, 1.2])]


def x_of(t):
    return np.array([np.sin(1.3 * t), np.cos(0.7 * t)])


def y_of(t):
    return np.array([np.cos(1.1 * t), np.sin(0.4 * t + 1)])


def network():
    sizes = [(2, 3, "linear"), (3, 3, "tanh"), (3, 2, "tanh")]
    layers = [
        gle.Layer(i, o, phi=phi, tau_m=m, tau_r=r, dtype=torch.float64)
        for (i, o, phi), m, r in zip(sizes, TAU_M, TAU_R)
    ]
    return gle.Network(layers, 7)


def exact(net):
    W = [layer.W[0].detach().numpy() for layer in net.layers]
    b = [layer.b[0].detach().numpy() for layer in net.layers]
    phi = [lambda u: u, np.tanh, np.tanh]
    slope = [np.ones_like, *[lambda u: 1 - np.tanh(u) ** 2] * 2]
    cuts = np.cumsum([3, 3, 2, 3, 3])

    def rhs(t, z):
        *uv, v_top = np.split(z, cuts)
        u, v = uv[:3], [*uv[3:], v_top]
        du, hat, r = [], [], x_of(t)
        for l in range(3):
            du.append((W[l] @ r + b[l] - u[l]) / TAU_M[l])
            hat.append(u[l] + TAU_R[l] * du[l])
            r = phi[l](hat[l])
        dv, error = [None] * 3, 0.5 * (y_of(t) - r)
        for l in (2, 1, 0):
            dv[l] = (slope[l](hat[l]) * error - v[l]) / TAU_R[l]
            error = W[l].T @ (v[l] + TAU_M[l] * dv[l])
        return np.concatenate([*du, *dv])

    return scipy.integrate.solve_ivp(rhs, (0, T), np.zeros(16), method="DOP853", rtol=1e-13, atol=1e-14).y[:, -1]


def distance(net, integrator, steps, reference):
    sim = gle.Simulation(net, dt=T / steps, integrator=integrator, beta=0.5)
    sim.run(lambda t: torch.as_tensor(x_of(t))[None], lambda t: torch.as_tensor(y_of(t))[None], steps=steps)
    got = np.concatenate([s.u[0, 0].numpy() for s in sim.carry.state] + [s.v[0, 0].numpy() for s in sim.carry.state])
    return np.abs(got - reference).max()


@pytest.mark.parametrize(
    ("integrator", "steps"),
    [
        (Euler("delayed"), [200, 400, 800]),
        (Euler("instant"), [200, 400, 800]),
        (Exponential("delayed"), [200, 400, 800]),
        (Exponential("instant"), [200, 400, 800]),
        (RK4(), [20, 40, 80, 160]),
    ],
    ids=["euler", "euler-instant", "exponential", "exponential-instant", "rk4"],
)
def test_declared_order(integrator, steps):
    """Prevents: a stage with the wrong input, weight or time, which still converges, but slower."""
    net = network()
    reference = exact(net)
    errors = [distance(net, integrator, n, reference) for n in steps]
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert abs(slope - integrator.order) < 0.1, (slope, errors)


def coupled(steps, gamma, integrator):
    sim = gle.Simulation(network(), dt=T / steps, integrator=integrator, beta=0.5, gamma=gamma)
    sim.run(lambda t: torch.as_tensor(x_of(t))[None], lambda t: torch.as_tensor(y_of(t))[None], steps=steps)
    return sim.carry.state[1].u


@pytest.fixture(scope="module")
def fine():
    """Where Euler ends, twenty times finer than what is compared with it."""
    return coupled(4000, 0.2, "euler")


@pytest.mark.parametrize("scheme", ["euler", "exponential", "rk4"])
def test_coupling_converges_to_the_same_dynamics(scheme, fine):
    """γ ≠ 0: all integrators approach one trajectory, which differs from that without coupling."""
    assert (fine - coupled(400, 0.0, "euler")).abs().max() > 1e-2  # far more than 400 steps are off
    coarse, finer = ((coupled(n, 0.2, scheme) - fine).abs().max() for n in (100, 200))
    assert finer < 0.65 * coarse < 0.05
