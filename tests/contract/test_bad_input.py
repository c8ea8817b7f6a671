"""Bad input gets a clear error, before any work is lost."""

import os
import subprocess
import sys

import pytest
import torch
from nets import DT, mixed_network, signals

import gle
from gle.compiling import CUDA_OPTIONS, compiled

HALF = mixed_network(dtype=torch.float16)


def simulation(**kw):
    return gle.Simulation(mixed_network(), **{"dt": DT, "cost": "cross_entropy", "plasticity": gle.Plasticity(), **kw})


def learning_tau(bounds):
    return gle.Simulation(mixed_network(), dt=DT, plasticity=gle.Plasticity(learn=("W", "tau_m"), tau_bounds=bounds))


def handed(net, other):
    optimizer = gle.TorchOptimizer(torch.optim.SGD(other.parameters(), lr=0.1))
    return gle.Simulation(net, dt=DT, plasticity=gle.Plasticity(optimizer))


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.zeros(5, 3, 7), torch.zeros(5, 3, 3), "7 features, the network has 2"),
        (torch.zeros(5, 3, 2), torch.zeros(5, 3, 4), "4 features, the network has 3"),
        (torch.zeros(5, 2), torch.zeros(5, 3, 3), r"expected \[T, batch, features\]"),
        (torch.zeros(5, 3, 2), torch.zeros(4, 3, 3), "inputs have 5 steps, targets 4"),
        (torch.zeros(5, 3, 2), torch.zeros(5, 9, 3), "batch of 9"),
        (torch.full((5, 3, 2), torch.nan), torch.zeros(5, 3, 3), "not finite at step 0"),
        (torch.zeros(5, 3, 3, 2), torch.zeros(5, 3, 3), "3 values a step, where the integrator looks at 1"),
    ],
)
def test_shapes_and_nan(x, y, message):
    sim = simulation()
    with pytest.raises(ValueError, match=message):
        sim.run(x, y)
    for p, q in zip(sim.carry.theta, sim.network.theta()):
        assert torch.equal(p.W, q.W)


def test_nan_in_a_stream_names_the_step_before_learning_from_it():
    x, y = signals(8)
    bad = x.clone()
    bad[6, 0, 0] = torch.inf
    sim, clean = simulation(), simulation()
    with pytest.raises(ValueError, match="not finite at step 6"):
        sim.run(zip(bad, y))
    clean.run(x[:4], y[:4])  # the block before the bad one
    assert sim.step == 4
    assert torch.equal(sim.carry.theta[0].W, clean.carry.theta[0].W)


def test_error_changes_nothing():
    """Prevents: a rejected call that leaves a state or a step count behind."""
    sim = simulation()
    x, y = signals(4)
    for call in (
        lambda: sim.run(x, y[:, :1]),
        lambda: sim.run(x, record=gle.Record("loss")),
        lambda: sim.run(x, y, record=gle.Record("u", layers=[9])),
        lambda: sim.load_state_dict({"step": 9, "batch": 0, "carry": {}}),
    ):
        with pytest.raises(ValueError, match=r"batch of 1|needs targets|no layer 9|does not fit"):
            call()
        assert sim.step == 0
        assert not sim.carry.state
    sim.run(x[:, :3], y[:, :3])
    assert sim.step == 4


def test_divergence_in_an_endless_stream(monkeypatch):
    monkeypatch.setattr(gle.simulate, "CHECK_EVERY", 40)
    x, y = signals(1)
    net = mixed_network()
    sim = gle.Simulation(net, dt=DT, plasticity=gle.Plasticity("sgd", lr=1e30))

    def endless():
        while True:
            yield [x[0], y[0]]

    with pytest.raises(FloatingPointError, match="at or before step 40"):
        sim.run(endless())


def test_other_batch_than_the_state():
    sim = simulation()
    sim.run(*signals(4, batch=5))
    with pytest.raises(ValueError, match="reset"):
        sim.run(*signals(4, batch=6))


def test_time_constants_below_dt():
    with pytest.raises(ValueError, match=r"tau_r = 0\.2 in layer 0 is below dt = 0\.3"):
        gle.Simulation(mixed_network(), dt=0.3)
    with pytest.raises(ValueError, match="must be positive, got -1"):
        gle.Layer(1, 2, tau_m=-1.0, tau_r=1.0)
    with pytest.raises(ValueError, match="does not fit 3 neurons"):
        gle.Layer(1, 3, tau_m=[1.0, 2.0], tau_r=1.0)


