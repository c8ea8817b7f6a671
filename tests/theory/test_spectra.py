"""Measured gain and phase, in float64: the estimators against scipy.signal, simulated neurons against closed forms, and
what the paper says of Figs. 3 and 11."""

import numpy as np
import pytest
import scipy.signal
import torch
from nets import single

import gle
from gle import operators
from gle.analysis.spectra import (
    both_responses,
    chirp_response,
    errors,
    harmonics,
    rates,
    reversed_in_time,
    sine_response,
    times,
)

DT = 0.1
FINE = 0.02  # where the smallest τr is to be far below τm
OMEGA = harmonics(np.geomspace(0.1, 10, 7), DT)
B, A = [0.2, -0.05, 0.1], [1.0, -1.2, 0.5]  # a resonant digital filter


def filtered(signal, steps):
    """scipy's filter, with an offset that no gain may notice."""
    return torch.as_tensor(scipy.signal.lfilter(B, A, signal(times(steps, DT)).numpy(), axis=0)) + 3.0


def by_sines(system, settle=40):
    return sine_response(system, OMEGA, DT, settle)


def by_chirp(system, settle=40):
    omega, gain = chirp_response(system, OMEGA, DT, settle)
    np.testing.assert_allclose(omega, OMEGA, rtol=1e-12)
    return gain


both = pytest.mark.parametrize("measured", [by_sines, by_chirp])


@both
def test_estimators(measured):
    """A filter of scipy's against scipy's own frequency response.

    Prevents: the conjugate (a lag that reads as an advance), and spectral leakage that hides as noise.
    """
    _, expected = scipy.signal.freqz(B, A, OMEGA * DT)
    np.testing.assert_allclose(measured(filtered), expected, atol=1e-10)
    assert np.abs(np.angle(expected)).max() > 0.5


def test_both_at_once():
    """Prevents: the response to one signal taken for that to another."""
    omega, sine, chirp = both_responses(filtered, OMEGA, DT, 40)
    np.testing.assert_allclose(omega, OMEGA, rtol=1e-12)
    np.testing.assert_allclose(sine, by_sines(filtered), atol=1e-12)
    np.testing.assert_allclose(chirp, by_chirp(filtered), atol=1e-12)


@both
def test_reversed_in_time(measured):
    """Backwards in time, the same filter has the conjugate gain; so a delay becomes an advance."""
    _, expected = scipy.signal.freqz(B, A, OMEGA * DT)
    np.testing.assert_allclose(measured(reversed_in_time(filtered, DT)), expected.conj(), atol=1e-10)

    def delayed(signal, steps):
        return signal(times(steps, DT) - 3 * DT)

    ahead = measured(reversed_in_time(delayed, DT))
    np.testing.assert_allclose(ahead, np.exp(3j * OMEGA * DT), atol=1e-9)


def neurons(tau_m, tau_r, weight=1.0):
    """Single linear neurons side by side, in float64."""
    taus = {
        name: torch.tensor(tau, dtype=torch.float64).reshape(-1, 1)
        for name, tau in (("tau_m", tau_m), ("tau_r", tau_r))
    }
    net = gle.Network([gle.Layer(1, 1, phi="linear", bias=False, ensemble=(len(tau_m),), dtype=torch.float64, **taus)])
    with torch.no_grad():
        net.layers[0].W.fill_(weight)
    return net


@both
@pytest.mark.parametrize("scheme", ["euler", "exponential"])
def test_neurons(measured, scheme):
    """Phase within 1e-3 rad and gain within 1e-3 of the closed form is what is asked for; it is exact.

    Prevents: a response that is one step early or late, which no gain shows.
    """
    taus = [1.0, 1.0, 0.5], [0.1, 1.0, 2.0]
    expected = np.stack(
        [
            operators.discrete_neuron_response(OMEGA, m, r, DT, exponential=scheme == "exponential")
            for m, r in zip(*taus)
        ],
        -1,
    )
    forward = rates(neurons(*taus), dt=DT, integrator=scheme)
    np.testing.assert_allclose(measured(forward, 60).reshape(-1, 3), expected, rtol=1e-9)
    backward = errors(neurons(*taus, weight=0.0), dt=DT, integrator=scheme)
    np.testing.assert_allclose(measured(backward, 60).reshape(-1, 3), 1 / expected, rtol=1e-9)


def test_rk4_between_the_steps():
    """RK4 sees the signal between the steps: off by dt⁴.

    Prevents: input held over the step, which makes it a scheme of first order.
    """
    omega = OMEGA[2:4]
    error = []
    for dt in (0.1, 0.05):
        gain = sine_response(rates(single(1.0, 0.2), dt=dt, integrator="rk4"), omega, dt, 20).reshape(-1)
        error.append(np.abs(gain / operators.neuron_response(omega, 1.0, 0.2) - 1).max())
    assert error[1] < 1e-5
    assert error[0] / error[1] == pytest.approx(16, rel=0.2)


