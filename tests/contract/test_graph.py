"""Graphs: the chain as a graph is the chain to the bit, what is wired wrong is refused by name, and all that a
simulation does with a network it does with a graph."""

import numpy as np
import pytest
import torch

import gle
from gle import rules
from gle.integrators import Euler
from gle.neurons import Gated, RMSNorm, Softmax
from gle.synapses import Masked, Positions

D = torch.float64
TAUS = [(1.0, 0.3), (2.0, 0.4), (0.7, 0.2)]
SIZES, PHIS = [3, 5, 4, 2], ["tanh", "sigmoid", "linear"]
ALL = ("W", "b", "tau_m", "tau_r")


def chain(as_graph, ensemble=(), **graph):
    common = {"ensemble": ensemble, "dtype": D}
    if not as_graph:
        layers = (
            gle.Layer(*SIZES[i : i + 2], tau_m=m, tau_r=r, phi=phi, **common)
            for i, ((m, r), phi) in enumerate(zip(TAUS, PHIS))
        )
        return gle.Network(list(layers), seed=3)
    populations = {name: gle.Population(n, *taus, phi=phi) for name, n, taus, phi in zip("abc", SIZES[1:], TAUS, PHIS)}
    joined = [gle.Projection(*pair) for pair in (("input", "a"), ("a", "b"), ("b", "c"))]
    return gle.Graph(3, populations, joined, seed=3, **common)


def block(ensemble=(), seed=0, **how):
    """A recurrent, gated, normalised network with a skip: every kind of part at once."""
    inside = {"tau_m": 1.0, "tau_r": 0.4, "errors": how.pop("errors", "instantaneous")}
    mask = (torch.rand(6, 6, generator=torch.Generator().manual_seed(5)) < 0.5).double()
    return gle.Graph(
        3,
        {
            "in": gle.Population(6, **inside),
            "gate": gle.Population(6, phi="gated", **inside),
            "sum": gle.Population(6, phi=RMSNorm(2), bias=False, **inside),
            "out": gle.Population(2, phi="linear", **inside),
        },
        [
            gle.Projection("input", "in"),
            gle.Projection("in", "in", delay=1, synapse=Masked(mask), **how),
            gle.Projection("in", "gate"),
            gle.Projection("in", "gate", "gate", synapse=gle.Linear("fixed_random")),
            gle.Projection("gate", "sum", bias=True),
            gle.Projection("in", "sum", synapse="identity"),
            gle.Projection("sum", "in", delay=1, epsilon=0.5),
            gle.Projection("sum", "out"),
        ],
        dtype=D, ensemble=ensemble, seed=seed,
    )  # fmt: skip


def signals(steps, batch=6):
    g = torch.Generator().manual_seed(8)
    return (torch.randn(steps, batch, n, generator=g, dtype=D) for n in (3, 2))


def flat(net):
    return [t for p in net.theta() for t in p if t is not None]


@pytest.mark.parametrize("gamma", [0.0, 0.2])
@pytest.mark.parametrize("integrator", [Euler(), Euler("instant"), "exponential", "rk4"], ids=str)
def test_a_chain_is_the_network(integrator, gamma):
    """Prevents: two kinds of network that drift apart; another order of errors, another draw of weights."""
    x, y = signals(60)
    ended = []
    for as_graph in (False, True):
        net = chain(as_graph, (2,))
        start = [t.detach().clone() for t in flat(net)]
        plasticity = gle.Plasticity(lr=1e-2, learn=ALL)
        sim = gle.Simulation(net, dt=0.1, integrator=integrator, gamma=gamma, plasticity=plasticity)
        sim.run(x, y)
        assert min(float((a - b).detach().abs().max()) for a, b in zip(flat(net), start)) > 1e-3
        ended.append(sim)
    layers, graph = (sim.carry for sim in ended)
    for i, (a, b) in enumerate(zip(layers.state, graph.state)):
        for name in ("u", "v", "r", "e"):
            assert torch.equal(getattr(a, name), getattr(b, name)), (i, name)
        if i and integrator != "rk4" and getattr(integrator, "propagation", "delayed") == "delayed":
            assert torch.equal(a.sent, b.sent[0])
        assert torch.equal(layers.theta[i].W, graph.theta[3 + i].W)
        for kind in ("b", "tau_m", "tau_r"):
            assert torch.equal(getattr(layers.theta[i], kind), getattr(graph.theta[i], kind))


def test_members_of_an_ensemble_are_alone(tmp_path):
    """Prevents: a pull-back, a synapse or a gain control that mixes members."""
    x, y = signals(25)
    together = gle.Simulation(block((2,), gain_control=True), dt=0.2, plasticity=gle.Plasticity(lr=1e-2, learn=ALL))
    together.run(x, y)
    for m in range(2):
        alone = gle.Simulation(block(seed=m, gain_control=True), dt=0.2, plasticity=gle.Plasticity(lr=1e-2, learn=ALL))
        alone.run(x, y)
        for a, b in zip(flat(together.network), flat(alone.network), strict=True):
            torch.testing.assert_close(a[:, m], b, rtol=1e-9, atol=1e-11)


