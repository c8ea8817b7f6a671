"""Every way of assigning credit against finite differences, against the others, and against what it declares."""

import pytest
import torch
from nets import DT, flat, mixed_network, signals

import gle
from gle import rules
from gle.integrators import Euler, Exponential
from gle.state import mapped

LEARN = ("W", "b", "tau_m", "tau_r")
INSTANT = {"tau_m": [0.4, 1.2, 2.0, 0.9], "tau_r": [0.4, 1.2, 2.0, 0.9]}
INTEGRATORS = {
    "euler": Euler(),
    "euler instant": Euler("instant"),
    "exponential": Exponential(),
    "exponential instant": Exponential("instant"),
    "rk4": "rk4",
}


def simulation(net=None, integrator="euler", warm_up=7, **options):
    """A network amid its transient, and a stretch of noise with targets."""
    net = net or mixed_network()
    sim = gle.Simulation(net, dt=DT, integrator=INTEGRATORS[integrator], cost="cross_entropy", beta=0.8, **options)
    x, y = signals(warm_up + 12, members=net.ensemble)
    sim.run(x[:warm_up], y[:warm_up])
    return sim, x[warm_up:], y[warm_up:]


def assign(rule, sim, x, y, learn=LEARN):
    return rules.assign(rule, sim, x, y, learn=learn)


def close(got, expected, tolerance):
    """Same places, none of them zero, and a difference below `tolerance` of each tensor's norm."""
    got, expected = flat(got), flat(expected)
    assert len(got) == len(expected) > 0
    for g, e in zip(got, expected):
        assert e.norm() > 1e-6
        assert (g - e).norm() <= tolerance * e.norm()


def central_differences(sim, x, y, eps=1e-5):
    """∂/∂θ of the stretch's cost, by simulating it again for every entry of a parameter."""
    net = sim.network
    xs, ts = sim.sampled(x, y)
    problem = rules.Problem(net, sim.integrator, sim.dynamics, LEARN)

    def cost(theta):
        outputs = [step.seen for step in rules.base.steps(problem, theta, sim.carry.state, xs, ts)]
        return rules.base.cost_of(problem, torch.stack(outputs), ts).sum(0).mean(-1)

    def of(i, kind):
        """All entries at once: the same simulation, side by side."""
        value = getattr(sim.carry.theta[i], kind)

        def moved(by):
            theta = list(sim.carry.theta)
            theta[i] = theta[i]._replace(**{kind: value + by})
            return cost(tuple(theta))

        each = eps * torch.eye(value.numel(), dtype=value.dtype).reshape(-1, *value.shape)
        return ((torch.vmap(moved)(each) - torch.vmap(moved)(-each)) / (2 * eps)).reshape(value.shape)

    with torch.no_grad():
        return tuple(gle.Theta(**{kind: of(i, kind) for kind in LEARN}) for i in range(len(sim.carry.theta)))


@pytest.mark.parametrize("integrator", INTEGRATORS)
def test_bptt_and_rtrl_are_finite_differences(integrator):
    """Mixed τ, γ = 0, all parameters. Prevents: a path through time, or into a time constant, that is cut."""
    sim, x, y = simulation(integrator=integrator)
    expected = central_differences(sim, x, y)
    bptt = assign(rules.BPTT(), sim, x, y)
    close(bptt.grads, expected, 1e-6)
    close(assign(rules.RTRL(), sim, x, y).grads, bptt.grads, 1e-10)


def test_references_follow_the_nudged_network():
    """γ ≠ 0: the outputs depend on the errors, and so do the exact gradients."""
    sim, x, y = simulation(gamma=0.3)
    expected = central_differences(sim, x, y)
    bptt = assign(rules.BPTT(), sim, x, y)
    close(bptt.grads, expected, 1e-6)
    close(assign(rules.RTRL(), sim, x, y).grads, bptt.grads, 1e-10)
    free, *_ = simulation(gamma=0.0)
    with pytest.raises(AssertionError):
        close(assign(rules.BPTT(), free, x, y).grads, bptt.grads, 1e-3)


