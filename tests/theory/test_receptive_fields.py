"""Temporal receptive fields (Fig. 7), in float64: closed forms of linear networks, statistics of white noise."""

import numpy as np
import pytest
import torch
from nets import single

import gle
from gle import operators
from gle.analysis.receptive_fields import centre, impulse_response, low_frequency_delay, reverse_correlation

DT = 0.1
TAU_M, TAU_R = [0.4, 1.0, 0.8, 0.5], [0.1, 0.2, 0.8, 1.0]
SCHEMES = ["euler", "exponential"]


def network(phi="linear", ensemble=(), bias=False):
    """2 → 4 → 4 → 4: retrospective, instantaneous and prospective neurons."""
    common = {"tau_m": TAU_M, "tau_r": TAU_R, "phi": phi, "bias": bias, "ensemble": ensemble, "dtype": torch.float64}
    return gle.Network([gle.Layer(2, 4, **common), gle.Layer(4, 4, depth=2, **common)], 2)


def noise(steps, batch, features, seed=0):
    return torch.as_tensor(np.random.default_rng(seed).standard_normal((steps, batch, features)))


def simulated(net, x):
    record = gle.Record("r")
    gle.Simulation(net, dt=DT).run(x, record=record)
    return record["r"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_impulse_response_of_a_linear_network(scheme):
    """The product of the layers' discrete transfer functions, transformed back; each layer above the first sees the
    one below a step later.

    Prevents: inputs and neurons exchanged, kernels that are a step off, and members mixed up.
    """
    net, lags = network(ensemble=(2,)), 1024
    omega = 2 * np.pi * np.arange(lags // 2 + 1) / (lags * DT)
    neurons = np.stack(
        [
            operators.discrete_neuron_response(omega, m, r, DT, exponential=scheme == "exponential")
            for m, r in zip(TAU_M, TAU_R)
        ],
        -1,
    )
    gain = np.broadcast_to(np.eye(2)[:, None], (len(omega), 2, 2, 2))  # [ω, inputs, members, neurons]
    kernels = impulse_response(net, dt=DT, lags=lags, integrator=scheme)
    assert [k.shape for k in kernels] == [(lags, 2, 2, 4)] * 3
    for l, (i, d) in enumerate(net.places()):
        delay = np.exp(-1j * omega * DT) if l else np.ones_like(omega)
        W = net.layers[i].W[d].detach().numpy()
        gain = np.einsum("w,wi,mij,wfmj->wfmi", delay, neurons, W, gain)
        np.testing.assert_allclose(kernels[l], np.fft.irfft(gain, axis=0), atol=1e-12)
    assert kernels[-1].abs().max() > 0.01


@pytest.mark.parametrize("bias", [0.0, 0.7])
def test_impulse_response_at_rest(bias):
    """tanh: the kernel at the point where the network rests, φ′ times the linear one.

    Prevents: the way to rest of a neuron with a bias, which would count as its receptive field.
    """
    kernel = impulse_response(single(1.0, 0.2, phi="tanh", bias=bias), dt=DT, lags=60, settle=600, size=1e-6)[0]
    linear = impulse_response(single(1.0, 0.2), dt=DT, lags=60)[0]
    torch.testing.assert_close(kernel, (1 - np.tanh(bias) ** 2) * linear, atol=1e-7, rtol=0)
    assert linear[5] > 0.01


def test_centre_of_the_window():
    """Slow signals come late by Σ (τm − τr) along a chain, plus the steps of delayed propagation; in Euler's scheme
    exactly. The claim of §2.7, against kernels, and against the phase of the neuron's own transfer function."""
    common = {"tau_m": TAU_M, "tau_r": TAU_R, "phi": "linear", "bias": False, "dtype": torch.float64}
    chains = gle.Network([gle.Layer(4, 4, depth=4, **common)])
    with torch.no_grad():
        chains.layers[0].W.copy_(torch.eye(4).expand(4, 4, 4))
    each = torch.tensor(TAU_M).double() - torch.tensor(TAU_R).double()
    for l, kernel in enumerate(impulse_response(chains, dt=DT, lags=600)):
        own = torch.diagonal(kernel, dim1=1, dim2=2)
        torch.testing.assert_close(centre(own, DT), (l + 1) * each + l * DT, atol=1e-6, rtol=0)
    omega = 1e-4
    for m, r in zip(TAU_M, TAU_R):
        assert -np.angle(operators.neuron_response(omega, m, r)) / omega == pytest.approx(m - r, abs=1e-6)


def test_low_frequency_delay():
    """Many paths: the centre of each window of a dense linear network, from W and τ alone.

    Prevents: paths weighted without their signs, or by W alone.
    """
    net = network(ensemble=(2,))
    kernels, expected = impulse_response(net, dt=DT, lags=600), low_frequency_delay(net, DT)
    assert len(expected) == 3
    for kernel, delay in zip(kernels, expected):
        assert delay.shape == (2, 2, 4)
        torch.testing.assert_close(centre(kernel, DT), delay, atol=1e-6, rtol=1e-6)
    one = low_frequency_delay(net)[0]  # a single layer in continuous time: τm − τr, whatever the weights
    torch.testing.assert_close(one, (net.layers[0].tau_m - net.layers[0].tau_r)[0].expand_as(one))


def test_reverse_correlation_of_a_linear_network():
    """White noise finds the impulse response, within the standard error that it states: no value of a thousand is off
    by 5, and the bound is not idle.

    Prevents: kernels in reversed lag order or a lag off, and inputs that leak into each other.
    """
    net, lags = network(), 80
    x = 0.7 * noise(1500, 40, 2)
    kernels = impulse_response(net, dt=DT, lags=lags)
    for l, r in simulated(net, x).items():
        measured, error = reverse_correlation(x, r, lags)
        assert measured.shape == (lags, 2, 4)
        assert error.shape == (2, 4)
        off = (measured - kernels[l]) / error
        assert off.abs().max() < 5
        assert 0.3 < off.square().mean().sqrt() < 1
        assert kernels[l].abs().max() > 10 * error.min()


def test_standard_error_is_that_of_repetitions():
    """The spread of estimates from independent noise stays below the stated error, and near it: 1/√2 of it where no
    two lags of the kernel overlap."""
    net, lags = single(1.0, 0.1), 20
    runs = [0.5 * noise(300, 10, 1, seed) for seed in range(100)]
    responses = simulated(net, torch.cat(runs, 1))[0].split(10, 1)
    estimates = [reverse_correlation(x, r, lags) for x, r in zip(runs, responses)]
    spread = torch.stack([h for h, _ in estimates]).std(0)
    stated = torch.stack([error for _, error in estimates]).mean(0)
    assert (spread < 1.2 * stated).all()
    assert spread[-1].item() == pytest.approx(stated.item() / np.sqrt(2), rel=0.25)


def test_reverse_correlation_of_a_saturating_neuron():
    """Bussgang's theorem: for Gaussian noise the kernel is the linear one times the mean of φ′.

    Prevents: a kernel that is divided by the variance of the rate, or taken at rest.
    """
    gain, lags = 5.0, 60
    net, x = single(0.6, 0.3, weight=gain, phi="tanh"), noise(4000, 30, 1)
    linear = impulse_response(single(0.6, 0.3, weight=gain), dt=DT, lags=lags)[0]
    y, weight = np.polynomial.hermite_e.hermegauss(60)
    slope = (1 - np.tanh(linear.square().sum().sqrt().item() * y) ** 2) @ weight / weight.sum()
    assert slope < 0.5
    measured, error = reverse_correlation(x, simulated(net, x)[0], lags)
    assert ((measured - slope * linear) / error).abs().max() < 5
    assert ((measured - linear) / error).abs().max() > 50


def test_ensembles():
    """Members keep their own kernels."""
    net, x = network(ensemble=(3,)), noise(200, 6, 2)
    r = simulated(net, x)[2]
    together, error = reverse_correlation(x, r, 30)
    assert together.shape == (30, 2, 3, 4)
    assert error.shape == (2, 3, 4)
    alone, its_error = reverse_correlation(x, r[:, 1], 30)
    torch.testing.assert_close(together[:, :, 1], alone)
    torch.testing.assert_close(error[:, 1], its_error)


def test_bad_input():
    net, x = network(), noise(20, 3, 2)
    for lags in (0, -1):
        with pytest.raises(ValueError, match=f"lags must be at least 1, got {lags}"):
            impulse_response(net, dt=DT, lags=lags)
        with pytest.raises(ValueError, match=f"lags must be at least 1, got {lags}"):
            reverse_correlation(x, x, lags)
    with pytest.raises(ValueError, match="size 0"):
        impulse_response(net, dt=DT, lags=5, size=0)
    with pytest.raises(ValueError, match="30 lags need at least as many steps, got 20"):
        reverse_correlation(x, x, 30)
    for r in (x[:-1], x[:, :-1], x[:, 0]):
        with pytest.raises(ValueError, match="of the same T and batch"):
            reverse_correlation(x, r, 5)
    with pytest.raises(ValueError, match="dt must be a positive number"):
        impulse_response(net, dt=0, lags=5)
