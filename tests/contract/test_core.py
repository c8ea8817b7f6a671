"""What the core promises whatever the network: ensembles, compilation, streaming, recording, saving, optimisers."""

import logging

import pytest
import torch
from nets import DT, TAUS, flat, mixed_network, signals

import gle
from gle import plasticity as pl
from gle import rules
from gle.integrators import Euler

ALL = ("W", "b", "tau_m", "tau_r")


def trained(net, x, y, *, plasticity=None, runs=1, **kw):
    plasticity = plasticity or gle.Plasticity("adam", lr=0.01, learn=ALL)
    sim = gle.Simulation(net, dt=DT, cost="cross_entropy", plasticity=plasticity, **kw)
    sim.start = [p.detach().clone() for p in flat(net.theta())]
    for part in zip(x.chunk(runs), y.chunk(runs)):
        sim.run(*part)
    return sim


def same(a, b, atol=0.0):
    """Both carries agree, and neither is the untrained start of the first, which `trained` made."""
    for p, q in zip(flat(a.carry.theta), flat(b.carry.theta), strict=True):
        torch.testing.assert_close(p, q, atol=atol, rtol=0)
    for s, t in zip(a.carry.state, b.carry.state, strict=True):
        for p, q in zip(s, t, strict=True):
            torch.testing.assert_close(p, q, atol=atol, rtol=0)
    assert any((p - q).abs().max() > 1e-3 for p, q in zip(flat(a.carry.theta), a.start, strict=True))


@pytest.mark.parametrize("scheme", ["euler", "exponential", "rk4"])
@pytest.mark.parametrize("ensemble", [(3,), (2, 2)])
def test_ensemble_equals_loop(ensemble, scheme, device):
    """Prevents: members that share weights, data, learning rates or optimiser memory."""
    members = torch.Size(ensemble).numel()
    x, y = signals(30, members=ensemble)
    rates = [0.001 * (i + 1) for i in range(members)]
    lr = torch.tensor(rates, dtype=torch.float64).reshape(ensemble)
    net = mixed_network(ensemble, seed=3, device=device)
    beta = torch.linspace(0.5, 1.0, members, dtype=torch.float64).reshape(ensemble)
    synapses = {"learn": ALL, "traces": (0.4, 1.2), "centred": 3.0}
    together = trained(
        net, x, y, plasticity=gle.Plasticity(lr=lr, **synapses), integrator=scheme, beta=beta, gamma=beta / 9
    )
    index = [tuple(i) for i in torch.ones(ensemble).nonzero().tolist()]
    for n, i in enumerate(index):
        at = (slice(None), *i)
        b = beta[i].item()
        alone = trained(
            mixed_network(seed=3 + n, device=device), x[at], y[at],
            plasticity=gle.Plasticity(lr=rates[n], **synapses), integrator=scheme, beta=b, gamma=b / 9,
        )  # fmt: skip
        for p, q in zip(flat(together.carry.theta), flat(alone.carry.theta)):
            torch.testing.assert_close(p[at], q, atol=1e-11, rtol=0)
        for s, t in zip(together.carry.state, alone.carry.state):
            torch.testing.assert_close(s.u[at], t.u, atol=1e-11, rtol=0)
        assert (alone.carry.theta[0].W - alone.start[0]).abs().max() > 1e-3


BLOCKS = pytest.mark.parametrize(
    ("scheme", "every", "block", "traces", "members", "compiler"),  # one of them down to machine code
    [
        ("euler", 1, 2, (0.4, 1.2), (), "aot_eager"),
        ("euler", 4, 4, None, (), "eager"),
        ("euler", 2, 2, None, (2,), "inductor"),
        ("rk4", 1, 1, None, (), "eager"),
        ("euler", 1, 2, "own", (2,), "eager"),
    ],
)


