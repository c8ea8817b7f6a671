"""Labelled series as data sets hold them: labels, lengths, masks, batch first."""

import numpy as np
import pytest
import torch

import gle
from gle.series import lengths_of

CLASSES, T = 3, 12


def network(ensemble=(), dtype=torch.float64):
    common = {"ensemble": ensemble, "dtype": dtype}
    return gle.Network(
        [
            gle.Layer(2, 5, tau_m=1.0, tau_r=0.4, **common),
            gle.Layer(5, 5, tau_m=0.8, tau_r=0.3, **common),
            gle.Layer(5, CLASSES, tau_m=1.0, tau_r=1.0, phi="linear", **common),
        ],
        list(range(ensemble[0])) if ensemble else 0,
    )


def simulation(ensemble=(), cost="cross_entropy", integrator="euler", **plasticity):
    learning = gle.Plasticity("sgd", lr=0.1, **plasticity)
    return gle.Simulation(network(ensemble), dt=0.2, cost=cost, integrator=integrator, plasticity=learning)


@pytest.fixture
def series():
    g = torch.Generator().manual_seed(0)
    return torch.randn(T, 4, 2, generator=g, dtype=torch.float64), torch.tensor([2, 0, 1, 1])


LENGTHS = [5, 12, 1, 5]


@pytest.mark.parametrize("integrator", ["euler", "rk4"])
@pytest.mark.parametrize("ensemble", [(), (2,)])
def test_a_sample_in_a_padded_batch_is_the_sample_alone(series, ensemble, integrator):
    """Outputs up to its end, zero after it, and the state at its end. Prevents: padding that is read as input."""
    x, _ = series
    sim = simulation(ensemble, integrator=integrator)
    x = x.clone()
    x[9, 0], x[10, 0] = 1e30, torch.nan  # padding of sample 0
    outputs, state = sim.predict(x, lengths=LENGTHS)
    for i, length in enumerate(LENGTHS):
        alone, after = sim.predict(x[:length, i : i + 1])
        torch.testing.assert_close(outputs[:length, ..., i : i + 1, :], alone, atol=1e-12, rtol=0)
        assert not outputs[length:, ..., i, :].any()
        for whole, own in zip(state, after):
            torch.testing.assert_close(whole.u[..., i : i + 1, :], own.u, atol=1e-12, rtol=0)
            torch.testing.assert_close(whole.r[..., i : i + 1, :], own.r, atol=1e-12, rtol=0)


def test_a_mask_is_lengths(series):
    x, _ = series
    sim = simulation()
    mask = torch.arange(T)[:, None] < torch.tensor(LENGTHS)
    expected, _ = sim.predict(x, lengths=np.array(LENGTHS))
    for outputs in (
        sim.predict(x, mask=mask)[0],
        sim.predict(x.transpose(0, 1), mask=mask.T.numpy(), batch_first=True)[0].transpose(0, 1),
        sim.predict(x.transpose(0, 1).numpy(), lengths=LENGTHS, batch_first=True)[0].transpose(0, 1),
    ):
        assert torch.equal(outputs, expected)


def learned(sim, *args, **kwargs):
    before = sim.network.layers[0].W.detach().clone()
    sim.run(*args, **kwargs)
    W = sim.network.layers[0].W.detach()
    assert not torch.equal(W, before)
    return W


@pytest.mark.parametrize("ensemble", [(), (2,)])
def test_labels_and_orders_of_axes(series, ensemble):
    """Prevents: labels that are read as values, a batch that is read as time."""
    x, labels = series
    targets = torch.nn.functional.one_hot(labels, CLASSES).double().expand(T, -1, -1)
    expected = learned(simulation(ensemble), x, targets)
    for args, flags in (
        ((x, labels), {}),
        ((x.numpy(), labels.int().numpy()), {}),
        ((x, labels.expand(T, -1)), {}),
        ((x.transpose(0, 1), labels), {"batch_first": True}),
        ((x.transpose(0, 1), labels.expand(T, -1).T), {"batch_first": True}),
        ((x.transpose(0, 1), targets.transpose(0, 1)), {"batch_first": True}),
    ):
        assert torch.equal(learned(simulation(ensemble), *args, **flags), expected)


PADDINGS = [0.0, 1e30, torch.nan]