def test_divergence_names_the_layer():
    net = mixed_network(dtype=torch.float32)
    sim = gle.Simulation(net, dt=DT, plasticity=gle.Plasticity("sgd", lr=1e6))
    with pytest.raises(FloatingPointError, match=r"layer \d is not finite .*dt/tau_m"):
        sim.run(*signals(200, dtype=torch.float32))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gle.Layer(2, 3, tau_m=1.0, tau_r=1.0, phi="swoosh"), "unknown activation 'swoosh'; choose one of"),
        (lambda: gle.Linear("sideways"), "unknown feedback"),
        (lambda: gle.Layer(2, 3, tau_m=1.0, tau_r=1.0, depth=2), "need n_in = n_out"),
        (lambda: gle.Layer(0, 3, tau_m=1.0, tau_r=1.0), "at least 1"),
        (lambda: gle.Network([]), "at least one layer"),
        (lambda: gle.Network([gle.Layer(1, 2, tau_m=1.0, tau_r=1.0) for _ in "ab"]), "takes 1 inputs, but"),
        (lambda: gle.Network([gle.Layer(1, 1, tau_m=1.0, tau_r=1.0)] * 2), "appears twice"),
        (lambda: simulation(beta=float("nan")), "beta must be finite"),
        (lambda: gle.Plasticity(every=1.5), "every must be"),
        (lambda: gle.Plasticity(traces=(1.0, 2.0, 3.0)), "a pair"),
        (lambda: gle.Plasticity(traces=(-1.0, 2.0)), "≥ 0"),
        (lambda: gle.Plasticity(traces="other"), "unknown traces 'other'; choose own"),
        (lambda: gle.Plasticity(traces="own", learn=("W", "tau_m")), "time constants that rest"),
        (lambda: gle.Plasticity(traces="own", share=2), "eligibility traces must be a number in .0, 1., got 2"),
        (lambda: gle.Plasticity(share=0.5), 'share = 0.5 is of eligibility traces: give traces = "own"'),
        (lambda: gle.errors.Blended("half"), "the share of errors must be a number in .0, 1., got 'half'"),
        (lambda: simulation(plasticity=gle.Plasticity(traces=[(0.4, 1.0)] * 2)), "2 pairs, the network 5 layers"),
        (lambda: simulation(plasticity=gle.Plasticity(traces=(0.1, 1.0))), "traces holds 0.1, below dt"),
        (lambda: gle.Layer(2, 3, tau_m=1.0, tau_r=1.0, errors="late"), "unknown errors 'late'; choose prospective or"),
        (lambda: gle.Plasticity(centred=0.0), "centred must be a positive time constant"),
        (lambda: gle.Plasticity(centred=1.0, learn=("W",)), "centred needs W and b among learn"),
        (lambda: simulation(plasticity=gle.Plasticity(centred=0.1)), "centred = 0.1 is below dt"),
        (lambda: gle.Plasticity(gle.Adam(weight_decay=0.1), centred=9.0), "centred goes without weight_decay"),
        (
            lambda: gle.Simulation(
                gle.Network([gle.Layer(2, 3, tau_m=1.0, tau_r=1.0, bias=False)]),
                dt=0.2,
                plasticity=gle.Plasticity(centred=9.0),
            ),
            "layers.0 has none: give it bias=True",
        ),
        (lambda: gle.Plasticity(tau_bounds=(None, -1.0)), "lower < upper"),
        (lambda: learning_tau((0.01, 5.0)), "reach below dt"),
        (lambda: learning_tau((0.7, 5.0)), "starts outside"),
        (lambda: simulation().set_lr({"W": 1.0}), "no rate for b"),
        (lambda: simulation().set_lr({"W": 1.0, "b": 1.0, "w": 1.0}), "unknown parameters w"),
        (lambda: simulation().run(lambda t: t, torch.zeros(3), steps=3), "targets given as one"),
        (lambda: simulation().run(torch.zeros(4, 0, 2), torch.zeros(4, 0, 3)), "empty batch"),
        (lambda: simulation().run(signals(4)[0], record=gle.Record("loss")), "needs targets"),
        (lambda: simulation().run(*signals(4), record=gle.Record("u", layers=[7])), "no layer 7"),
        (lambda: simulation().predict(signals(4)[0], state=mixed_network().initial_state(1)), "the state one of 1"),
        (lambda: simulation().load_state_dict({}), "no saved simulation"),
        (lambda: handed(mixed_network(), mixed_network()), "does not hold W of layers.0"),
        (lambda: handed(*[mixed_network()] * 2).set_lr(0.1), "param_groups"),
        (lambda: gle.Network([gle.Layer(1, 2, tau_m=1.0, tau_r=1.0, ensemble=(2,))], [1, 2, 3]), "3 seeds for"),
        (lambda: gle.Plasticity("adagrad"), "unknown optimizer"),
        (lambda: gle.Plasticity(learn=("W", "colour")), "learn must name"),
        (lambda: gle.Plasticity(every=-1), "every must be"),
        (lambda: gle.Plasticity(lr={"W": 1.0}), "no rate for b"),
        (lambda: gle.Plasticity(tau_bounds=(2.0, 1.0)), "lower < upper"),
        (lambda: gle.Adam(betas=(1.0, 0.9)), "betas"),
        (lambda: gle.SGD(-1.0), "momentum"),
        (lambda: gle.Record("colour"), "a Record takes"),
        (lambda: gle.Record("u", every=0), "at least 1"),
        (lambda: gle.Record("u", every=1.5), "a number of steps, at least 1, got 1.5"),
        (lambda: simulation(block=2.5), "block must be a number of steps"),
        (lambda: simulation().reset(-1), "batch must be a number of samples, at least 1, got -1"),
        (lambda: simulation().run(*signals(4), steps=-1), "steps must be a whole number, at least 0, got -1"),
        (lambda: simulation().run(lambda t: t, steps=2.5), "steps must be a whole number"),
        (lambda: simulation().run(iter([])), "the stream gives no step"),
        (lambda: simulation().run((x for x in ()), steps=3), "an iterator that was used up"),
        (lambda: simulation().predict(signals(4)[0], state=HALF.initial_state(5)), r"state is torch\.float16 on cpu"),
        (lambda: simulation().predict(signals(4)[0], theta=HALF.theta()), "theta is .*, the network"),
        (lambda: mixed_network().load_theta(mixed_network((1,)).theta()), r"do not fit layers\.0 with"),
        (lambda: mixed_network((2,)).load_theta(mixed_network((1,)).theta()), r"do not fit layers\.0 with"),
        (lambda: mixed_network().load_theta(mixed_network(bias=False).theta()), r"None, .* layers\.0 with"),
        (lambda: mixed_network().load_theta(mixed_network().theta()[:2]), "of 2 layers do not fit a network of 3"),
        (lambda: gle.Layer(1, 1, tau_m=float("inf"), tau_r=1.0), "tau_m must be finite, got inf"),
        (lambda: gle.Plasticity(traces=(0.0, float("inf"))), "≥ 0 and finite"),
        (lambda: simulation(plasticity=gle.Plasticity(lr=float("inf"))), "lr of W must be ≥ 0 and finite"),
        (lambda: gle.Adam(betas=(0.9,)), "two of them"),
        (lambda: gle.Adam(eps=-1.0), "eps must be"),
        (lambda: simulation(integrator="heun"), "unknown integrator 'heun'"),
        (lambda: gle.Simulation(mixed_network(), dt=0.0), "dt must be"),
        (lambda: gle.Simulation(mixed_network(), dt=DT, cost="hinge"), "unknown cost"),
        (lambda: simulation(beta=torch.ones(3)), "one per member"),
        (lambda: simulation().set_lr(-1.0), "≥ 0"),
        (lambda: simulation().set_lr([1.0, 2.0]), "has shape"),
        (lambda: simulation().run(lambda t: t), "number of steps"),
    ],
)  # fmt: skip
def test_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_saved_state_of_another_network():
    sim = simulation()
    sim.run(*signals(4))
    other = gle.Simulation(gle.Network([gle.Layer(2, 3, tau_m=1.0, tau_r=1.0)]), dt=DT)
    with pytest.raises(ValueError, match="another network"):
        other.load_state_dict(sim.state_dict())


