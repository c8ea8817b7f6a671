"""Adaptive neurons (§5.4), in float64, against scipy.signal."""

import numpy as np
import pytest
import scipy.signal
import torch

from gle.adaptation import IAdaptation, UAdaptation, simulate

TAU_M, TAU_W, DT = 1.0, 0.9, 0.05
# those of Fig. 12
NEURONS = [
    UAdaptation(TAU_M, TAU_W, 10 * TAU_M / TAU_W),
    IAdaptation(TAU_M, TAU_W, (TAU_M + 0.9 * TAU_W) / (TAU_M + TAU_W)),
]
kinds = pytest.mark.parametrize("neuron", NEURONS, ids=["u", "I"])


def rational(neuron):
    """u(s)/I(s) as polynomials in s, from Eqs. 33 and 38 by hand."""
    m, w, gamma = neuron.tau_m, neuron.tau_w, neuron.gamma
    if isinstance(neuron, UAdaptation):
        return [w, 1], [m * w, m + w, 1 + gamma]
    return [w, 1 - gamma], [m * w, m + w, 1]


@kinds
def test_transfer_function(neuron):
    """Prevents: γ in the wrong place of Eq. 35, which still looks like a resonance."""
    omega = np.logspace(-2, 2, 40)
    _, expected = scipy.signal.freqs(*rational(neuron), omega)
    np.testing.assert_allclose(neuron.response(omega), expected, rtol=1e-12)


@kinds
@pytest.mark.parametrize("scheme", ["euler", "exponential"])
def test_simulation(neuron, scheme):
    """Held input: exact at the steps for the exponential scheme, and forward Euler as written in a loop.

    Prevents: w updated with the new u, or u with the new w, which no plot shows.
    """
    current = torch.as_tensor(np.random.default_rng(0).standard_normal((200, 3)))
    got = simulate(neuron, current, DT, scheme)
    if scheme == "exponential":
        system = scipy.signal.lti(*rational(neuron))
        t = DT * np.arange(len(current))
        expected = [scipy.signal.lsim(system, current[:, i].numpy(), t, interp=False)[1] for i in range(3)]
        np.testing.assert_allclose(got, np.stack(expected, -1), atol=1e-12)
        return
    u, w = torch.zeros(3).double(), torch.zeros(3).double()
    for I, seen in zip(current, got):
        torch.testing.assert_close(seen, u, atol=1e-12, rtol=0)
        source = u if isinstance(neuron, UAdaptation) else I
        u, w = u + DT / TAU_M * (-u + I - w), w + DT / TAU_W * (-w + neuron.gamma * source)


@kinds
def test_first_order_phase(neuron):
    """Eqs. 37 and 39: what the phase and its formula differ by is of third order in ω."""
    omega = np.array([0.02, 0.01])
    phase, formula = np.angle(neuron.response(omega)), neuron.first_order_phase(omega)
    error = np.abs(phase - formula)
    assert (formula > 0).all()
    assert (error < 0.1 * formula).all()
    assert error[0] / error[1] == pytest.approx(8, rel=0.1)


@pytest.mark.parametrize(
    ("kind", "least"), [(UAdaptation, TAU_M / TAU_W), (IAdaptation, TAU_M / (TAU_M + TAU_W))], ids=["u", "I"]
)
def test_prospective_above_the_threshold(kind, least):
    """The neuron runs ahead of its input exactly where γ exceeds the bound below Eq. 37, or Eq. 39 (measured in a
    simulation of slow input)."""
    omega, period = 0.05, round(2 * np.pi / 0.05 / DT)
    current = torch.cos(omega * DT * torch.arange(3 * period, dtype=torch.float64))
    carrier = torch.exp(-1j * omega * DT * torch.arange(2 * period, 3 * period))
    for factor, ahead in [(0.9, False), (1.1, True)]:
        u = simulate(kind(TAU_M, TAU_W, factor * least), current, DT, "exponential")[-period:]
        # held input comes half a step late
        phase = torch.angle((u * carrier).sum() / (current[-period:] * carrier).sum()).item() + omega * DT / 2
        assert (phase > 0) is ahead
        assert abs(phase) > 1e-4


def test_bad_input():
    with pytest.raises(ValueError, match="tau_w must be positive, got 0"):
        UAdaptation(1.0, 0.0, 1.0)
    with pytest.raises(ValueError, match="dt must be a positive number"):
        simulate(NEURONS[0], torch.zeros(3), 0.0)
    with pytest.raises(ValueError, match=r"dt = 2 makes euler steps grow .* lower dt"):
        simulate(NEURONS[0], torch.zeros(3), 2.0)
    assert simulate(NEURONS[0], torch.ones(50), 2.0, "exponential").isfinite().all()
