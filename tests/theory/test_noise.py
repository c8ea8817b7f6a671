"""Noise in the dynamics: its spectrum against the closed form, and that no run sees other noise than it would have seen
alone, uninterrupted, or in other blocks."""

import math

import numpy as np
import pytest
import torch
from nets import DT, mixed_network, signals

import gle
from gle.integrators import Euler
from gle.operators import discrete_neuron_response

D = torch.float64


def still(**layer):
    """One linear neuron that hears nothing."""
    net = gle.Network([gle.Layer(1, 1, phi="linear", bias=False, dtype=D, **{"tau_m": 1.0, "tau_r": 0.3, **layer})])
    with torch.no_grad():
        net.layers[0].W.zero_()
    return net


@pytest.mark.parametrize("tau", [0.0, 0.7])
@pytest.mark.parametrize("on", ["rate", "current", "error"])
def test_spectrum(on, tau):
    """Periodograms of 300 samples: σ² (white) or that of an AR(1) with ρ = exp(−dt/τ), (1 − ρ²) σ²/|1 − ρ e^(−iω dt)|²,
    times the neuron's own |H|² where noise drives the current.

    Prevents: noise that scales with dt, begins at rest, or enters before the filter that it should enter behind.
    """
    dt, steps, sigma, batch = 0.1, 512, 0.6, 300
    sim = gle.Simulation(still(), dt=dt, noise=gle.Noise(on, sigma, tau, seed=4))
    x = torch.zeros(200 + steps, batch, 1, dtype=D)
    record = gle.Record("e" if on == "error" else "r")
    sim.run(x, record=record)
    values = record[record.what[0]][0][200:, :, 0].numpy()  # [steps, batch]
    found = np.abs(np.fft.rfft(values, axis=0)[1:-1]) ** 2 / steps
    fine = 128 * steps
    omega = 2 * math.pi * np.arange(fine) / (fine * dt)
    rho = math.exp(-dt / tau) if tau else 0.0
    spectrum = sigma**2 * (1 - rho**2) / np.abs(1 - rho * np.exp(-1j * omega * dt)) ** 2
    if on == "current":
        spectrum = spectrum * np.abs(discrete_neuron_response(omega, 1.0, 0.3, dt)) ** 2
    # what a window of so many steps sees of it: the autocovariance, less of it at long lags
    lags = np.minimum(np.arange(fine), fine - np.arange(fine))
    seen = np.fft.ifft(spectrum) * np.clip(1 - lags / steps, 0, None)
    expected = np.fft.fft(seen).real[128 : 128 * steps // 2 : 128]
    off = (found.mean(1) / expected - 1) * math.sqrt(batch)
    assert np.abs(off).max() < 4.5
    assert abs(off.mean()) < 0.5
    assert 0.8 < off.std() < 1.2


def test_memory_begins_in_its_stationary_state():
    net = still()
    sim = gle.Simulation(net, dt=0.1, noise=gle.Noise("rate", 2.0, 5.0))
    record = gle.Record("r")
    sim.run(torch.zeros(3, 4000, 1, dtype=D), record=record)
    assert float(record["r"][0][0].std()) == pytest.approx(2.0, rel=0.05)
    first, last = record["r"][0][0].flatten(), record["r"][0][2].flatten()
    assert float((first * last).mean()) == pytest.approx(4 * math.exp(-0.2 / 5.0), rel=0.1)


NOISES = [gle.Noise("rate", 0.1, 1.0, seed=2), gle.Noise("error", 0.05, seed=7), gle.Noise("current", 0.1, 0.5)]


def noisy(net, **settings):
    return gle.Simulation(net, dt=DT, plasticity=gle.Plasticity("sgd", lr=0.02), noise=NOISES, **settings)


def weights(sim):
    return [p.detach() for layer in sim.network.layers for p in (layer.W, layer.b)]


def test_interrupted_is_uninterrupted(tmp_path):
    """Prevents: another noise after a resume, or in blocks of another length."""
    x, y = signals(30)
    whole = noisy(mixed_network())
    whole.run(x, y)
    first = noisy(mixed_network(), block=1)
    first.run(x[:13], y[:13])
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second = noisy(mixed_network(seed=9), block=3)
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    second.run(x[13:], y[13:])
    for a, b in zip(weights(whole), weights(second), strict=True):
        assert torch.equal(a, b)
    quiet = gle.Simulation(mixed_network(), dt=DT, plasticity=gle.Plasticity("sgd", lr=0.02))
    quiet.run(x, y)
    assert (weights(quiet)[0] - weights(whole)[0]).abs().max() > 1e-4


@pytest.mark.parametrize("integrator", [Euler(), Euler("instant"), "rk4"], ids=str)
def test_members_hear_what_they_hear_alone(integrator):
    x, y = signals(10)
    together = noisy(mixed_network(ensemble=(2,)), integrator=integrator)
    together.run(x, y)
    for m in range(2):
        own = [gle.Noise(n.on, n.sigma, n.tau, n.seed + m) for n in NOISES]
        plasticity = gle.Plasticity("sgd", lr=0.02)
        alone = gle.Simulation(
            mixed_network(seed=3 + m), dt=DT, integrator=integrator, plasticity=plasticity, noise=own
        )
        alone.run(x, y)
        for a, b in zip(weights(together), weights(alone), strict=True):
            torch.testing.assert_close(a[:, m], b, atol=1e-12, rtol=1e-9)


def test_two_noises_are_two():
    """Prevents: the same numbers twice, and trials that all begin alike."""
    sim = gle.Simulation(still(), dt=0.1, noise=[gle.Noise("rate", 1.0), gle.Noise("rate", 1.0, tau=1.0)])
    x, first = torch.zeros(50, 400, 1, dtype=D), []
    for _ in range(2):
        record = gle.Record("r")
        sim.run(x, record=record)
        first.append(record["r"][0][0].flatten())
        sim.reset()
    assert float(record["r"][0].std()) == pytest.approx(math.sqrt(2), rel=0.05)
    assert abs(float((first[0] * first[1]).mean())) < 0.4  # 2 if they were alike


def test_samples_that_are_over_have_no_errors():
    """Prevents: learning from noise after a sample's end."""
    x, y = signals(12)
    sim = gle.Simulation(mixed_network(), dt=DT, noise=gle.Noise("error", 0.1), plasticity=gle.Plasticity(lr=0.0))
    record = gle.Record("e")
    sim.run(x, y, lengths=[3] + [12] * (x.shape[1] - 1), record=record)
    for e in record["e"].values():
        assert e[4:, 0].abs().max() == 0
        assert e[4:, 1].abs().max() > 0


def test_compiled_is_eager():
    x, y = signals(8)
    ended = []
    for backend in (None, "eager"):
        sim = noisy(mixed_network(), block=1)
        if backend:
            sim.engine = gle.engines.Compiled(sim)
            sim.engine.fast = torch.compile(sim.advance, backend=backend, fullgraph=True)
        sim.run(x, y)
        ended.append(weights(sim))
    for a, b in zip(*ended, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-9)


def test_predictions_are_without_noise():
    x, _ = signals(8)
    sim = noisy(mixed_network())
    assert torch.equal(sim.predict(x)[0], sim.predict(x)[0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gle.Noise("voltage", 1.0), "noise is on current, rate or error, not 'voltage'"),
        (lambda: gle.Noise("rate", "0.1"), "sigma of noise must be ≥ 0 and finite, got '0.1'"),
        (lambda: gle.Noise("rate", 1.0, seed=1.5), "seed of noise must be a whole number, got 1.5"),
        (lambda: gle.Simulation(mixed_network(), dt=DT, noise="rate"), "noise must be one or several gle"),
        (
            lambda: noisy(mixed_network()).load_state_dict(gle.Simulation(mixed_network(), dt=DT).state_dict()),
            "saved with another noise, none; this simulation has Noise",
        ),
        (lambda: gle.Noise("rate", -1.0), "sigma of noise must be ≥ 0 and finite, got -1"),
        (lambda: gle.Noise("rate", 1.0, math.inf), "tau of noise must be ≥ 0 and finite, got inf"),
        (lambda: gle.rules.assign(gle.rules.BPTT(), noisy(mixed_network()), *signals(8)), "Simulation without noise"),
    ],
)
def test_what_cannot_be(make, message):
    with pytest.raises(ValueError, match=message):
        make()