def test_falls_back_to_plain_compilation(monkeypatch, caplog):
    """Prevents: an eager run, or a crash, where only the options for speed do not compile."""
    tried = []

    def picky(function, *, dynamic, options=None):
        def call(*args):
            tried.append(options)
            if options:
                raise torch._dynamo.exc.BackendCompilerFailed(lambda: None, RuntimeError("not in C++"), None)
            return function(*args)

        return call

    monkeypatch.setattr(torch, "compile", picky)
    sim = simulation(compile=True)
    sim.run(*signals(3 * sim.block))
    assert tried[0]
    assert tried[1:] == [None] * 3
    assert not caplog.records


def test_cuda_falls_back_to_smaller_kernels(monkeypatch):
    """Prevents: an eager run, five times slower, where CUDA's compiler breaks down on one large kernel."""

    def picky(function, *, dynamic, options=None):
        def call(*args):
            if not options:
                raise torch._dynamo.exc.BackendCompilerFailed(
                    lambda: None, RuntimeError("PassManager::run failed"), None
                )
            return options

        return call

    monkeypatch.setattr(torch, "compile", picky)
    assert compiled(lambda: None, torch.device("cuda"))() == CUDA_OPTIONS


def test_no_compiler_falls_back_with_one_line(monkeypatch, caplog):
    """Prevents: a crash, or silence, on machines without a C++ compiler."""

    def broken(function, **kw):
        def call(*args):
            raise torch._dynamo.exc.BackendCompilerFailed(lambda: None, RuntimeError("no g++ here"), None)

        return call

    monkeypatch.setattr(torch, "compile", broken)
    x, y = signals(12)
    fast = simulation(compile=True)
    fast.run(x, y)
    eager = simulation()
    eager.run(x, y)
    assert torch.equal(fast.carry.theta[0].W, eager.carry.theta[0].W)
    assert len(caplog.records) == 1
    assert "(RuntimeError: no g++ here); running eagerly" in caplog.text