@pytest.mark.slow
@BLOCKS
def test_compiled_equals_eager(scheme, every, block, traces, members, compiler, device, caplog, monkeypatch):
    """Prevents: a compiled step that learns something else; a fall-back to eager that nobody notices; and a step that
    is compiled in parts, again once the neurons have left their rest, or after a reset."""
    monkeypatch.setenv("GLE_COMPILER", compiler)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    x, y = signals(16)
    learn = ALL[:2] if traces == "own" else ALL
    plasticity = gle.Plasticity(lr=0.01, learn=learn, every=every, traces=traces, centred=3.0 if traces else None)
    eager = trained(small_network(device, members), x, y, plasticity=plasticity, integrator=scheme, runs=2)
    with caplog.at_level(logging.WARNING):
        compiled = trained(
            small_network(device, members), x, y, plasticity=plasticity, integrator=scheme, compile=True, block=block,
            runs=2,
        )  # fmt: skip
    assert not caplog.records
    same(eager, compiled, atol=1e-11)
    compiled.reset(5)
    compiled.run(x, y)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def small_network(device, members):
    """Two layers, one of them with two levels: the compiler's work grows with their number."""
    common = {"dtype": torch.float64, "device": device, "ensemble": members}
    return gle.Network(
        [
            gle.Layer(2, 2, phi="tanh", depth=2, tau_m=[0.6, 1.2], tau_r=[0.2, 1.2], **common),
            gle.Layer(2, 3, phi="linear", tau_m=1.0, tau_r=1.0, **common),
        ],
        seed=3,
    )


def test_nothing_the_compiler_sees_replaces_fields(monkeypatch):
    """Prevents: PyTorch 2.11's compiler turning `_replace` of a NamedTuple into an empty tuple, without a word."""
    x, y = signals(9)
    net = small_network("cpu", ())
    for kwargs in ({"traces": (0.4, 1.2), "centred": 3.0}, {"every": 4}):
        sim = gle.Simulation(net, dt=DT, cost="cross_entropy", plasticity=gle.Plasticity(lr=0.01, **kwargs))
        sim.reset(5)
        with monkeypatch.context() as patched:
            for kind in (gle.Theta, gle.LayerState, gle.network.Local, pl.Learning, pl.Trace, gle.simulate.Carry):
                patched.setattr(kind, "_replace", None)
            sim.advance(sim.carry, x[:4].unsqueeze(1), y[:4].unsqueeze(1), True)


@pytest.mark.parametrize("propagation", ["delayed", "instant"])
@pytest.mark.parametrize(
    ("scheme", "errors"),
    [(pl.SGD(), "prospective"), (pl.SGD(0.9), "prospective"), (pl.Adam(), "prospective"), (pl.SGD(), "instantaneous")],
)
def test_every_k_equals_summed_updates(scheme, errors, propagation):
    """k steps at once (the scan) against k single steps whose gradients are summed and applied once."""
    k, x_y = 5, signals(30)
    net = mixed_network(errors=errors)
    plasticity = gle.Plasticity(scheme, lr=0.01, learn=ALL, every=k)
    fast = trained(net, *x_y, plasticity=plasticity, integrator=Euler(propagation), block=k)
    # by hand: single steps of the integrator
    net = mixed_network(errors=errors)
    sim = gle.Simulation(
        net,
        dt=DT,
        cost="cross_entropy",
        integrator=Euler(propagation),
        plasticity=gle.Plasticity(scheme, lr=0.01, learn=ALL),
    )
    theta, state, learning = sim.carry.theta, net.initial_state(5), sim.carry.learning
    total = None
    for t, (x, y) in enumerate(zip(*x_y), start=1):
        state, local = sim.integrator.step(net, theta, state, (x,), (y,), sim.dynamics)
        grads = pl.gradients(net, theta, local, ALL, 5)
        total = grads if total is None else tuple(
            gle.Theta(*(None if a is None else a + b for a, b in zip(p, q))) for p, q in zip(total, grads)
        )  # fmt: skip
        if t % k == 0:
            theta, learning = sim.plasticity.apply(net, theta, learning, total, DT)
            total = None
    sim.carry = gle.simulate.Carry(theta, state, learning)
    same(fast, sim, atol=1e-12)