@pytest.mark.parametrize("traces", [None, (0.4, 1.2)])
@pytest.mark.parametrize("cost", ["cross_entropy", "mse"])
@pytest.mark.parametrize("padding", PADDINGS)
def test_a_padded_batch_teaches_what_its_samples_teach_alone(series, padding, cost, traces):
    """Gradients, summed over the steps of a run, are those of the samples alone, each up to its end, averaged over the
    batch. Prevents: errors that linger in the hidden layers and meet padding at the synapses."""
    x, labels = series
    over = torch.arange(T)[:, None] >= torch.tensor(LENGTHS)
    x = x.masked_fill(over.unsqueeze(-1), padding)
    targets = torch.nn.functional.one_hot(labels, CLASSES).double().expand(T, -1, -1).clone()
    targets[over] = padding

    def gradient(x, y, steps, **flags):
        """What one update at the end has changed."""
        sim = simulation(cost=cost, every=steps, traces=traces)
        before = [layer.W.detach().clone() for layer in sim.network.layers]
        sim.run(x, y, **flags)
        return [layer.W.detach() - W for layer, W in zip(sim.network.layers, before)]

    whole = gradient(x, targets, T, lengths=LENGTHS)
    alone = [gradient(x[:n, i : i + 1], targets[:n, i : i + 1], n) for i, n in enumerate(LENGTHS)]
    for found, *each in zip(whole, *alone):
        assert found.abs().max() > 1e-4
        torch.testing.assert_close(found, sum(each) / len(LENGTHS), atol=1e-13, rtol=1e-9)