def test_compiled_is_eager():
    """Prevents: a step that can be run, and not be traced."""
    x, y = signals(12)
    ended = []
    for compile in (False, True):
        sim = gle.Simulation(block(), dt=0.2, plasticity=gle.Plasticity(lr=1e-2), compile=compile, block=1)
        if compile:
            sim.engine.fast = torch.compile(sim.advance, backend="eager", fullgraph=True)
        sim.run(x, y)
        ended.append(flat(sim.network))
    for a, b in zip(*ended, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def test_saved_resumed_and_copied(tmp_path):
    """Prevents: a graph that comes back with other parts, or a state that does not fit its own network."""
    x, y = signals(30)
    sim = gle.Simulation(block(errors="relaxing"), dt=0.2, plasticity=gle.Plasticity(lr=1e-2))
    sim.run(x[:15], y[:15])
    torch.save(sim.state_dict(), tmp_path / "state.pt")
    gle.save(tmp_path / "net.pt", sim)
    sim.run(x[15:], y[15:])
    again = gle.Simulation(block(errors="relaxing"), dt=0.2, plasticity=gle.Plasticity(lr=1e-2))
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    loaded = gle.load(tmp_path / "net.pt")
    assert all(torch.equal(a, b) for a, b in zip(flat(loaded.network), flat(again.network), strict=True))
    assert repr(loaded.network) == repr(again.network)
    assert torch.equal(loaded.predict(x)[0], again.predict(x)[0])
    again.run(x[15:], y[15:])
    assert all(torch.equal(a, b) for a, b in zip(flat(sim.network), flat(again.network), strict=True))
    assert not torch.equal(flat(sim.network)[0], flat(loaded.network)[0])


def test_recorded_by_name():
    net = block()
    record = gle.Record("r", "W", "loss", layers=["gate", "gate → sum"], every=2)
    x, y = signals(6)
    gle.Simulation(net, dt=0.2).run(x, y, record=record)
    assert record["r"].keys() == {"gate"}
    assert record["r"]["gate"].shape == (3, 6, 6)
    assert torch.equal(record["W"]["gate → sum"][0], net["gate → sum"].W[0])
    with pytest.raises(ValueError, match=r"no layer gte to record r of: the graph has in, gate, .* in → gate\.gate"):
        gle.Simulation(net, dt=0.2).run(x, y, record=gle.Record("r", layers="gte"))


def test_lengths_silence_what_is_over():
    """Prevents: errors that go round in a loop after a sample's end, and are learned from."""
    x, y = signals(20)
    sims = []
    for steps, after in ((20, 7.0), (10, 0.0)):
        sims.append(gle.Simulation(block(), dt=0.2, plasticity=gle.Plasticity("sgd", lr=1e-2)))
        sims[-1].run(x[:steps].clone().add_(after * (torch.arange(steps) >= 10)[:, None, None]), y[:steps],
                     lengths=[10] * 6)  # fmt: skip
    for a, b in zip(*(flat(sim.network) for sim in sims), strict=True):
        assert torch.equal(a, b)


def test_saved_with_numbers_of_any_kind(tmp_path):
    """Prevents: a file that is written without a word, and refused when it is wanted."""
    one = gle.Population(np.int64(4), 1.0, 0.5, phi=Softmax(np.int64(2)), errors=gle.errors.Relaxing(np.float64(2)))
    joined = [
        gle.Projection("input", "a", synapse=Positions(np.int64(2))),
        gle.Projection("a", "a", delay=np.int64(1), gain_control=np.bool_(False), epsilon=1),
    ]
    net = gle.Graph(np.int64(4), {"a": one}, joined, ensemble=np.int64(2))
    gle.save(tmp_path / "net.pt", net)
    assert repr(gle.load(tmp_path / "net.pt")) == repr(net)
    assert "a" in net
    assert "b" not in net


def test_state_of_another_wiring_is_refused():
    """Prevents: weights that land on other projections of the same shape."""

    def made(*names):
        populations = {name: gle.Population(3, 1.0, 0.5) for name in names}
        joined = [gle.Projection("input", "a"), gle.Projection("a", "b")]
        return gle.Simulation(gle.Graph(3, populations, joined, output="b"), dt=0.1)

    with pytest.raises(ValueError, match=r"saved with another network, a: .* this simulation has b: "):
        made("b", "a").load_state_dict(made("a", "b").state_dict())
    made("a", "b").load_state_dict(made("a", "b").state_dict())


P, J = gle.Population, gle.Projection
ONE = P(2, 1.0, 1.0)


@pytest.mark.parametrize(
    ("populations", "projections", "message"),
    [
        ({}, [], "a graph needs populations"),
        ({"input": ONE}, [], "by any name but 'input'"),
        ({"a": ONE}, [], "nothing reaches population 'a'"),
        ({"a": ONE}, [J("input", "b")], "input → b: there is no population 'b'; there are input, a"),
        ({"a": ONE}, [J("input", "a"), J("a", "input")], "a → input: the input receives nothing"),
        ({"a": ONE}, [J("input", "a", delay=2)], "delay must be 0 or 1 step, got 2"),
        ({"a": ONE}, [J("input", "a", delay=1)], "inputs come without delay"),
        ({"a": ONE}, [J("input", "a"), J("input", "a")], "input → a is given twice"),
        ({"a": ONE}, [J("input", "a", "gate")], "'a' has compartments soma"),
        ({"a": P(2, 1.0, 1.0, phi="gated")}, [J("input", "a")], "nothing reaches compartment 'gate' of population 'a'"),
        ({"a": ONE}, [J("input", "a", synapse="identity")], "an identity joins as many neurons, not 3 and 2"),
        ({"a": ONE}, [J("input", "a"), J("a", "a")], "a → a is a cycle without delay: give one of its projections"),
        (
            {"a": ONE, "b": ONE, "c": ONE},
            [J("input", "a"), J("a", "b"), J("b", "c"), J("c", "a")],
            "a → (b → c|c → b) → a is a cycle without delay",
        ),
        ({"a": P(0, 1.0, 1.0)}, [J("input", "a")], "the size of population 'a' must be at least 1, got 0"),
        ({"a": P("6", 1.0, 1.0)}, [J("input", "a")], "the size of population 'a' must be a whole number, got '6'"),
        ({"a.b": ONE}, [], "a population's name is a text without '→' and '.', not 'a.b'"),
        ([ONE], [], "populations are a dict of names and gle.Population"),
        ({"a": ONE}, [("input", "a")], "projections are a list of gle.Projection"),
        ({"a": ONE}, [J("input", "a"), J("input", "a", "soma")], "input → a.soma is given twice"),
        ({"a": P(3, 1.0, 1.0)}, [J("input", "a", synapse="identity", bias=True)], "these synapses have no bias"),
        (
            {"a": ONE, "b": ONE},
            [J("input", "a"), J("a", "b", gain_control=True)],
            "all errors of population 'a' come through a gain control",
        ),
        ({"a": P(2, 0.0, 1.0)}, [J("input", "a")], "tau_m must be positive, got 0"),
        ({"a": P(2, 1.0, 1.0, phi=Gated)}, [J("input", "a")], "phi must be the name of an activation"),
        ({"a": P(2, 1.0, 1.0, errors="late")}, [J("input", "a")], "unknown errors 'late'"),
    ],
)  # fmt: skip
def test_wiring_that_cannot_be(populations, projections, message):
    with pytest.raises(ValueError, match=message):
        gle.Graph(3, populations, projections)


@pytest.mark.parametrize("epsilon", [-1.0, float("nan"), float("inf"), "0.5", None])
def test_factors_that_cannot_be(epsilon):
    with pytest.raises(ValueError, match="epsilon of a → b must be ≥ 0 and finite"):
        gle.Projection("a", "b", epsilon=epsilon)


def test_what_takes_no_graph_says_so():
    """Prevents: an answer that leaves out half of the network."""
    x, y = signals(5)
    sim = gle.Simulation(block(), dt=0.2)
    for rule in (rules.Adjoint(), rules.Instantaneous(), rules.RFLO()):
        with pytest.raises(ValueError, match=r"chain of layers \(gle\.Network\), not a Graph"):
            rules.assign(rule, sim, x, y)
    for settings in ({"traces": (1.0, 1.0)}, {"centred": 5.0}):
        with pytest.raises(ValueError, match=r"chain of layers \(gle\.Network\)"):
            gle.Simulation(block(), dt=0.2, plasticity=gle.Plasticity(**settings))
    with pytest.raises(ValueError, match=r"in → in \(delayed\) is delayed by a step, this integrator looks at several"):
        gle.Simulation(block(), dt=0.2, integrator="rk4")
    with pytest.raises(ValueError, match=r"tau_r = 0\.4 in population 'in' is below dt = 0\.5"):
        gle.Simulation(block(), dt=0.5)


@pytest.mark.parametrize(
    ("how", "warns"),
    [
        ({}, True),
        ({"errors": "relaxing"}, False),
        ({"epsilon": 0.0}, False),
        ({"gain_control": True}, False),
        ({"tau_r": 1.0}, False),
    ],
)
def test_a_loop_of_prospective_errors_is_told_of(how, warns, recwarn):
    """Prevents: a network that diverges for reasons that its maker could have been told."""
    population = gle.Population(2, tau_m=1.0, tau_r=how.pop("tau_r", 0.5), errors=how.pop("errors", "prospective"))
    joined = [gle.Projection("input", "a"), gle.Projection("a", "b"), gle.Projection("b", "a", delay=1, **how)]
    gle.Graph(3, {"a": population, "b": gle.Population(2, 1.0, 1.0)}, joined)
    told = [str(w.message) for w in recwarn if "prospective" in str(w.message)]
    assert len(told) == warns
    assert all("population 'a'" in line and "τr/τm = 0.5" in line for line in told)


def test_divergence_names_the_population():
    net = block()
    with torch.no_grad():
        net["in"].b[0, 0] = torch.nan
    with pytest.raises(FloatingPointError, match="of population 'in' is not finite"):
        gle.Simulation(net, dt=0.2).run(*signals(5))
