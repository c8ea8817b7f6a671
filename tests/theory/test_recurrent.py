"""A recurrent layer (W with itself): the fixed point of its recirculating errors against the implicit gradient, and the
loop gain up to which prospective errors settle against its closed form."""

import pytest
import torch

import gle
from gle import rules
from gle.errors import Prospective
from gle.integrators import Euler

D = torch.float64
KINDS = ("prospective", "instantaneous", "relaxing")


def loop(radius, errors, tau_r=0.5, n=6, seed=0, **how):
    """Input → a tanh layer joined to itself, with weights of this spectral radius → a linear readout."""
    taus = {"tau_m": 1.0, "tau_r": tau_r, "errors": errors}
    net = gle.Graph(
        3,
        {"rec": gle.Population(n, **taus), "out": gle.Population(2, phi="linear", **taus)},
        [gle.Projection("input", "rec"), gle.Projection("rec", "rec", delay=1, **how), gle.Projection("rec", "out")],
        dtype=D, seed=seed,
    )  # fmt: skip
    with torch.no_grad():
        W = net["rec → rec (delayed)"].W
        W.mul_(radius / torch.linalg.eigvals(W[0]).abs().max())
    return net


def signals(*shape):
    g = torch.Generator().manual_seed(1)
    return (torch.randn(*shape, n, generator=g, dtype=D) for n in (3, 2))


def implicit(net, x, y):
    """∂cost/∂(U, W, b, V) at the fixed point, by (I − Jᵀ)⁻¹ and autograd through one update."""
    U, W, V = (net[name].W[0] for name in ("input → rec", "rec → rec (delayed)", "rec → out"))
    b, c = net["rec"].b[0], net["out"].b[0]
    r = torch.zeros(len(x), W.shape[0], dtype=D)
    for _ in range(500):
        r = torch.tanh(x @ U.mT + r @ W.mT + b).detach()
    f = torch.tanh(x @ U.mT + r @ W.mT + b)
    cost = 0.5 * (y - f @ V.mT - c).square().sum() / len(x)
    (direct,) = torch.autograd.grad(cost, f, retain_graph=True)
    J = (1 - r.square()).unsqueeze(-1) * W.detach()
    e = torch.linalg.solve(torch.eye(len(W), dtype=D) - J.mT, direct.unsqueeze(-1)).squeeze(-1)
    return torch.autograd.grad(f, (U, W, b), e, retain_graph=True) + torch.autograd.grad(cost, (V,))


@pytest.mark.parametrize("propagation", ["delayed", "instant"])
@pytest.mark.parametrize(
    ("errors", "radius", "steps"),
    [("prospective", 0.3, 400), ("prospective", 0.5, 800), *((kind, 0.9, 2000) for kind in KINDS[1:])],
)
def test_settled_errors_are_the_implicit_gradient(errors, radius, steps, propagation):
    """Prevents: errors that do not go round, or go round through another matrix than the rates' own."""
    net = loop(radius, errors)
    x, y = signals(4)
    sim = gle.Simulation(net, dt=0.1, integrator=Euler(propagation))
    sim.run(x.expand(steps, 4, 3), y.expand(steps, 4, 2))
    grads = rules.assign(rules.GLE(), sim, x.unsqueeze(0), y.unsqueeze(0)).grads
    found = torch.cat([g.flatten() for g in (grads[2].W, grads[3].W, grads[0].b, grads[4].W)])
    expected = torch.cat([g.flatten() for g in implicit(net, x, y)])
    assert expected.norm() > 1e-2
    assert float(found @ expected / found.norm() / expected.norm()) == pytest.approx(1, abs=1e-6)
    assert float(found.norm() / expected.norm()) == pytest.approx(1, abs=1e-6)