@pytest.mark.parametrize("integrator", ["euler", "rk4"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_run_ends_with_its_longest_sample(series, optimizer, integrator):
    """Prevents: an optimiser that goes on moving weights by its memory while there is nothing but padding."""
    x, labels = series

    def learned(x, **flags):
        plasticity = gle.Plasticity(optimizer, lr=0.01)
        sim = gle.Simulation(network(), dt=0.2, cost="cross_entropy", integrator=integrator, plasticity=plasticity)
        sim.run(x, labels, **flags)
        return sim.step, [layer.W.detach() for layer in sim.network.layers]

    (steps, expected), (padded_steps, found) = learned(x[:7]), learned(x, lengths=[7] * 4)
    assert steps == padded_steps == 7
    for a, b in zip(found, expected):
        assert torch.equal(a, b)


def test_labels_after_the_end_are_of_no_account(series):
    """Prevents: −1, as data sets pad labels with, being refused."""
    x, labels = series
    over = torch.arange(T)[:, None] >= torch.tensor(LENGTHS)
    padded = labels.expand(T, -1).masked_fill(over, -1)
    expected = learned(simulation(), x, labels, lengths=LENGTHS)
    assert torch.equal(learned(simulation(), x, padded, lengths=LENGTHS), expected)
    transposed = {"lengths": LENGTHS, "batch_first": True}
    assert torch.equal(learned(simulation(), x.transpose(0, 1), padded.T, **transposed), expected)
    assert torch.equal(learned(simulation(), x, labels.tolist(), mask=~over), expected)
    assert not torch.equal(learned(simulation(), x, labels), expected)


def test_compiled_equals_eager_where_samples_end(series, monkeypatch):
    monkeypatch.setenv("GLE_COMPILER", "eager")
    x, labels = series

    def learned(compile):
        plasticity = gle.Plasticity("adam", lr=0.01)
        sim = gle.Simulation(network(), dt=0.2, cost="cross_entropy", plasticity=plasticity, compile=compile)
        sim.run(x, labels, lengths=LENGTHS)
        return sim.network.layers[0].W.detach()

    torch.testing.assert_close(learned(True), learned(False), atol=1e-12, rtol=0)


def test_no_teacher_after_the_end_with_the_squared_error(series):
    """The output layer alone, at every step: e = (target − r) up to the end, zero from there on."""
    x, _ = series
    layer = gle.Layer(2, CLASSES, tau_m=1.0, tau_r=1.0, phi="linear", dtype=torch.float64)
    sim = gle.Simulation(gle.Network([layer], 0), dt=0.2, plasticity=gle.Plasticity("sgd", lr=0.1))
    record = gle.Record("e", "loss", every=1)
    sim.run(x, torch.ones(T, 4, CLASSES), lengths=LENGTHS, record=record)
    over = torch.arange(T)[:, None] >= torch.tensor(LENGTHS)
    e = record["e"][0]
    assert not e[over].any()
    assert (e[~over] != 0).all()
    assert torch.equal(torch.isnan(record["loss"]), over)


def test_rules_take_labels(series):
    from gle import rules

    x, labels = series
    targets = torch.nn.functional.one_hot(labels, CLASSES).double().expand(T, -1, -1)
    sim = simulation()
    a, b = (rules.assign(rules.BPTT(), sim, x, y).grads for y in (labels, targets))
    assert torch.equal(a[0]["W"] if isinstance(a[0], dict) else a[0].W, b[0]["W"] if isinstance(b[0], dict) else b[0].W)


def test_progress(series, capsys):
    x, labels = series
    sim = simulation()
    sim.run(x, labels, progress=True)
    assert f"{T}/{T}" in capsys.readouterr().err
    assert sim.step == T


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s, x, y: s.run(x, torch.tensor([0, 1, 2, 3])), "labels must lie in 0 … 2, .* 3 outputs; got 3"),
        (lambda s, x, y: s.run(x, torch.tensor([0, 1, -1, 2])), "got -1"),
        (lambda s, x, y: s.run(x.transpose(0, 1), y), r"labels have shape \(4,\), expected \[12\]"),
        (lambda s, x, y: s.run(x, y.float()), r"labels are whole numbers \(these are torch.float32\)"),
        (lambda s, x, y: s.run(x, torch.eye(CLASSES)[y].long()), r"labels have shape \(4, 3\), expected \[4\]"),
        (lambda s, x, y: s.run(x.transpose(0, 1), y, lengths=[1] * 12), "labels have shape"),
        (lambda s, x, y: s.predict(x.transpose(0, 1), lengths=[1] * 4), "say batch_first=True"),
        (lambda s, x, y: s.predict(x, mask=torch.full((T, 4), 0.5)), "mask must be true or false"),
        (lambda s, x, y: s.run(x, y, lengths=[1, 2]), r"lengths must be 4 whole numbers"),
        (lambda s, x, y: s.run(x, y, lengths=[1.0, 2, 3, 4]), r"lengths must be 4 whole numbers"),
        (lambda s, x, y: s.predict(x, lengths=[0, 2, 3, 4]), "lengths must lie between 1 and the 12 steps .* got 0"),
        (lambda s, x, y: s.predict(x, lengths=[13, 2, 3, 4]), "got 13"),
        (lambda s, x, y: s.predict(x, lengths=[1] * 4, mask=torch.ones(T, 4)), "give one of them"),
        (lambda s, x, y: s.predict(x, mask=torch.ones(4, T)), r"mask has shape \(4, 12\), expected \[T, batch\]"),
        (lambda s, x, y: s.predict(x, mask=(torch.arange(T) % 2).expand(4, T).T), "series have no gaps"),
        (lambda s, x, y: s.predict(x[0], batch_first=True), r"expected \[batch, T, features\]"),
        (lambda s, x, y: s.run(iter(x), lengths=[1] * 4), "for inputs given as a tensor"),
        (lambda s, x, y: s.run(x, torch.full((T, 4, CLASSES), torch.nan)), "targets are not finite at step 0"),
    ],
)
def test_what_cannot_be(series, call, message):
    sim = simulation()
    with pytest.raises(ValueError, match=message):
        call(sim, *series)
    assert sim.step == 0


def test_whole_samples_have_no_lengths():
    assert lengths_of(None, None, 5, 2) is None
    assert lengths_of(None, torch.ones(5, 2), 5, 2).tolist() == [5, 5]


# -- weights -----------------------------------------------------------------------------------------------------------


def weighted(weights, targets, **how):
    """The weights of a network after some steps."""
    net = gle.Network(
        [gle.Layer(3, 4, tau_m=1.0, tau_r=0.3), gle.Layer(4, 2, tau_m=1.0, tau_r=1.0, phi="linear")], seed=0
    )
    sim = gle.Simulation(net, dt=0.1, cost="cross_entropy", plasticity=gle.Plasticity("sgd", lr=0.1))
    g = torch.Generator().manual_seed(1)
    x = torch.randn(12, 5, 3, generator=g)
    if how.get("batch_first"):
        x = x.transpose(0, 1)
    sim.run(x, targets, weights=weights, **how)
    return [layer.W.clone() for layer in net.layers]


LABELS = torch.tensor([0, 1, 1, 0, 1])