@pytest.mark.parametrize("integrator", ["euler", "euler instant", "exponential", "exponential instant"])
def test_matched_adjoint_is_bptt(integrator):
    """Gradients and λ. Prevents: an error one step late, which costs little accuracy and all exactness."""
    sim, x, y = simulation(integrator=integrator)
    exact = LEARN if "euler" in integrator else ("W", "b", "tau_r")
    bptt, adjoint = (assign(rule, sim, x, y, exact) for rule in (rules.BPTT(), rules.Adjoint(matched=True)))
    close(adjoint.grads, bptt.grads, 1e-11)
    assert (bptt.errors is None) == ("instant" in integrator)
    for a, b in zip(adjoint.errors, bptt.errors or ()):
        assert b.norm() > 1e-3
        torch.testing.assert_close(a, b, atol=1e-12, rtol=0)


@pytest.mark.parametrize("integrator", ["euler", "euler instant", "exponential instant", "rk4"])
def test_adjoint_converges_to_bptt(integrator):
    """Algorithm 2 against the exact gradient of the simulated network, slope 1 in dt; at each dt both see the same
    trajectory. Prevents: a wrong boundary at the end of the stretch (Eq. 64), which adds an error of order 0."""
    duration, frequencies = 2.0, torch.tensor([0.9, 1.7], dtype=torch.float64)
    phases = torch.tensor([[0.0, 1.0], [2.0, 0.5]], dtype=torch.float64)

    def x(t):
        return torch.sin(frequencies * t + phases)

    def y(t):
        return torch.cos(torch.tensor([0.6, 1.1, 1.9], dtype=torch.float64) * t).expand(2, 3)

    differences = []
    for n in (50, 100):
        sim = gle.Simulation(mixed_network(), dt=duration / n, integrator=INTEGRATORS[integrator])
        got, expected = (
            flat(rules.assign(rule, sim, x, y, steps=n, learn=LEARN).grads) for rule in (rules.Adjoint(), rules.BPTT())
        )
        got, expected = (torch.cat([g.flatten() for g in grads]) for grads in (got, expected))
        differences.append(float((got - expected).norm() / expected.norm()))
    slope = torch.log2(torch.tensor(differences[0]) / differences[1])
    assert differences[0] < 0.1
    assert abs(float(slope) - 1) < 0.1, differences


@pytest.mark.parametrize("rule", [rules.GLE(), rules.Instantaneous()], ids=["gle", "instantaneous"])
def test_instantaneous_limit_is_backprop(rule):
    """τm = τr, instant propagation: W and b of every rule that claims it, at every step."""
    sim, x, y = simulation(mixed_network(taus=INSTANT), "euler instant")
    bptt, other = (assign(r, sim, x, y, ("W", "b")) for r in (rules.BPTT(), rule))
    close(other.grads, bptt.grads, 1e-10)
    for a, b in zip(other.errors, assign(rules.Adjoint(matched=True), sim, x, y, ("W", "b")).errors):
        torch.testing.assert_close(a, b, atol=1e-11, rtol=0)
    mixed, x, y = simulation(integrator="euler instant")
    bptt, other = (assign(r, mixed, x, y, ("W", "b")) for r in (rules.BPTT(), rule))
    with pytest.raises(AssertionError):
        close(other.grads, bptt.grads, 1e-2)


@pytest.mark.parametrize("rule", [rules.GLE(), rules.Instantaneous()], ids=["gle", "instantaneous"])
def test_steady_state_is_backprop(rule):
    """Constant input and target: once settled, one step's gradient is the change of the settled cost, for any τ."""
    net = mixed_network()
    x, y = signals(1)
    sim = gle.Simulation(net, dt=DT, cost="cross_entropy", beta=0.8)
    sim.run(x.expand(900, -1, -1), y.expand(900, -1, -1))
    parameters = [p.requires_grad_() for layer in net.layers for p in (layer.W, layer.b)]
    r = x[0]
    for i, d in net.places():
        r = net.layers[i].phi.phi(r @ net.layers[i].W[d].mT + net.layers[i].b[d])
    expected = torch.autograd.grad(0.8 * sim.dynamics.cost.value(r, y[0]).mean(), parameters)
    got = flat(assign(rule, sim, x, y, ("W", "b")).grads)
    for g, e in zip(got, expected):
        assert e.norm() > 1e-6
        torch.testing.assert_close(g, e, atol=1e-10, rtol=1e-8)