def test_blocks_do_not_matter():
    """Cutting a run anywhere, also inside a block or between two updates, changes nothing."""
    x, y = signals(37)
    for every in (1, 4):
        plasticity = gle.Plasticity(lr=0.01, every=every)
        whole = trained(mixed_network(), x, y, plasticity=plasticity, block=1)
        for block, runs in ((4, 1), (12, 1), (4, 5), (3, 37)):
            cut = trained(mixed_network(), x, y, plasticity=plasticity, block=block, runs=runs)
            same(whole, cut, atol=1e-12)


def test_one_step_updates_equal_the_scanless_run():
    """every = 1 learns at each step: a run that only learned per block would differ."""
    x, y = signals(24)
    each = trained(mixed_network(), x, y)
    rare = trained(mixed_network(), x, y, plasticity=gle.Plasticity(lr=0.01, learn=ALL, every=12))
    assert (each.carry.theta[1].W - rare.carry.theta[1].W).abs().max() > 1e-3


def test_plasticity_off():
    x, y = signals(10)
    sim = trained(mixed_network(), x, y, plasticity=gle.Plasticity(every=0))
    for p, q in zip(flat(sim.carry.theta), sim.start):
        torch.testing.assert_close(p, q, atol=0, rtol=0)
    assert sim.carry.state[-1].r.abs().max() > 0


def test_iterators_and_functions_equal_tensors():
    """An endless stream, a function of time and a tensor with the same values give the same run."""
    x, y = signals(23)
    tensor = trained(mixed_network(), x, y)

    def endless():
        t = 0
        while True:
            yield x[t % 23], y[t % 23]
            t += 1

    def simulation():
        return gle.Simulation(
            mixed_network(), dt=DT, cost="cross_entropy", plasticity=gle.Plasticity(lr=0.01, learn=ALL)
        )

    streamed, called = simulation(), simulation()
    streamed.run(endless(), steps=23)
    called.run(lambda t: x[round(t / DT)], lambda t: y[round(t / DT)], steps=23)
    same(tensor, streamed)
    same(tensor, called)
    finite = simulation()
    finite.run(iter(list(zip(x, y))))
    same(tensor, finite)


@pytest.mark.parametrize("ensemble", [(), (3,)])
def test_values_at_the_nodes_of_a_step(ensemble):
    """RK4 looks at three instants of a step: given as a tensor, the same as the function of time, and not as held."""
    x, y = signals(2 * 12 + 1)
    called, given, held = (
        gle.Simulation(mixed_network(ensemble), dt=DT, integrator="rk4", plasticity=gle.Plasticity(lr=0.01, learn=ALL))
        for _ in range(3)
    )
    called.run(lambda t: x[round(2 * t / DT)], lambda t: y[round(2 * t / DT)], steps=12)

    def at_nodes(z):
        steps = torch.stack([z[:-2:2], z[1::2], z[2::2]], 1)
        return steps[(slice(None),) * 2 + (None,) * len(ensemble)].expand(12, 3, *ensemble, *z.shape[1:])

    given.run(at_nodes(x), at_nodes(y))
    called.start = flat(mixed_network(ensemble).theta())
    same(called, given)
    held.run(x[:-2:2], y[:-2:2])
    assert (held.carry.theta[0].W - given.carry.theta[0].W).abs().max() > 1e-4


def test_stream_yields_while_it_runs():
    """An endless stream is worked on as it comes, not collected."""
    x, y = signals(8)
    pulled = []

    def endless():
        while True:
            pulled.append(1)
            yield x[len(pulled) % 8], y[0]

    sim = gle.Simulation(mixed_network(), dt=DT, cost="cross_entropy", plasticity=gle.Plasticity(), block=4)
    stream = sim.stream(endless())
    next(stream)
    assert len(pulled) == 4 == sim.step
    next(stream)
    assert len(pulled) == 8 == sim.step


