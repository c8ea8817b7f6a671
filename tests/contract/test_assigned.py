"""`Simulation(rule=…)`: any rule of credit in place of GLE's own, with the streaming, recording, ensembles and resuming
that the simulation has anyway."""

import pytest
import torch
from nets import DT, mixed_network, signals

import gle
from gle import rules

EVERY = 5
NAMES = [name for name in rules.RULES if name != "gle"]


def made(name, net=None, **settings):
    plasticity = gle.Plasticity("adam", lr=0.01, every=settings.pop("every", EVERY))
    return gle.Simulation(net or mixed_network(), dt=DT, plasticity=plasticity, rule=rules.rule(name), **settings)


def weights(sim):
    return [t.detach() for p in sim.network.theta() for t in (p.W, p.b) if t is not None]


@pytest.mark.parametrize("name", NAMES)
def test_is_what_learn_does(name):
    """The same as `rules.learn` with stretches of `every` steps, to the bit; and it learns.

    Prevents: gradients that are scaled, delayed or counted twice on their way through the loop.
    """
    x, y = signals(20)
    sim = made(name)
    other = gle.Simulation(mixed_network(), dt=DT, plasticity=gle.Plasticity("adam", lr=0.01))
    sim.run(x, y)
    rules.learn(rules.rule(name), other, x, y, stretch=EVERY)
    for a, b in zip(weights(sim), weights(other), strict=True):
        assert torch.equal(a, b)
    assert (weights(sim)[-2] - mixed_network().layers[-1].W.detach()).abs().max() > 1e-3


def test_gle_is_the_default():
    """Given as a rule it is the simulation's own plasticity, with all that belongs to it."""
    x, y = signals(12)
    ended = []
    for rule in (None, rules.GLE()):
        plasticity = gle.Plasticity("sgd", lr=0.02, traces=(0.0, 1.0))
        sim = gle.Simulation(mixed_network(), dt=DT, plasticity=plasticity, rule=rule)
        sim.run(x, y)
        ended.append(weights(sim))
    assert all(torch.equal(a, b) for a, b in zip(*ended, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_saved_in_the_middle_goes_on(name, tmp_path):
    """What a rule remembers is saved with the rest, its random numbers included."""
    x, y = signals(20)
    whole, first, second = made(name), made(name), made(name, mixed_network(seed=8))
    whole.run(x, y)
    first.run(x[:10], y[:10])
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    second.run(x[10:], y[10:])
    for a, b in zip(weights(whole), weights(second), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", ["rflo", "rtrl", "uoro"])
def test_rules_that_run_forward_stream_and_record(name):
    """In steps of any length between updates and records, from an iterable; the last steps wait for their update.

    Prevents: a block that is cut by a record and learns something else.
    """
    x, y = signals(22)
    whole, streamed = made(name), made(name)
    whole.run(x, y)
    record = gle.Record("r", "loss", every=2)
    streamed.run(iter(zip(x, y)), record=record)
    assert record.steps == [*range(2, 23, 2)]
    for a, b in zip(weights(whole), weights(streamed), strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-7)  # Adam, of sums in another order
    before = weights(whole)[0].clone()
    whole.run(x[22 - 19 :], y[22 - 19 :], steps=3)  # 25 steps: the two that waited and these three
    assert not torch.equal(before, weights(whole)[0])


def test_members_learn_alone():
    x, y = signals(10)
    together = made("rtrl", mixed_network(ensemble=(2,)))
    together.run(x, y)
    for m in range(2):
        alone = made("rtrl", mixed_network(seed=3 + m))
        alone.run(x, y)
        for a, b in zip(weights(together), weights(alone), strict=True):
            torch.testing.assert_close(a[:, m], b, atol=1e-9, rtol=1e-7)


def test_a_graph_learns_by_bptt():
    net = gle.Graph(
        3,
        {"a": gle.Population(6, 1.0, 0.4), "out": gle.Population(2, 1.0, 0.4, phi="linear")},
        [gle.Projection("input", "a"), gle.Projection("a", "a", delay=1), gle.Projection("a", "out")],
        dtype=torch.float64,
    )
    g = torch.Generator().manual_seed(6)
    x = torch.randn(4, 3, generator=g, dtype=torch.float64).expand(40, 4, 3)
    y = torch.randn(4, 2, generator=g, dtype=torch.float64).expand(40, 4, 2)
    sim = made("bptt", net, every=20)
    costs = []
    for _ in range(30):
        sim.reset()
        record = gle.Record("loss", every=20)
        sim.run(x, y, record=record)
        costs.append(float(record["loss"].mean()))
    assert costs[-1] < 0.5 * costs[0]


X, Y = signals(12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: made("bptt").run(X, Y), "looks back over stretches of every = 5 steps, and 2 are left at step 10"),
        (lambda: made("bptt").run(X[:10], Y[:10], record=gle.Record("r", every=2)), "record after a multiple of them"),
        (lambda: made("rtrl").run(X), "RTRL needs targets"),
        (lambda: made("rtrl").run(X, Y, lengths=[3] * X.shape[1]), "RTRL takes series of one length"),
        (lambda: made("rtrl", compile=True), "RTRL runs eagerly"),
        (lambda: made("rtrl", noise=gle.Noise("rate", 0.1)), "RTRL runs the network itself, without noise"),
        (lambda: gle.Simulation(mixed_network(), dt=DT, rule=rules.RTRL()), "RTRL needs a plasticity"),
        (
            lambda: gle.Simulation(
                mixed_network(), dt=DT, rule=rules.RTRL(), plasticity=gle.Plasticity(traces=(1.0, 1.0))
            ),
            "traces and centred are GLE's own",
        ),
        (lambda: gle.Simulation(mixed_network(), dt=DT, rule="bptt"), r"made, like gle\.rules\.BPTT\(\); got 'bptt'"),
        (lambda: gle.Simulation(mixed_network(), dt=DT, rule=rules.BPTT), "rule must be one of gle"),
        (lambda: made("rtrl").load_state_dict(made("rflo").state_dict()), "with rule = RFLO, this one has RTRL"),
    ],
)  # fmt: skip
def test_what_cannot_be(make, message):
    with pytest.raises(ValueError, match=message):
        make()