def test_error_neurons_that_dt_does_not_resolve():
    """Prevents: errors that grow without end for a time constant below dt, without a word."""
    for errors in (gle.errors.Relaxing(0.03), Prospective(tau_r=0.03)):
        net = gle.Network([gle.Layer(1, 1, tau_m=1.0, tau_r=0.5, errors=errors)])
        with pytest.raises(ValueError, match=r"of layer 0 have a time constant of 0\.03, below dt = 0\.1"):
            gle.Simulation(net, dt=0.1)
    for errors in (gle.errors.Relaxing(torch.ones(5)), Prospective(torch.ones(5))):
        with pytest.raises(ValueError, match="do not fit 2 potentials: give a number, or one for each"):
            gle.Layer(1, 2, tau_m=1.0, tau_r=0.5, errors=errors)
    for make, message in (
        (lambda: gle.errors.Relaxing("1"), "a number or one per potential, got '1'"),
        (lambda: Prospective(limit="2"), "the limit of the gain must be a positive number, got '2'"),
        (lambda: gle.errors.Saturating(at=float("inf")), "a positive and finite number, got inf"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


def test_exponential_errors_are_exact_for_what_is_held():
    """A relaxing error neuron under the exponential scheme: 1 − exp(−t/τ) for any dt."""
    layer = gle.Layer(1, 1, tau_m=1.0, tau_r=0.5, phi="linear", errors=gle.errors.Relaxing(0.2), bias=False, dtype=D)
    record, net = gle.Record("e"), gle.Network([layer])
    with torch.no_grad():
        net.layers[0].W.zero_()
    one = torch.ones(20, 1, 1, dtype=D)
    gle.Simulation(net, dt=0.1, integrator="exponential").run(0 * one, one, record=record)
    expected = 1 - torch.exp(-0.5 * torch.arange(20, dtype=D))
    torch.testing.assert_close(record["e"][0].flatten(), expected, atol=1e-12, rtol=0)


def test_relaxing_errors_are_those_of_a_leaky_integrator():
    """e(t) = v(t), with τ v̇ = e_inst − v: 1 − (1 − dt/τ)ⁿ after n steps of a constant error, for any τ of its own; and
    saturating ones are bounded."""
    for errors, expected in (
        ("relaxing", lambda n: 1 - 0.8**n),
        (gle.errors.Relaxing(2.0), lambda n: 1 - 0.95**n),
        (gle.errors.Saturating("relaxing", at=0.5), lambda n: 0.5 * torch.tanh((1 - 0.8**n) / 0.5)),
    ):
        layer = gle.Layer(1, 1, tau_m=1.0, tau_r=0.5, phi="linear", errors=errors, bias=False, dtype=D)
        net = gle.Network([layer])
        with torch.no_grad():
            layer.W.zero_()
        record = gle.Record("e")
        sim = gle.Simulation(net, dt=0.1)
        sim.run(torch.zeros(40, 1, 1, dtype=D), torch.ones(40, 1, 1, dtype=D), record=record)
        torch.testing.assert_close(record["e"][0].flatten(), expected(torch.arange(40, dtype=D)), atol=1e-12, rtol=0)


@pytest.mark.parametrize("epsilon", [0, 0.5])
def test_cut_errors_are_the_one_step_gradient(epsilon):
    """ε = 0: what reaches W is the error of the present step alone, which is what a one-step gradient sees; else
    (I − ε Jᵀ)⁻¹ of it."""
    cut, whole = loop(0.6, "instantaneous", epsilon=epsilon), loop(0.6, "instantaneous")
    x, y = signals(4)
    found = []
    for net in (cut, whole):
        sim = gle.Simulation(net, dt=0.1)
        sim.run(x.expand(800, 4, 3), y.expand(800, 4, 2))
        found.append(rules.assign(rules.GLE(), sim, x.unsqueeze(0), y.unsqueeze(0)).grads[3].W[0])
    r = sim.carry.state[0].r[0]
    slope, W = 1 - r.square(), cut["rec → rec (delayed)"].W[0]
    v = (y - sim.carry.state[1].r[0]) @ cut["rec → out"].W[0]
    J = slope.unsqueeze(-1) * W
    e = slope * torch.linalg.solve(torch.eye(len(W), dtype=D) - epsilon * J.mT, v.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(found[0], -e.mT @ r / 4, atol=1e-9, rtol=0)
    assert (found[1] - found[0]).norm() > 0.02 * found[0].norm()


def test_gain_control_bounds_what_comes_back():
    """Weights in whose loop errors grow: with the control they stay within twice the fresh ones, without they do not.

    Prevents: a control of the sum, which would scale the fresh error, too.
    """
    largest = []
    for control in (True, False):
        net = loop(3.0, "instantaneous", gain_control=control)
        with torch.no_grad():
            net["input → rec"].W.zero_()
        sim = gle.Simulation(net, dt=0.1)
        x, y = signals(4)
        sim.run(0 * x.expand(40, 4, 3), y.expand(40, 4, 2))
        fresh = sim.carry.state[1].sent[0].norm(dim=-1)
        largest.append(float((sim.carry.state[0].e.norm(dim=-1) / fresh).max()))
    assert largest[0] <= 2
    assert largest[1] > 10


# -- the gain of a loop of prospective errors --------------------------------------------------------------------------


def settles(eigenvalue, tau_r, dt, steps, errors="prospective"):
    """Whether the error of one linear neuron with a recurrent weight settles, with its rate held still."""
    taus = {"tau_m": 1.0, "tau_r": tau_r}
    net = gle.Graph(
        1,
        {"one": gle.Population(1, phi="linear", errors=errors, bias=False, **taus)},
        [gle.Projection("input", "one"), gle.Projection("one", "one", delay=1)],
        dtype=D,
    )
    with torch.no_grad():
        net["input → one"].W.fill_(0.0)
        net["one → one (delayed)"].W.fill_(eigenvalue)
    sim = gle.Simulation(net, dt=dt)
    record = gle.Record("e")
    sim.run(torch.zeros(steps, 1, 1, dtype=D), torch.ones(steps, 1, 1, dtype=D), record=record)
    e = record["e"]["one"].abs().flatten()
    return bool(e[-steps // 10 :].max() < 10 * e[: steps // 10].max())


@pytest.mark.parametrize("g", [2.0, 4.0, 10.0])
def test_loop_gain_of_prospective_errors(g):
    """Of forward Euler with delayed propagation and τr = dt: stable for −1/(2g − 1) < λ < min(1, 1/(g − 1)), g = τm/τr.

    e(t) = g i(t) − (g − 1) i(t − dt) with i(t) = λ e(t − dt): z² − λ g z + λ (g − 1) = 0, whose roots lie within the
    unit circle where |λ| (g − 1) < 1 and 1 ∓ λ g + λ (g − 1) > 0.

    Prevents: a loop that is said to be stable, and is not.
    """
    dt = 1 / g
    low, high = -1 / (2 * g - 1), min(1, 1 / (g - 1))
    for edge in (low, high):
        assert settles(0.97 * edge, dt, dt, 600)
        assert not settles(1.03 * edge, dt, dt, 600)


def test_loop_gain_as_dt_falls():
    """dt → 0: |λ| < τr/τm. A limit κ of the errors' gain moves the edge to 1/κ."""
    for errors, edge in (("prospective", 0.2), (Prospective(limit=2.0), 0.5)):
        for sign in (1, -1):
            assert settles(sign * 0.88 * edge, 0.2, 0.01, 700, errors)
            assert not settles(sign * 1.12 * edge, 0.2, 0.01, 700, errors)


@pytest.mark.parametrize("errors", ["instantaneous", "relaxing"])
def test_other_errors_settle_wherever_rates_do(errors):
    for eigenvalue in (-0.95, 0.95):
        assert settles(eigenvalue, 0.1, 0.1, 600, errors)
    assert not settles(1.05, 0.1, 0.1, 1500, errors)


def test_references_agree_on_a_recurrent_graph():
    """BPTT, RTRL and finite differences of the same stretch."""
    net = loop(0.8, "instantaneous", tau_r=0.3, n=4)
    x, y = signals(9, 2)
    for propagation in ("delayed", "instant"):
        sim = gle.Simulation(net, dt=0.1, integrator=Euler(propagation))
        bptt, rtrl = (rules.assign(rule, sim, x, y) for rule in (rules.BPTT(), rules.RTRL()))
        for i, kind in ((3, "W"), (0, "b"), (2, "W")):
            a, b = (getattr(credit.grads[i], kind) for credit in (bptt, rtrl))
            assert a.abs().max() > 1e-3
            torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-9)
        costs = []
        for h in (1e-5, -1e-5):
            moved = loop(0.8, "instantaneous", tau_r=0.3, n=4)
            with torch.no_grad():
                moved["rec → rec (delayed)"].W[0, 1, 2] += h
            credit = rules.assign(rules.GLE(), gle.Simulation(moved, dt=0.1, integrator=Euler(propagation)), x, y)
            costs.append(float(credit.cost.sum()) / 2)
        difference = (costs[0] - costs[1]) / 2e-5
        assert difference == pytest.approx(float(bptt.grads[3].W[0, 1, 2]), rel=1e-6, abs=1e-9)


def test_learning_fixed_points():
    """The weights of the loop alone learn another's fixed points, at every step, while it settles. (So they do with
    ε = 0, nearly as well: the one-step error points downhill, too. What ε = 1 gives is the exact gradient.)

    Prevents: a recurrence that is simulated, and not learned.
    """
    x, _ = signals(32)
    teacher, net = loop(0.7, "relaxing", seed=1), loop(0.7, "relaxing")
    y = gle.Simulation(teacher, dt=0.1).predict(x.expand(400, 32, 3))[0][-1]
    for name in ("input → rec", "rec → out", "rec", "out"):
        net[name].load_state_dict(teacher[name].state_dict())
        net[name].plastic = False
    sim = gle.Simulation(net, dt=0.1, plasticity=gle.Plasticity("sgd", lr=0.5))

    def cost():
        return float((sim.predict(x.expand(400, 32, 3))[0][-1] - y).square().mean())

    before = cost()
    assert before > 1e-3
    sim.run(x.expand(500, 32, 3), y.expand(500, 32, 2))
    assert cost() < 0.05 * before