def test_axes_of_a_network():
    """[frequencies, *ensemble, neurons]; an inner layer; a bias, which is an offset and no gain."""
    common = {"ensemble": (2,), "dtype": torch.float64, "phi": "linear", "tau_m": 1.0}
    net = gle.Network([gle.Layer(1, 3, tau_r=[0.2, 0.5, 1.0], **common), gle.Layer(3, 2, tau_r=0.3, **common)], 1)
    gain = sine_response(rates(net, dt=DT, layer=0), OMEGA, DT, 40)
    one = np.stack([operators.discrete_neuron_response(OMEGA, 1.0, r, DT) for r in (0.2, 0.5, 1.0)], -1)
    W = net.layers[0].W.detach().numpy()[0, :, :, 0]
    np.testing.assert_allclose(gain, one[:, None] * W, atol=1e-9)
    # the layer above sees it a step later
    top = operators.discrete_neuron_response(OMEGA, 1.0, 0.3, DT) * np.exp(-1j * OMEGA * DT)
    expected = np.einsum("f,mij,fmj->fmi", top, net.layers[1].W[0].detach().numpy(), gain)
    np.testing.assert_allclose(sine_response(rates(net, dt=DT), OMEGA, DT, 60), expected, atol=1e-9)


# -- what the paper says -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def operators_measured():
    """Fig. 3: I⁻ and D⁺ are the neurons of the smallest τr; I⁺, D⁻ and λ run backwards."""
    tau_m, tau_r = 1.0, 0.1
    omega = harmonics(np.geomspace(0.5, 100, 7), FINE)

    def gains(system):
        return sine_response(system, omega, FINE, 30).reshape(-1, 2).T

    pair = [tau_m, tau_m], [FINE, tau_r]  # of the smallest τr, and of the one that is combined
    forward, backward = rates(neurons(*pair), dt=FINE), errors(neurons(*pair, weight=0.0), dt=FINE)
    measured = {
        ("I⁻", "r"): gains(forward),
        ("D⁺", "e"): gains(backward),
        ("I⁺", "λ"): gains(reversed_in_time(forward, FINE)),
        ("D⁻", "D⁻ of e"): gains(reversed_in_time(backward, FINE)),
    }
    return omega, {name: gain for names, both in measured.items() for name, gain in zip(names, both)}


def test_single_operators(operators_measured):
    """Eqs. 29 and 31: D⁺ and I⁺ share their phase, an advance, with inverse gain; so do I⁻ and D⁻, with a lag."""
    _, g = operators_measured
    for a, b, sign in (("D⁺", "I⁺", 1), ("I⁻", "D⁻", -1)):
        np.testing.assert_allclose(np.angle(g[a] / g[b]), 0, atol=1e-10)
        np.testing.assert_allclose(np.abs(g[a] * g[b]), 1, rtol=1e-10)
        assert (sign * np.angle(g[a]) > 0).all()
    np.testing.assert_allclose(g["D⁺"] * g["I⁻"], 1, atol=1e-10)  # the exact inverse
    assert (np.abs(g["I⁻"]) < 1).all()  # "sub-unit gain"


def test_errors_are_in_phase_with_the_adjoint(operators_measured):
    """Eqs. 30 and 32, and the bound of the gains' ratio; both errors undo the phase of the neuron's rate."""
    omega, g = operators_measured
    np.testing.assert_allclose(np.angle(g["e"] / g["λ"]), 0, atol=1e-10)
    np.testing.assert_allclose(np.abs(g["e"] * g["λ"]), 1, rtol=1e-10)
    np.testing.assert_allclose(np.angle(g["e"] * g["r"]), 0, atol=1e-10)
    assert (np.angle(g["e"]) > 0).all()  # prospective, as the neuron is retrospective
    ratio = np.abs(g["e"] / g["λ"])
    assert (np.diff(ratio) > 0).all()
    assert (ratio[omega <= 10.1] < (1.0 / 0.1) ** 2).all()
    # the bound of the simulated neuron is that of Nyquist's frequency, which lies above the continuous one
    limit = np.abs(operators.discrete_neuron_response(np.pi / FINE, 1.0, 0.1, FINE)) ** -2
    assert 100 < limit < 122
    assert (ratio < limit).all()


def test_bad_input():
    system = rates(single(1.0, 0.2), dt=DT)
    for measure in (sine_response, chirp_response):
        with pytest.raises(ValueError, match=r"31\.4159 is not below Nyquist's, .* lower the frequency or dt"):
            measure(system, [1.0, np.pi / DT], DT, 10)
        with pytest.raises(ValueError, match="frequencies must be positive, got 0"):
            measure(system, [1.0, 0.0], DT, 10)
        with pytest.raises(ValueError, match="dt must be a positive number, got 0"):
            measure(system, [1.0], 0, 10)
    with pytest.raises(ValueError, match=r"tau_r = 0\.05 in layer 0 is below dt = 0\.1"):
        sine_response(rates(single(1.0, 0.05), dt=DT), [1.0], DT, 10)