def test_state_goes_on_or_is_reset():
    x, y = signals(20)
    carried = trained(mixed_network(), x, y, runs=2)
    whole = trained(mixed_network(), x, y)
    same(carried, whole)
    sim = gle.Simulation(mixed_network(), dt=DT)
    sim.run(x)
    before = sim.carry.state[0].u
    sim.reset()
    sim.run(x)
    torch.testing.assert_close(sim.carry.state[0].u, before, atol=0, rtol=0)
    sim.run(x)
    assert (sim.carry.state[0].u - before).abs().max() > 1e-6


def test_reset_clears_traces_and_takes_another_batch():
    x, y = signals(20)
    plasticity = gle.Plasticity("sgd", lr=0.0, traces=(0.4, 1.2))  # at rate zero, only state can differ
    sim = gle.Simulation(mixed_network(), dt=DT, plasticity=plasticity)
    sim.run(x, y)
    before = sim.carry.learning.traces[1].e
    assert before.abs().max() > 1e-3
    sim.run(x, y)
    assert (sim.carry.learning.traces[1].e - before).abs().max() > 1e-6
    sim.reset()
    sim.run(x[:, :3], y[:, :3])
    torch.testing.assert_close(sim.carry.learning.traces[1].e, before[:, :3], atol=1e-12, rtol=0)


@pytest.mark.parametrize("ensemble", [(), (2,)])
@pytest.mark.parametrize("scheme", ["euler", "exponential", "rk4"])
def test_predict_equals_running(scheme, ensemble, monkeypatch):
    """The frozen pass over many steps at once gives the outputs of the step-by-step run, across its own cuts."""
    monkeypatch.setattr(gle.predicting, "PREDICT_ROWS", 5 * 7)
    x, _ = signals(23)
    net = mixed_network(ensemble)
    sim = gle.Simulation(net, dt=DT, integrator=scheme)
    record = gle.Record("r", layers=[-1])
    sim.run(x, record=record)
    outputs, state = gle.Simulation(net, dt=DT, integrator=scheme).predict(x)
    torch.testing.assert_close(outputs, record["r"][net.depth - 1], atol=1e-12, rtol=0)
    torch.testing.assert_close(state[1].u, sim.carry.state[1].u, atol=1e-12, rtol=0)
    halves, _ = sim.predict(x[11:], state=sim.predict(x[:11])[1])
    torch.testing.assert_close(halves, outputs[11:], atol=1e-12, rtol=0)


def test_record():
    x, y = signals(24)
    record = gle.Record("u", "v", "r", "e", "W", "tau_m", "loss", layers=[0, -1], every=6)
    sim = trained(mixed_network(), x, y)
    plain = sim.carry
    recorded = gle.Simulation(
        mixed_network(), dt=DT, cost="cross_entropy", plasticity=gle.Plasticity("adam", lr=0.01, learn=ALL)
    )
    recorded.run(x, y, record=record)
    assert record.steps == [6, 12, 18, 24]
    for name in ("u", "v", "r", "e"):
        assert set(record[name]) == {0, 4}
        torch.testing.assert_close(record[name][4][-1], getattr(plain.state[2], name)[0], atol=1e-13, rtol=0)
        assert record[name][0].shape == (4, 5, 4)
    torch.testing.assert_close(record["W"][0][-1], plain.theta[0].W[0], atol=1e-13, rtol=0)
    assert record["loss"].shape == (4, 5)
    assert (record["W"][0][0] - record["W"][0][-1]).abs().max() > 1e-3


def test_save_load_same():
    """A continuation from plain dicts on disk is the uninterrupted run, bit for bit."""
    import io

    x, y = signals(30)
    for every, traces, centred in ((1, None, None), (4, None, None), (1, (0.4, 1.2), None), (4, (0.0, 1.2), 3.0)):
        plasticity = gle.Plasticity(lr=0.01, learn=ALL, every=every, traces=traces, centred=centred)
        whole = trained(mixed_network(), x, y, plasticity=plasticity, runs=2)
        first = trained(mixed_network(), x[:15], y[:15], plasticity=plasticity)
        file = io.BytesIO()
        torch.save(first.state_dict(), file)
        file.seek(0)
        second = gle.Simulation(mixed_network(seed=99), dt=DT, cost="cross_entropy", plasticity=plasticity)
        second.load_state_dict(torch.load(file, weights_only=True))
        second.run(x[15:], y[15:])
        for p, q in zip(flat(whole.carry.theta), flat(second.carry.theta)):
            assert torch.equal(p, q)
        assert second.step == 30


