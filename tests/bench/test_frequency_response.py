"""The benchmark of Figs. 3, 11 and 12: what it measures."""

import numpy as np
import pytest
import torch

from bench import frequency_response as bench
from gle import operators


def test_deviations(smoke):
    """Sines and the chirp agree with the closed form far better than the 1e-3 asked for."""
    result = smoke("frequency_response").result
    rows = [*result["operators"].values(), *result["adaptation"].values()]
    assert len(rows) == 11
    for row in rows:
        for source in ("sine_deviation", "chirp_deviation"):
            assert max(row[source].values()) < 1e-6
    for row in result["ratios"].values():
        assert max(row["deviation"].values()) < 1e-6


def test_closed_forms_tell_of_the_paper_s_operators(smoke):
    """Prevents: a closed form that agrees with the simulation while both are another operator than the figure says."""
    result = smoke("frequency_response").result
    omega, dt = np.array(result["omega"]), result["dt"]
    for name, row in result["operators"].items():
        exact = np.array(row["continuous"]["gain"]) * np.exp(1j * np.array(row["continuous"]["phase"]))
        measured = np.array(row["sine"]["gain"]) * np.exp(1j * np.array(row["sine"]["phase"]))
        # a step's worth of phase, and dt/τr of gain
        assert (np.abs(measured / exact - 1) < 1.5 * omega * dt).all(), name
    # and the theory behind them, from the definitions alone
    i = 1j * omega
    theory = {
        "I⁻": 1 / (1 + i), "D⁺": 1 + i, "I⁺": 1 / (1 - i), "D⁻": 1 - i,
        "r": (1 + 0.1 * i) / (1 + i), "e": (1 + i) / (1 + 0.1 * i), "λ": (1 - 0.1 * i) / (1 - i),
    }  # fmt: skip
    for name, expected in theory.items():
        row = result["operators"][name]["continuous"]
        np.testing.assert_allclose(row["gain"], np.abs(expected))
        np.testing.assert_allclose(row["phase"], np.angle(expected))


def test_ratios_of_time_constants():
    """Fig. 11, measured: r lags for τr < τm and leads for τr > τm, by τr < 0 most; e and λ do the opposite, in phase;
    at τr = ± τm the gains are 1."""
    o = bench.FrequencyResponse(dt=0.02, ratios=(-1.0, 2.0), ratio_points=6, settle=24)
    result = bench.measure_ratios(o)
    ratio = np.array(result["ratio"])
    phase, gain = ({k: np.array(v[what]) for k, v in result["ratios"].items()} for what in ("phase", "gain"))
    np.testing.assert_allclose(phase["e"], phase["λ"], atol=1e-9)
    np.testing.assert_allclose(phase["e"], -phase["r"], atol=1e-9)
    np.testing.assert_allclose(gain["e"] * gain["λ"], 1, rtol=1e-9)
    np.testing.assert_allclose(gain["r"], gain["λ"], rtol=1e-9)
    assert ((phase["r"] > 0) == (ratio > 1)).all()
    assert (np.diff(phase["r"]) > 0).all()
    # continuous time, from the definition, up to dt
    expected = (1 + 1j * ratio) / (1 + 1j)
    np.testing.assert_allclose(gain["r"] * np.exp(1j * phase["r"]), expected, atol=0.015)
    assert gain["r"][0] == pytest.approx(1, abs=0.015)


@pytest.mark.parametrize("scheme", ["euler", "exponential"])
def test_negative_and_positive_from_the_same_operators(scheme):
    """The filters that serve negative τr, at positive τr: the toolkit's neuron.

    Prevents: a measurement at τr < 0 that is not of the same neuron.
    """
    o = bench.FrequencyResponse(dt=0.05, scheme=scheme, ratios=(-1.5, -0.5), ratio_points=3)
    for row in bench.measure_ratios(o)["ratios"].values():
        assert max(row["deviation"].values()) < 1e-9
    negative = bench.Negative(1.0, torch.tensor([0.3, 2.0], dtype=torch.float64), 0.05, scheme)
    omega = np.array([1.0])
    gain = bench.sine_response(negative.representation, omega, 0.05, 40)[0]
    neuron = bench.sine_response(bench.representation(1.0, [0.3, 2.0], 0.05, scheme), omega, 0.05, 40).reshape(-1)
    np.testing.assert_allclose(gain, neuron, rtol=1e-10)


def test_order_of_the_integrators():
    """The step table shows what the integrators declare: first order, and RK4 fourth."""
    schemes = ["euler", "exponential", "rk4"]
    o = bench.FrequencyResponse(tau_r=0.2, points=3, dts=[0.15, 0.075], integrators=schemes, settle=18)
    rows = bench.measure_steps(o)["steps"]
    for integrator, order in (("euler", 1), ("exponential", 1), ("rk4", 4)):
        coarse, fine = (r for r in rows if r["integrator"] == integrator)
        for name in ("r", "e"):
            slow = [r[name]["difference"][0] for r in (coarse, fine)]  # at ωτ = 0.1
            assert np.log2(slow[0] / slow[1]) == pytest.approx(order, abs=0.3)
    theory = operators.neuron_response(np.array([0.1, 1.0, 10.0]), 1.0, 0.2)
    np.testing.assert_allclose(rows[-1]["r"]["gain"], np.abs(theory), rtol=1e-3)