def test_gle_is_the_simulations_own_plasticity():
    """The rule against the online rule of the core: summed over a stretch, the same gradients."""
    sim, x, y = simulation(plasticity=gle.Plasticity("sgd", lr=0.0, learn=LEARN, every=1000))
    credit = assign(rules.GLE(), sim, x, y)
    before = sim.carry.learning.pending
    sim.run(x, y)
    expected = tuple(
        gle.Theta(*(None if n is None else n - o for n, o in zip(new, old)))
        for new, old in zip(sim.carry.learning.pending, before)
    )
    close(credit.grads, expected, 1e-10)
    torch.testing.assert_close(credit.state[0].u, sim.carry.state[0].u, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", ["gle", "bptt", "adjoint"])
@pytest.mark.parametrize("integrator", ["euler", "euler instant"])
def test_errors_explain_the_gradients(name, integrator):
    """ΔW_ℓ = Σ_t errors_ℓ r_{ℓ−1}ᵀ (Eqs. 8, 9), with the rates that the synapses saw."""
    rule = rules.Adjoint(matched=True) if name == "adjoint" else rules.rule(name)
    sim, x, y = simulation(integrator=integrator)
    if name == "bptt" and integrator == "euler instant":
        assert assign(rule, sim, x, y).errors is None
        return
    credit = assign(rule, sim, x, y)
    bottom = -torch.einsum("tbi,tbj->ij", credit.errors[0], x) / x.shape[1]
    torch.testing.assert_close(bottom, credit.grads[0].W[0], atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("integrator", ["euler", "euler instant", "exponential"])
def test_rflo_is_exact_for_one_layer(integrator):
    """All parameters of a single layer. Prevents: a trace that belongs to another step than its error."""
    taus = {"tau_m": [0.6, 1.2, 0.9], "tau_r": [0.2, 1.2, 0.5]}
    net = gle.Network([gle.Layer(2, 3, phi="tanh", dtype=torch.float64, **taus)], 2)
    sim, x, y = simulation(net, integrator)
    learn = LEARN if "euler" in integrator else ("W", "b", "tau_r")
    bptt, rflo = (assign(r, sim, x, y, learn) for r in (rules.BPTT(), rules.RFLO()))
    close(rflo.grads, bptt.grads, 1e-10)


def test_rflo_is_exact_below_instantaneous_layers():
    """With transposed feedback; a random one gives other gradients."""
    mixed, instant = ({"tau_m": [0.6, 1.2, 0.9], "tau_r": r} for r in ([0.2, 0.3, 0.5], [0.6, 1.2, 0.9]))
    net = gle.Network(
        [
            gle.Layer(2, 3, phi="tanh", dtype=torch.float64, **mixed),
            gle.Layer(3, 3, phi="tanh", dtype=torch.float64, **instant),
        ],
        2,
    )
    sim, x, y = simulation(net, "euler instant")
    bptt, rflo, random = (
        assign(r, sim, x, y, ("W", "b")) for r in (rules.BPTT(), rules.RFLO("transpose"), rules.RFLO())
    )
    close(rflo.grads, bptt.grads, 1e-10)
    with pytest.raises(AssertionError):
        close(random.grads, bptt.grads, 0.1)


@pytest.mark.parametrize("integrator", ["euler", "euler instant"])
def test_uoro_is_unbiased(integrator):
    """Its mean over many draws of the noise is the exact gradient, within four standard errors for 99 % of the
    entries."""
    net = gle.Network(
        [
            gle.Layer(2, 2, phi="tanh", tau_m=[0.6, 1.2], tau_r=[0.2, 0.4], dtype=torch.float64, ensemble=(1500,)),
            gle.Layer(2, 3, phi="linear", tau_m=1.0, tau_r=0.5, dtype=torch.float64, ensemble=(1500,)),
        ],
        [3] * 1500,  # the same network over and over: the ensemble axis numbers the draws
    )
    x, y = signals(5, 2)
    sim = gle.Simulation(net, dt=DT, integrator=INTEGRATORS[integrator])
    exact, noisy = (assign(r, sim, x, y) for r in (rules.BPTT(), rules.UORO()))
    z = []
    for e, n in zip(flat(exact.grads), flat(noisy.grads)):
        standard_error = n.std(1) / 1500**0.5
        z.append(((n.mean(1) - e[:, 0]) / standard_error.clamp(min=1e-12)).flatten())
        assert n.std(1).max() > 1e-6
    z = torch.cat(z).abs()
    assert (z < 4).double().mean() > 0.99
    assert z.median() < 1.2


@pytest.mark.parametrize("name", [n for n in rules.RULES if n != "uoro"])
def test_ensemble_is_the_loop_over_members(name):
    net = mixed_network(ensemble=(2,))
    sim, x, y = simulation(net)
    rule = rules.rule(name)
    together = assign(rule, sim, x, y)
    for m in range(2):
        alone, *_ = simulation(mixed_network(seed=3 + m), warm_up=7)
        alone.carry = alone.carry._replace(state=mapped(lambda z, m=m: z[:, m], sim.carry.state))
        credit = assign(rule, alone, x[:, m], y[:, m])
        if name == "rflo":  # members draw their own feedback
            continue
        for a, b in zip(flat(credit.grads), flat(together.grads)):
            torch.testing.assert_close(a, b[:, m], atol=1e-11, rtol=1e-9)


@pytest.mark.parametrize("name", ["gle", "rtrl", "rflo", "instantaneous"])
def test_online_rules_go_on_where_they_stopped(name):
    """Two stretches = one, at fixed parameters, for rules that run forward in time."""
    sim, x, y = simulation()
    rule = rules.rule(name)
    whole = assign(rule, sim, x, y)
    first = rules.assign(rule, sim, x[:5], y[:5], learn=LEARN)
    sim.carry = sim.carry._replace(state=first.state)
    second = rules.assign(rule, sim, x[5:], y[5:], learn=LEARN, memory=first.memory)
    close(rules.base.added(first.grads, second.grads), whole.grads, 1e-10)


@pytest.mark.parametrize("frozen", [0, 1, 2])
@pytest.mark.parametrize("learn", [("W", "b"), ("tau_m",), ("b",), ("tau_r", "W")])
def test_any_part_of_the_network_may_learn(frozen, learn):
    """Layers that rest, absent biases, kinds left out: the same gradients for all exact rules, and λ of every layer.

    Prevents: a layer without anything that learns cutting the way of the gradient, or of the errors, below it."""
    taus = {"tau_m": [0.6, 1.2, 0.9], "tau_r": [0.2, 0.3, 0.5], "dtype": torch.float64}
    net = gle.Network(
        [gle.Layer(2 if l == 0 else 3, 3, plastic=l != frozen, bias=l != (frozen + 1) % 3, **taus) for l in range(3)],
        4,
    )
    sim, x, y = simulation(net)
    bptt, rtrl, adjoint = (assign(r, sim, x, y, learn) for r in (rules.BPTT(), rules.RTRL(), rules.Adjoint(True)))
    close(rtrl.grads, bptt.grads, 1e-10)
    close(adjoint.grads, bptt.grads, 1e-10)
    for a, b in zip(adjoint.errors, bptt.errors):
        assert b.norm() > 1e-4
        torch.testing.assert_close(a, b, atol=1e-12, rtol=0)


def test_uoro_draws_new_noise_and_leaves_its_memory_alone():
    """Prevents: the same noise in every stretch, or a memory that one use spoils for the next."""
    sim, x, y = simulation()
    first = assign(rules.UORO(), sim, x[:6], y[:6])
    again, twice, fresh = (
        rules.assign(rules.UORO(), sim, x[6:], y[6:], learn=LEARN, memory=m).grads
        for m in (first.memory, first.memory, None)
    )
    close(again, twice, 0.0)
    with pytest.raises(AssertionError):
        close(again, fresh, 1e-3)


@pytest.mark.parametrize("name", ["rflo", "rtrl", "uoro"])
def test_a_stream_may_come_in_several_calls(name):
    """`learn` takes up the memory of the call before. Prevents: traces that are lost between samples."""
    losses = []
    for cuts in ([12], [4, 8]):
        sim, x, y = simulation(plasticity=gle.Plasticity("sgd", lr=0.01, learn=LEARN))
        memory, begin = None, 0
        for n in cuts:
            for credit in rules.learning(
                rules.rule(name), sim, x[begin : begin + n], y[begin : begin + n], stretch=2, memory=memory
            ):
                memory = credit.memory
            begin += n
        losses.append(sim.carry.theta[0].W)
    torch.testing.assert_close(*losses, atol=1e-13, rtol=0)


def test_rules_leave_the_simulation_alone():
    """Prevents: a look at the gradient that changes what is looked at."""
    sim, x, y = simulation()
    state = [z.clone() for s in sim.carry.state for z in s[:-1]]
    theta = [p.clone() for p in flat(sim.carry.theta)]
    for name in rules.RULES:
        assign(rules.rule(name), sim, x, y)
    assert all(torch.equal(a, b) for a, b in zip(state, (z for s in sim.carry.state for z in s[:-1])))
    assert all(torch.equal(a, b) for a, b in zip(theta, flat(sim.carry.theta)))


def test_divergence_is_noticed():
    """Prevents: training on NaN without a word."""
    net = gle.Network(
        [gle.Layer(2, 3, tau_m=1.0, tau_r=0.2, phi="linear"), gle.Layer(3, 3, tau_m=1.0, tau_r=0.2, phi="linear")]
    )
    sim = gle.Simulation(net, dt=DT, plasticity=gle.Plasticity("sgd", lr=1e4))
    x, y = signals(60, dtype=torch.float32)
    with pytest.raises(FloatingPointError, match="layer 0 is not finite"):
        rules.learn(rules.GLE(), sim, x, y, stretch=1)


def test_truncation():
    """Window = stretch is exact; a window with a short stride is nearer to it than one with its own length as stride;
    a window of 2 sees little memory."""
    sim, x, y = simulation(integrator="euler instant")
    full, strided, chunked, short = (
        torch.cat([g.flatten() for g in flat(assign(rules.BPTT(*w), sim, x, y).grads)])
        for w in ((), (6, 1), (6, 6), (2, 2))
    )
    distances = [float((g - full).norm() / full.norm()) for g in (strided, chunked, short)]
    assert 0 < distances[0] < distances[1] < distances[2]
    same = assign(rules.BPTT(len(x), 3), sim, x, y)
    close(same.grads, assign(rules.BPTT(), sim, x, y).grads, 1e-10)


def test_windows_are_stretches():
    """A window is a stretch that starts from the state of its first step, taken as given; a stride of one step takes in
    the cost of its last step alone. Prevents: a window that is a step off."""
    sim, x, y = simulation()
    states = [sim.carry.state]
    for t in range(len(x)):
        sim.run(x[t : t + 1], y[t : t + 1])
        states.append(sim.carry.state)

    def whole(begin, end):
        sim.carry = sim.carry._replace(state=states[begin])
        return torch.cat([g.flatten() for g in flat(assign(rules.BPTT(), sim, x[begin:end], y[begin:end]).grads)])

    def truncated(window, stride):
        sim.carry = sim.carry._replace(state=states[0])
        return torch.cat([g.flatten() for g in flat(assign(rules.BPTT(window, stride), sim, x, y).grads)])

    chunks = sum(whole(begin, begin + 4) for begin in range(0, len(x), 4))
    torch.testing.assert_close(truncated(4, 4), chunks, atol=1e-12, rtol=1e-9)
    each = whole(0, 2)  # the first step alone has no gradient with delayed propagation
    for end in range(3, len(x) + 1):
        begin = max(0, end - 5)
        each = each + whole(begin, end) - whole(begin, end - 1)
    torch.testing.assert_close(truncated(5, 1), each, atol=1e-12, rtol=1e-9)
    assert (chunks - each).norm() > 1e-3 * each.norm()


def test_trajectory_without_the_scan(monkeypatch):
    """The whole stretch at once, and step by step: the same tensors, of which the rates are the computed ones and those
    that neighbours see. Prevents: rates of another step where γ ≠ 0 or RK4 rules out the scan."""
    for integrator in ("euler", "euler instant"):
        sim, x, y = simulation(integrator=integrator)
        xs, ts = sim.sampled(x, y)
        problem = rules.Problem(sim.network, sim.integrator, sim.dynamics, LEARN)
        taken = []
        for swept in (True, False):
            monkeypatch.setattr(rules.trajectory, "can_scan", lambda *_, swept=swept: swept)
            with torch.no_grad():
                taken.append(rules.trajectory.trajectory(problem, sim.carry.theta, sim.carry.state, xs, ts)[0])
        for swept, stepped in zip(*taken):
            for a, b in zip(swept, stepped):
                torch.testing.assert_close(a, b, atol=1e-12, rtol=0)
            same = (stepped.r - stepped.seen).abs().max() == 0
            assert same == (integrator == "euler instant")
            if integrator == "euler":
                torch.testing.assert_close(stepped.seen[1:], stepped.r[:-1], atol=0, rtol=0)


def test_credit_needs_no_feedback_weights_to_be_exact():
    """Fixed random feedback changes GLE's gradients and nobody else's."""
    credits = {}
    for feedback in ("transpose", "fixed_random"):
        sim, x, y = simulation(mixed_network(feedback=feedback))
        credits[feedback] = [
            assign(r, sim, x, y).grads for r in (rules.BPTT(), rules.Adjoint(matched=True), rules.GLE())
        ]
    close(credits["transpose"][0], credits["fixed_random"][0], 1e-12)
    close(credits["transpose"][1], credits["fixed_random"][1], 1e-12)
    with pytest.raises(AssertionError):
        close(credits["transpose"][2], credits["fixed_random"][2], 1e-2)


@pytest.mark.parametrize("name", rules.RULES)
def test_learning_lowers_the_cost(name):
    """The same training loop for all of them."""
    net = gle.Network([gle.Layer(2, 3, tau_m=1.0, tau_r=0.4, dtype=torch.float64)], 1)
    sim = gle.Simulation(net, dt=DT, plasticity=gle.Plasticity("adam", lr=3e-2))
    x = torch.sin(torch.arange(0, 80, DT, dtype=torch.float64)[:, None, None] * torch.tensor([0.7, 1.3]))
    teacher = gle.Simulation(gle.Network([gle.Layer(2, 3, tau_m=1.0, tau_r=0.4, dtype=torch.float64)], 9), dt=DT)
    y, _ = teacher.predict(x)
    costs = [float(c.cost.mean()) for c in rules.learning(rules.rule(name), sim, x, y, stretch=5)]
    assert sum(costs[-10:]) < (0.5 if name == "uoro" else 0.1) * sum(costs[:10])  # noise slows UORO
    assert sim.step == len(x)


def test_bad_input():
    sim, x, y = simulation()
    with pytest.raises(ValueError, match="window = 40 is longer than the 12 steps"):
        assign(rules.BPTT(window=40), sim, x, y)
    with pytest.raises(ValueError, match="stride = 5 is longer than window = 2"):
        rules.BPTT(window=2, stride=5)
    with pytest.raises(ValueError, match="unknown rule 'magic'"):
        rules.rule("magic")
    with pytest.raises(ValueError, match="credit needs targets"):
        assign(rules.GLE(), sim, x, None)
    with pytest.raises(ValueError, match="features"):
        assign(rules.GLE(), sim, x[..., :1], y)
    with pytest.raises(ValueError, match="empty"):
        assign(rules.GLE(), sim, x[:0], y[:0])
    with pytest.raises(ValueError, match="no plasticity"):
        rules.learn(rules.GLE(), sim, x, y, stretch=3)
    frozen = gle.Network([gle.Layer(2, 3, tau_m=1.0, tau_r=1.0, plastic=False, dtype=torch.float64)])
    with pytest.raises(ValueError, match="nothing learns"):
        assign(rules.GLE(), gle.Simulation(frozen, dt=DT), x, y)
    with pytest.raises(ValueError, match="window of 1 step has no gradient"):
        assign(rules.BPTT(window=1), sim, x, y)
    with pytest.raises(ValueError, match="single step has no gradient"):
        assign(rules.Adjoint(matched=True), sim, x[:1], y[:1])
    with pytest.raises(ValueError, match=r"whole numbers of steps.*2\.5"):
        rules.BPTT(window=2.5)
    memory = assign(rules.RFLO(), sim, x, y).memory
    other = gle.Simulation(sim.network, dt=DT)
    with pytest.raises(ValueError, match="memory is of a batch of 5, the inputs have one of 2"):
        rules.assign(rules.RFLO(), other, x[:, :2], y[:, :2], learn=LEARN, memory=memory)
    with pytest.raises(ValueError, match="memory is of the parameters"):
        rules.assign(rules.RFLO(), sim, x, y, learn=("W", "b"), memory=memory)
    with pytest.raises(ValueError, match="memory is a Traces, this rule's is a Influence"):
        rules.assign(rules.RTRL(), sim, x, y, learn=LEARN, memory=memory)
    with pytest.raises(ValueError, match="got magic"):
        assign(rules.GLE(), sim, x, y, "magic")
    plastic, x, y = simulation(plasticity=gle.Plasticity("sgd", lr=0.1))
    with pytest.raises(ValueError, match="12 steps are no multiple of stretch = 5"):
        rules.learn(rules.BPTT(), plastic, x, y, stretch=5)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        rules.learn(rules.GLE(), plastic, x, y, stretch=0)
    with pytest.raises(ValueError, match="credit needs targets"):
        rules.learn(rules.GLE(), plastic, x, None, stretch=1)
    rk4, x, y = simulation(integrator="rk4")
    for rule in (rules.RFLO(), rules.Adjoint(matched=True)):
        with pytest.raises(ValueError, match="RK4"):
            assign(rule, rk4, x, y)