def test_save_load_same_with_torch_optim():
    """The optimiser's own memory is saved too, and a snapshot is not a view."""
    x, y = signals(20)

    def make():
        net = mixed_network()
        handed = gle.TorchOptimizer(torch.optim.Adam(net.parameters(), lr=0.01))
        return gle.Simulation(net, dt=DT, cost="cross_entropy", plasticity=gle.Plasticity(handed, learn=ALL))

    first, second = make(), make()
    first.run(x[:10], y[:10])
    saved = first.state_dict()
    first.run(x[10:], y[10:])
    second.load_state_dict(saved)
    second.run(x[10:], y[10:])
    for p, q in zip(flat(first.network.theta()), flat(second.network.theta())):
        assert torch.equal(p, q)
    assert (first.network.layers[0].W - mixed_network().layers[0].W).abs().max() > 1e-3


def test_teacher_may_come_and_go():
    """Steps without a target inside a stream: nothing is dropped, whatever the blocks."""
    x, y = signals(12)
    items = [(x[t], y[t] if t % 3 else None) for t in range(12)]
    plasticity = gle.Plasticity(lr=0.01, learn=ALL)
    sims = [
        gle.Simulation(mixed_network(), dt=DT, cost="cross_entropy", plasticity=plasticity, block=b) for b in (1, 4)
    ]
    for sim in sims:
        sim.run(iter(items))
    full = trained(mixed_network(), x, y, plasticity=plasticity)
    sims[0].start = full.start
    same(*sims, atol=1e-13)
    assert (full.carry.theta[1].W - sims[0].carry.theta[1].W).abs().max() > 1e-4


@pytest.mark.parametrize("how", ["run", "stream", "closed", "stopped", "rule", "loaded"])
def test_the_network_holds_what_was_learned(how):
    """Whatever ends the learning: its tensors, which stay the same ones, have the new values; a second simulation, and
    another network that takes its state_dict, predict what the first does.

    Prevents: weights that were learned, and that whoever looks at the network cannot see."""
    net, (x, y) = mixed_network(), signals(24)
    own = flat(net.theta())
    sim = trained(net, x[:12], y[:12])
    if how == "run":
        sim.run(x[12:], y[12:])
    elif how == "stream":
        for _ in sim.stream(x[12:], y[12:]):
            pass
    elif how == "closed":
        stream = sim.stream(x[12:], y[12:])
        next(stream), next(stream)
        assert any(not torch.equal(p, q) for p, q in zip(own, flat(sim.carry.theta), strict=True))
        stream.close()
    elif how == "stopped":

        def interrupted():
            yield from zip(x[12:16], y[12:16])
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            sim.run(interrupted())
    elif how == "rule":
        rules.learn(rules.BPTT(), sim, x[12:], y[12:], stretch=6)
    else:
        saved, sim = sim.state_dict(), gle.Simulation(net, dt=DT, cost="cross_entropy", plasticity=sim.plasticity)
        net.initialize(77)
        sim.load_state_dict(saved)
    assert sim.step == {"closed": 20, "stopped": 16, "loaded": 12}.get(how, 24)
    for p, q, kept in zip(flat(net.theta()), flat(sim.carry.theta), own, strict=True):
        assert p is kept
        assert torch.equal(p, q)
    assert (net.layers[0].W - mixed_network().layers[0].W).abs().max() > 1e-3
    other = mixed_network(seed=50)
    other.load_state_dict(net.state_dict())
    for n in (net, other):
        assert torch.equal(gle.Simulation(n, dt=DT).predict(x)[0], sim.predict(x)[0])


