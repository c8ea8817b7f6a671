"""The Mackey-Glass task: its series, its measures, its forecasters, and that free runs see nothing of the truth."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from scipy.integrate import solve_ivp
from scipy.interpolate import BarycentricInterpolator
from studies import finished, launch, smoke_flags

import gle
from bench import mackey_glass
from bench.data import chaos
from bench.kit.folder import Run
from bench.learning.forecast import Forecaster, network
from bench.mackey_glass import Forecast
from bench.models import forecasters as forecast
from gle.state import mapped

ROOT = Path(__file__).parents[2]

# -- the series --------------------------------------------------------------------------------------------------------


def method_of_steps(end, history):
    """An integration that shares nothing with jitcdde: scipy's DOP853 from one delay to the next, each stretch an
    ordinary differential equation driven by the dense output of the one before."""
    pieces = [lambda t: np.full_like(np.atleast_1d(t), history)]
    x, start = history, 0.0
    while start < end:
        before = pieces[-1]

        def slope(t, x, before=before):
            delayed = before(t - chaos.TAU)[0]
            return chaos.BETA * delayed / (1 + delayed**chaos.N) - chaos.GAMMA * x

        span = (start, start + chaos.TAU)
        solved = solve_ivp(slope, span, [x], method="DOP853", dense_output=True, rtol=1e-12, atol=1e-13)
        pieces.append(lambda t, s=solved.sol: np.atleast_1d(s(t)[0]))
        x, start = solved.y[0, -1], start + chaos.TAU
    return lambda t: pieces[1 + int(t // chaos.TAU)](t)[0]


@pytest.mark.slow
def test_series_against_another_solver():
    """Prevents: a wrong equation or delay, or a tolerance too coarse for the series to be a solution of it. The two
    agree for five Lyapunov times; what later tears two solutions apart grows as the largest Lyapunov exponent says,
    which comes from the tangent equation."""
    from jitcdde import jitcdde_lyap, t, y

    lyapunov = chaos.LYAPUNOV_TIME
    times = np.arange(200.0, 30 * lyapunov, 1.0)
    ours = chaos.integrate(times, chaos.HISTORY)
    early = times[times < 200 + 5 * lyapunov]
    other = method_of_steps(early[-1] + 1, chaos.HISTORY)
    assert ours.std() > 0.2  # the chaotic attractor, not a fixed point
    assert np.abs(ours[: len(early)] - np.array([other(at) for at in early])).max() < 1e-6

    delayed = y(0, t - chaos.TAU)
    f = [chaos.BETA * delayed / (1 + delayed**chaos.N) - chaos.GAMMA * y(0)]
    tangent = jitcdde_lyap(f, n_lyap=1, verbose=False)
    tangent.constant_past([chaos.HISTORY])
    tangent.step_on_discontinuities()
    rates, weights = zip(*((r[1][0], r[2]) for r in (tangent.integrate(at) for at in np.arange(300.0, 30000.0, 50.0))))
    exponent = np.average(rates[20:], weights=weights[20:])
    assert 0.8 / lyapunov < exponent < 1.6 / lyapunov  # 197 is the customary round figure

    # two solutions from histories that differ by 1e-9, as long as the difference is small
    near = chaos.integrate(times, chaos.HISTORY + 1e-9)
    apart = np.abs(near - ours)
    envelope = np.array([part.max() for part in np.array_split(apart, len(apart) // 100)])
    middle = np.array([part.mean() for part in np.array_split(times, len(apart) // 100)])
    growing = (envelope < 0.03) & (middle < 25 * lyapunov)
    slope = np.polyfit(middle[growing], np.log(envelope[growing]), 1)[0]
    assert growing.sum() > 10
    assert slope == pytest.approx(exponent, rel=0.4)  # of a finite stretch


def test_series_is_cached_with_its_settings(tmp_path):
    """Prevents: a cache that returns another series; damage that goes unnoticed."""
    first = chaos.mackey_glass(75, 2, folder=tmp_path)
    (file,) = tmp_path.glob("*.npz")
    assert json.loads(file.with_suffix(".json").read_text())["settings"]["tau"] == 17
    written = file.stat().st_mtime_ns
    assert torch.equal(chaos.mackey_glass(75, 2, folder=tmp_path).x, first.x)
    assert file.stat().st_mtime_ns == written  # read, not made again
    file.write_bytes(file.read_bytes()[:-100])
    assert torch.equal(chaos.mackey_glass(75, 2, folder=tmp_path).x, first.x)
    assert not torch.equal(chaos.mackey_glass(75, 2, history=1.1, folder=tmp_path).x, first.x)
    assert "sha256" in first.source
    assert first.dt == pytest.approx(2.6267, abs=1e-4)


def test_published_file(tmp_path):
    path = tmp_path / "mg_17.npy"
    x = np.linspace(0.4, 1.3, 160)
    np.save(path, x[:, None])
    series = chaos.published(path)
    assert series.x.tolist() == x.tolist()
    assert "mg_17.npy" in series.source
    np.save(path, np.arange(9, dtype=">i4"))
    assert chaos.published(path).x.tolist() == list(range(9))
    for bad, message in (
        (np.full(9, np.nan), "not finite at point 0"),
        (np.ones((3, 4)), "not float64 of shape (3, 4)"),
        (np.ones(3, dtype=complex), "not complex128"),
    ):
        np.save(path, bad)
        with pytest.raises(ValueError, match=re.escape(message)):
            chaos.published(path)
    path.write_bytes(b"PK and then nothing")
    with pytest.raises(ValueError, match="not a readable"):
        chaos.published(path)
    np.save(path, np.array([{}]), allow_pickle=True)
    with pytest.raises(ValueError, match="not a readable"):
        chaos.published(path)


def test_hold_is_causal():
    """Prevents: a value between two coarse points that knows the later one."""
    x = torch.arange(10, dtype=torch.float64) ** 2
    held = chaos.hold(chaos.Series(x, 2.0, "squares"), 0.5)
    assert held.x.shape == (40,)
    changed = x.clone()
    changed[5:] += 7
    other = chaos.hold(chaos.Series(changed, 2.0, "squares"), 0.5)
    assert torch.equal(other.x[:20], held.x[:20])  # all that comes before point 5
    assert not torch.equal(other.x[20], held.x[20])
    with pytest.raises(ValueError, match=r"dt = 0.3 must divide the 2 time units"):
        chaos.hold(chaos.Series(x, 2.0, "squares"), 0.3)


def test_sequences():
    series = chaos.Series(torch.arange(1000.0), chaos.LYAPUNOV_TIME / 10, "ramp")
    found = chaos.sequences(series, 3, length=2, shift=0.5)
    assert found.shape == (3, 20)
    assert found[:, 0].tolist() == [0, 5, 10]
    with pytest.raises(ValueError, match="need 1195 points; the series has 1000"):
        chaos.sequences(series, 200, length=20)
    broken = series._replace(x=torch.where(series.x == 7, torch.nan, series.x))
    with pytest.raises(ValueError, match="not finite at point 7"):
        chaos.sequences(broken, 3, length=2)


# -- measures ----------------------------------------------------------------------------------------------------------


def test_measures():
    """sMAPE by hand; valid until the first error above 0.4 standard deviations."""
    true = torch.tensor([[1.0, 2.0, 1.0, 2.0]], dtype=torch.float64)
    predicted = torch.tensor([[1.0, 2.0, 3.0, 2.0]], dtype=torch.float64)
    assert mackey_glass.smape(predicted, true).item() == pytest.approx(200 * (2 / 4) / 4)
    assert mackey_glass.valid_time(predicted, true, 197.0).item() == 2
    assert mackey_glass.valid_time(true, true, 197.0).item() == 4
    assert mackey_glass.valid_time(true * torch.nan, true, 197.0).item() == 0


@pytest.mark.parametrize(("name", "integrator"), [("paper", "exponential"), ("rk4", "rk4")])
def test_configuration(name, integrator):
    """The full protocol as published: thirty networks, 2 × 93 hidden neurons, 150 epochs of ten Lyapunov times."""
    parser = ArgumentParser()
    parser.add_class_arguments(Forecast, as_group=False)
    values = yaml.safe_load((ROOT / "configs" / "mackey_glass" / f"{name}.yaml").read_text())
    o = Forecast(**parser.instantiate(parser.parse_object(values)).as_dict())
    mackey_glass.check(o)
    assert (o.networks, o.epochs, o.integrator, o.dt, o.delay) == (30, 150, integrator, 0.2, 6)
    assert (o.learned, o.free) == (10, 10)
    net = network(o, 1)
    assert [(layer.n_in, layer.n_out, layer.depth) for layer in net.layers] == [(4, 93, 1), (93, 93, 1), (93, 1, 1)]
    assert net.n_parameters() == 5 * 93 + 94 * 93 + 94


# -- free runs ---------------------------------------------------------------------------------------------------------

TINY = Forecast(
    networks=2, epochs=1, learned=0.35, free=0.4, populations=[(4, 1.0, 1.0), (3, 4.0, 1.0)],
    upper_populations=[(7, 2.0, 1.0)], horizon=3.0, compile=False,
)  # fmt: skip


@pytest.fixture(scope="module", params=[("euler", "value", 1), ("rk4", "value", 3), ("rk4", "change", 1)], ids=str)
def learned(request, tmp_path_factory):
    """Sequences, and networks that have learned the first half."""
    integrator, target, stretches = request.param
    o = dataclasses.replace(TINY, integrator=integrator, target=target, stretches=stretches)
    series = chaos.mackey_glass(985, 2, folder=tmp_path_factory.mktemp("cache"))
    sequences = chaos.sequences(series, o.networks, length=1)
    f = Forecaster(o, sequences)
    f.epoch(0)
    return sequences, f


def test_free_run_sees_nothing_of_the_truth(learned):
    """Prevents: a true value that enters after the switch, into inputs, scaling or learning: nothing changes when all
    of the second half does."""
    sequences, f = learned
    other = sequences.clone()
    other[:, f.half :] = 0.77
    g = Forecaster(f.o, other)
    g.epoch(0)
    steps = 130  # the slowest input of the last of them is a prediction
    assert torch.equal(g.free_run(steps), f.free_run(steps))
    other = sequences.clone()
    other[:, f.half - 1] += 0.1  # the last value that is known does matter
    g = Forecaster(f.o, other)
    g.epoch(0)
    assert not torch.equal(g.free_run(steps), f.free_run(steps))


def test_free_run_step_by_step(learned):
    """Against a plain loop: each prediction is appended to what is known, and read again when its time has come.
    Between two points an RK4 step sees the cubic through the four around, all of which must be known by then."""
    sequences, f = learned
    nodes = f.sim.integrator.nodes
    known = [list(row) for row in ((sequences[:, : f.half] - f.mean) / f.std).float().numpy()]
    state = mapped(lambda z: z[..., -1:, :], f.sim.carry.state)  # of the last stretch
    unit = torch.ones(2)
    if f.o.target == "change":
        first = torch.tensor(known)
        changes = first[:, 91 + f.h : -2] - first[:, 91 : -2 - f.h]
        unit = changes.std(1)
    for t in range(f.half - f.h, f.half + 60 - f.h):
        xs = [torch.tensor([[[between(row, t - i * f.delay, c) for i in range(4)]] for row in known]) for c in nodes]
        state, _ = f.sim.integrator.step(f.net, f.sim.carry.theta, state, xs, [None] * len(nodes), f.sim.dynamics)
        for row, r, scale in zip(known, state[-1].r[0, :, 0, 0].tolist(), unit.tolist()):
            row.append(row[t] + scale * r if f.o.target == "change" else r)
    expected = torch.tensor(known)[:, f.half :].double() * f.std + f.mean
    torch.testing.assert_close(f.free_run(60), expected, atol=1e-5, rtol=0)
    assert f.free_run(60).std() > 1e-3


def between(row, t, c):
    """x at t + c, by scipy; IndexError where that needs a point beyond those in `row`."""
    if c == 0:
        return row[t]
    return float(BarycentricInterpolator([-1, 0, 1, 2], [row[t + i] for i in (-1, 0, 1, 2)])(c))


def test_targets_lie_ahead(learned):
    """Prevents: a target that is not `horizon` after the newest input, or that reaches beyond the first half."""
    sequences, f = learned
    first = ((sequences[:, : f.half] - f.mean) / f.std).float()
    k = f.o.stretches
    steps = f.half - 15 - 91 - {"euler": 0, "rk4": 2}[f.o.integrator]
    skipped = steps % k  # at the beginning, so that all stretches are as long
    for stretch in range(k):
        t = 91 + skipped + stretch * (steps // k)
        torch.testing.assert_close(f.x[0, 0, :, stretch], first[:, [t, t - 30, t - 60, t - 90]])
        if f.o.target == "value":
            torch.testing.assert_close(f.y[0, 0, :, stretch, 0], first[:, t + 15])
        else:
            change = first[:, 91 + 15 : -2] - first[:, 91 : -2 - 15]
            torch.testing.assert_close(f.y[0, 0, :, stretch, 0], (first[:, t + 15] - first[:, t]) / change.std(1))
    if f.o.target == "change":
        return
    last = {"euler": -1, "rk4": -3}[f.o.integrator]  # a step of RK4 ends at the next point, whose neighbours count too
    torch.testing.assert_close(f.y[-1, 0, :, -1, 0], first[:, last])
    if f.o.integrator == "rk4":
        torch.testing.assert_close(f.y[-1, 2, :, -1, 0], first[:, -2])
        middle = torch.tensor(
            [[between(row, 7 + 91 + skipped - 30 * i, 0.5) for i in range(4)] for row in first.tolist()]
        )
        torch.testing.assert_close(f.x[7, 1, :, 0], middle)


def test_streams_go_on_with_the_next_stretch():
    """After three epochs without learning a stream is where one that sees its three stretches in a row is; the first
    stretch begins at rest. Prevents: stretches that begin at rest, where free runs never are."""
    o = dataclasses.replace(TINY, stretches=4, lr=1e-30, noise=0.0)
    f = Forecaster(o, torch.rand(2, 1182, generator=torch.Generator().manual_seed(0)).double())
    for epoch in range(3):
        f.epoch(epoch)
    for stream, seen in ((0, [0]), (2, [0, 1, 2]), (3, [1, 2, 3])):
        alone = gle.Simulation(f.net, dt=o.dt, integrator=f.sim.integrator)
        alone.run(torch.cat([f.x[..., [k], :] for k in seen]))
        for one, many in zip(alone.carry.state, f.sim.carry.state, strict=True):
            torch.testing.assert_close(one.u, many.u[..., [stream], :])


def test_noise_of_an_epoch():
    """Independent of what was drawn before, of the other networks, and of the node; as strong as asked for."""
    sequences = torch.rand(3, 1182, generator=torch.Generator().manual_seed(0)).double()
    f = Forecaster(dataclasses.replace(TINY, noise=0.5), sequences)
    noise = f._noise(4)
    assert noise.std().item() == pytest.approx(0.5, rel=0.05)
    assert noise.shape[1] == 1  # the same at all nodes
    assert not torch.equal(noise, f._noise(5))
    assert not torch.equal(noise[:, :, 0], noise[:, :, 1])
    fewer = Forecaster(dataclasses.replace(TINY, noise=0.5), sequences[:2])
    torch.testing.assert_close(fewer._noise(4), noise[:, :, :2], atol=0, rtol=0)


# -- forecasters -------------------------------------------------------------------------------------------------------


def test_forecasters_on_what_they_can_do():
    """A sum of two sines obeys a linear recurrence, which autoregression finds; a network that learned it goes on
    with it; the last value is repeated."""
    t = np.arange(500)
    x = np.sin(0.2 * t) + 0.5 * np.sin(0.31 * t)
    assert np.abs(forecast.LinearAutoregression(penalty=1e-12)(x[:400], 100) - x[400:]).max() < 1e-3
    assert np.abs(forecast.EchoState(0)(x[:400], 50) - x[400:450]).max() < 0.05
    assert forecast.LastValue()(x[:400], 3).tolist() == [x[399]] * 3
    lstm = forecast.LSTM(0, window=20, hidden=20, epochs=60, lr=2e-2)(x[:200], 20)
    assert np.abs(lstm - x[200:220]).mean() < 0.5 * np.abs(x[199] - x[200:220]).mean()


@pytest.mark.parametrize("name", forecast.FORECASTERS)
def test_forecasters_give_what_was_asked_for(name):
    past = np.sin(0.3 * np.arange(80))
    kwargs = {"epochs": 1} if name == "LSTM" else {}
    make = forecast.FORECASTERS[name]
    once, again = (make(3, **kwargs)(past, 7) for _ in range(2))
    assert once.shape == (7,)
    assert np.isfinite(once).all()
    assert (once == again).all()  # a seed is a seed


# -- integrators -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@torch.no_grad()
def test_integrators_agree_as_dt_falls():
    """Euler and exponential at first order, RK4 at fourth; RK4 is stable at steps where Euler is not: 2.785 τ against
    2 τ, the real ends of their stability regions."""
    o = Forecast(dts=[0.8, 0.4, 0.2])
    rows = {r["integrator"]: r for r in mackey_glass.accuracy(o)}
    for scheme, order in (("euler", 1), ("exponential", 1), ("rk4", 4)):
        slopes = np.diff(np.log(rows[scheme]["error"])) / np.log(0.5)
        np.testing.assert_allclose(slopes, order, atol=0.25)
    uneven = mackey_glass.accuracy(Forecast(dts=[0.7, 0.35]))  # steps that 16 is no multiple of
    assert all(np.isfinite(r["error"]).all() for r in uneven)
    limits = {r["integrator"]: r["limit"] for r in mackey_glass.stability(Forecast())}
    assert limits["euler"] == pytest.approx(2.0, abs=0.01)
    assert limits["rk4"] == pytest.approx(2.785, abs=0.01)
    assert limits["exponential"] == mackey_glass.LARGEST


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_resumed_is_uninterrupted(smoke, tmp_path, monkeypatch):
    """Stopped after the first epoch, and gone on with: the same result, but for the clock."""
    whole = smoke("mackey_glass")
    keep = Run.checkpoint

    def stop(self, state):
        keep(self, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "checkpoint", stop)
    with pytest.raises(SystemExit) as exit:
        launch("mackey_glass", *smoke_flags("mackey_glass", tmp_path / "cut"))
    assert exit.value.code == 130
    monkeypatch.undo()
    (folder,) = (p.parent for p in (tmp_path / "cut").rglob("config.yaml"))
    again = finished(tmp_path / "cut", launch("mackey_glass", "--resume", str(folder)))

    def comparable(result):
        gle = {k: v for k, v in result["gle"].items() if k != "seconds"}
        curve = [{k: v for k, v in row.items() if k != "seconds"} for row in gle.pop("curve")]
        return gle, curve, result["baselines"]

    assert comparable(again.result) == comparable(whole.result)
    assert len(again.result["gle"]["curve"]) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dt": 0.0}, "dt must be positive, got 0"),
        ({"delay": 0.3}, "delay = 0.3 must be a positive multiple of dt = 0.2"),
        ({"horizon": 0.1}, "horizon = 0.1 must be a positive multiple of dt = 0.2"),
        ({"noise": -0.1}, "noise must not be negative, got -0.1"),
        ({"stretches": 0}, "stretches must be at least 1, got 0"),
        ({"learned": 0.5, "stretches": 999}, "too few for 999 stretches"),
        ({"horizon": 0.4, "integrator": "rk4"}, "horizon = 0.4 must be above 2 dt with rk4"),
        ({"networks": 0}, "networks must be at least 1, got 0"),
        ({"populations": [(3, 0.1, 1.0)]}, "a time constant of 0.1, below dt = 0.2"),
        ({"populations": []}, "populations must hold at least one neuron each"),
        ({"baselines": ["oracle"]}, "unknown baseline 'oracle'; choose some of last value"),
        ({"scaling": [0]}, "scaling must hold numbers of networks"),
    ],
)
def test_bad_input(changes, message):
    with pytest.raises(ValueError, match=message):
        mackey_glass.check(dataclasses.replace(Forecast(), **changes))


def test_steps_follow_a_file(tmp_path):
    """Prevents: a published series that no option fits; a held-out series that is the test series after all."""
    np.save(tmp_path / "mg.npy", 1 + 0.3 * np.sin(0.4 * np.arange(1600)))
    o = mackey_glass.settled(dataclasses.replace(Forecast(), file=tmp_path / "mg.npy"))
    mackey_glass.check(o)
    assert (round(197 / 75 / o.dt, 9), round(o.horizon / o.dt, 9), round(o.delay / o.dt, 9)) == (
        13,
        10,
        30,
    )  # nearest to 0.2, 2 and 6
    assert mackey_glass.fine_series(o).x[:14].tolist() == [1.0] * 13 + [1 + 0.3 * np.sin(0.4)]
    with pytest.raises(ValueError, match="give file or held_out"):
        mackey_glass.check(dataclasses.replace(o, held_out=True))


def test_constant_series():
    with pytest.raises(ValueError, match="the series is constant"):
        Forecaster(TINY, torch.ones(1, 985))


def test_sequence_too_short():
    with pytest.raises(ValueError, match=r"the sequence is too short: 0\.1 Lyapunov times are 99 points"):
        Forecaster(dataclasses.replace(TINY, learned=0.1), torch.ones(1, 300))