@pytest.mark.slow
def test_no_place_for_the_compiler_s_cache(tmp_path):
    """Prevents: a crash before the first step where the compiler's cache cannot be made, as in a full /tmp."""
    (tmp_path / "file").touch()
    program = """
import torch, gle
net = gle.Network([gle.Layer(1, 1, tau_m=1.0, tau_r=1.0)])
sim = gle.Simulation(net, dt=0.5, plasticity=gle.Plasticity(), compile=True)
sim.run(torch.ones(8, 1, 1), torch.ones(8, 1, 1))
print(sim.step)
"""
    place = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "file" / "cache"), "GLE_COMPILER": ""}
    ran = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **place}, capture_output=True, text=True, check=True
    )
    assert ran.stdout == "8\n"
    assert len(ran.stderr.splitlines()) == 1
    assert str(tmp_path) in ran.stderr
    assert "running eagerly" in ran.stderr


def test_compiler_that_stops_working(monkeypatch, caplog):
    """Prevents: a run lost to a disk that fills up before a later compilation; a function's own error taken for the
    compiler's."""
    calls = []

    def full(function, **kw):
        def call(*args):
            calls.append(args)
            if len(calls) > 1:
                raise OSError(28, "No space left on device")
            return function(*args)

        return call

    def inverse(x):
        if x == 0:
            raise ZeroDivisionError("x is 0")
        return 1 / x

    monkeypatch.setattr(torch, "compile", full)
    fast = compiled(inverse, torch.device("mps"))  # one way alone
    assert [fast(2.0)] == [0.5]
    with pytest.raises(ZeroDivisionError, match="x is 0"):
        fast(0.0)
    assert not caplog.records
    assert [fast(4.0), fast(8.0)] == [0.25, 0.125]
    assert calls == [(2.0,), (0.0,), (4.0,)]
    assert len(caplog.records) == 1
    assert "No space left on device" in caplog.text


def test_another_compiler(monkeypatch):
    """Prevents: a back end that is named and not used; a misspelt one that becomes another, or fails much later."""
    used = []
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **kw: used.append(kw.get("backend")) or real(f, **kw))
    monkeypatch.setenv("GLE_COMPILER", "eager")
    sim, eager = simulation(compile=True), simulation()
    for s in (sim, eager):
        s.run(*signals(8))
    assert used == ["eager"]
    assert torch.equal(sim.carry.theta[0].W, eager.carry.theta[0].W)
    monkeypatch.setenv("GLE_COMPILER", "eagre")
    with pytest.raises(ValueError, match=r"GLE_COMPILER = eagre is no back end .*; choose one of .*eager.*inductor"):
        simulation(compile=True)