def test_the_network_keeps_what_it_had_where_learning_failed():
    """Prevents: NaN in a network, and values that somebody gave it meanwhile overwritten."""
    net, (x, y) = mixed_network(), signals(12)
    sim = trained(net, x, y)
    before = [p.clone() for p in flat(net.theta())]
    sim.set_lr(1e308)
    with pytest.raises(FloatingPointError):
        sim.run(x, y)
    for p, q in zip(flat(net.theta()), before, strict=True):
        assert torch.equal(p, q)
    sim = trained(mixed_network(), x, y)
    stream = sim.stream(x, y)
    next(stream)
    sim.network.initialize(9)
    stream.close()
    assert torch.equal(sim.network.layers[0].W, mixed_network(seed=9).layers[0].W)
    assert not torch.equal(before[0], sim.network.layers[0].W)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_optimisers_equal_torch(momentum):
    """Our SGD and Adam, and gradients handed to torch.optim, follow the same path."""
    x, y = signals(30)
    pairs = [
        (pl.SGD(momentum), lambda p: torch.optim.SGD(p, lr=0.01, momentum=momentum)),
        (pl.Adam((momentum, 0.99)), lambda p: torch.optim.Adam(p, lr=0.01, betas=(momentum, 0.99))),
        (pl.Adam(weight_decay=0.3), lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.3)),
    ]
    for own, theirs in pairs:
        a = trained(mixed_network(), x, y, plasticity=gle.Plasticity(own, lr=0.01, learn=ALL))
        net = mixed_network()
        start = [p.detach().clone() for p in flat(net.theta())]
        handed = gle.Plasticity(gle.TorchOptimizer(theirs(net.parameters())), learn=ALL)
        trained(net, x, y, plasticity=handed)
        for p, q, s in zip(flat(a.carry.theta), flat(net.theta()), start, strict=True):
            torch.testing.assert_close(p, q.detach(), atol=1e-11, rtol=0)
            assert (p - s).abs().max() > 1e-4


def test_bounds_on_time_constants():
    x, y = signals(60)
    plasticity = gle.Plasticity(lr={"W": 0.01, "b": 0.01, "tau_m": 0.5, "tau_r": 0.5}, learn=ALL, tau_bounds=(0.3, 2.0))
    taus = {k: [max(0.3, v) for v in values] for k, values in TAUS.items()}
    sim = trained(mixed_network(taus=taus), x, y, plasticity=plasticity)
    taus = torch.cat([t.flatten() for p in sim.carry.theta for t in (p.tau_m, p.tau_r)])
    assert taus.min() == pytest.approx(0.3)
    assert taus.max() == pytest.approx(2.0)


def test_frozen_layers_stay():
    net = mixed_network()
    net.layers[1].plastic = False
    sim = trained(net, *signals(20))
    assert torch.equal(sim.carry.theta[1].W, mixed_network().layers[1].W)
    assert (sim.carry.theta[0].W - mixed_network().layers[0].W).abs().max() > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtypes_and_devices(dtype, device):
    x, y = signals(20, dtype=torch.float32)
    sim = trained(mixed_network(dtype=dtype, device=device), x, y)
    for t in [*flat(sim.carry.theta), *(s.u for s in sim.carry.state)]:
        assert t.dtype == dtype
        assert t.device.type == torch.device(device).type
    reference = trained(mixed_network(), x.double(), y.double())
    torch.testing.assert_close(sim.carry.theta[0].W.double().cpu(), reference.carry.theta[0].W, atol=2e-4, rtol=0)


@pytest.mark.parametrize("ensemble", [(3,), (2, 2)])
def test_members_keep_their_nudging_in_a_scan(ensemble):
    """Prevents: β per member that lands on the axis of steps, where several steps are taken at once."""
    members = torch.Size(ensemble).numel()
    x, y = signals(12, members=ensemble)
    beta = torch.linspace(0.2, 1.0, members, dtype=torch.float64).reshape(ensemble)
    plasticity = gle.Plasticity("sgd", lr=0.01, learn=ALL, every=members)  # as many steps as members: shapes would fit
    whole = trained(mixed_network(ensemble), x, y, plasticity=plasticity, beta=beta)
    single = trained(mixed_network(ensemble), x, y, plasticity=plasticity, beta=beta, runs=12)
    same(whole, single, atol=1e-12)