def test_weights_count_instants():
    """Of one batch the gradient is the mean over samples: a sample that counts twice is one that is there twice."""
    w = torch.rand(12, 5, generator=torch.Generator().manual_seed(2))
    own = weighted(w, LABELS)
    scaled = weighted(None, torch.nn.functional.one_hot(LABELS, 2).expand(12, -1, -1) * w.unsqueeze(-1))
    for a, b in zip(own, scaled):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
    for a, b in zip(own, weighted(w.T, LABELS, batch_first=True)):
        assert torch.equal(a, b)
    for a, b in zip(weighted(torch.ones(12, 5), LABELS), weighted(None, LABELS)):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-7)
    assert (own[0] - weighted(None, LABELS)[0]).abs().max() > 1e-4


def test_what_counts_nothing_teaches_nothing():
    start = weighted(torch.zeros(12, 5), LABELS)
    fresh = gle.Network(
        [gle.Layer(3, 4, tau_m=1.0, tau_r=0.3), gle.Layer(4, 2, tau_m=1.0, tau_r=1.0, phi="linear")], seed=0
    )
    assert all(torch.equal(a, layer.W) for a, layer in zip(start, fresh.layers))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (torch.ones(5, 12), r"weights have shape \(5, 12\), expected \[12, 5\]"),
        (-torch.ones(12, 5), "weights must be ≥ 0 and finite, got -1"),
        (torch.full((12, 5), torch.nan), "weights must be ≥ 0 and finite, got nan"),
    ],
)
def test_weights_that_cannot_be(weights, message):
    with pytest.raises(ValueError, match=message):
        weighted(weights, LABELS)


def test_weights_are_for_costs_that_carry_them():
    net = gle.Network([gle.Layer(3, 2, tau_m=1.0, tau_r=1.0, phi="linear")])
    sim = gle.Simulation(net, dt=0.1, plasticity=gle.Plasticity(lr=0.1))
    with pytest.raises(ValueError, match=r"weights are for costs whose targets carry them, as cross_entropy"):
        sim.run(torch.zeros(4, 1, 3), torch.zeros(4, 1, 2), weights=torch.ones(4, 1))


def test_weights_of_samples_that_are_over():
    """What stands after a sample's end is read neither as a label nor as a weight."""
    w, labels = torch.rand(12, 5), LABELS.expand(12, -1).clone()
    ends = torch.tensor([12, 4, 12, 7, 12])
    over = torch.arange(12)[:, None] >= ends
    clean = weighted(w.masked_fill(over, 0), labels, lengths=ends)
    padded = weighted(w.masked_fill(over, torch.nan), labels.masked_fill(over, -100), lengths=ends)
    for a, b in zip(clean, padded):
        assert torch.equal(a, b)


@pytest.mark.parametrize("members", [2, 3])
def test_own_traces_of_samples_that_are_over(members):
    """A padded sample teaches what it teaches alone. Prevents: an axis of groups taken for one of members."""

    def network():
        taus = {"tau_m": [1.0, 2.0, 3.0, 1.0], "tau_r": 0.3, "errors": "instantaneous", "ensemble": (members,)}
        top = gle.Layer(4, 2, tau_m=1.0, tau_r=1.0, phi="linear", ensemble=(members,))
        return gle.Network([gle.Layer(3, 4, **taus), top], list(range(members)))

    x = torch.randn(8, 2, 3, generator=torch.Generator().manual_seed(0))
    pending = []
    for given, y, how in (
        (x, torch.tensor([0, 1]), {"lengths": [8, 5]}),
        (x[:, :1], torch.tensor([0]), {}),
        (x[:5, 1:], torch.tensor([1]), {}),
    ):
        learning = gle.Plasticity("sgd", lr=0.1, every=1000, traces="own")
        sim = gle.Simulation(network(), dt=0.1, cost="cross_entropy", integrator=gle.integrators.Euler("instant"),
                             plasticity=learning)  # fmt: skip
        sim.run(given, y, **how)
        pending.append(sim.carry.learning.pending[0].W)
    torch.testing.assert_close(pending[0], (pending[1] + pending[2]) / 2, rtol=0, atol=1e-6)


def test_time_constants_that_change_under_own_traces():
    net = gle.Network([gle.Layer(3, 4, tau_m=[1.0, 2.0, 1.0, 3.0], tau_r=0.3)])
    sim = gle.Simulation(net, dt=0.1, plasticity=gle.Plasticity(lr=0.1, traces="own"))
    with torch.no_grad():
        net.layers[0].tau_m[0, 2] = 2.0
    with pytest.raises(ValueError, match=r"other neurons of layers.0 share their time constants"):
        sim.take_parameters()
