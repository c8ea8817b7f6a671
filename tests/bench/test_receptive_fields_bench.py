"""The benchmark of Fig. 7: the centres of the windows."""

import numpy as np
import torch

from bench import receptive_fields as bench


def test_centres(smoke):
    """Σ (τm − τr), from the options alone, plus a step per layer; noise finds it within its error.

    Prevents: an expected centre and a measured one that are wrong alike.
    """
    result = smoke("receptive_fields").result
    layers = np.arange(2)[:, None]
    expected = (layers + 1) * np.array([m - r for m, r in result["taus"]]) + layers * result["dt"]
    for row in result["chains"].values():
        np.testing.assert_allclose(row["expected"], expected, rtol=1e-12)
        np.testing.assert_allclose(row["impulse"], expected, atol=1e-3)
        off = (np.array(row["noise"]) - expected) / row["noise_error"]
        assert np.abs(off).max() < 6  # the error itself is uncertain with ten parts
    assert result["chains"]["linear"]["agreement"]["cosine"] > 0.9


def test_chains_do_not_mix():
    """Each chain listens to itself alone, and to the one input; also with as many chains as inputs."""
    for taus in ([(0.4, 0.1)], [(0.4, 0.1), (1.0, 0.5)]):
        first, *above = bench.chains(bench.ReceptiveFields(taus=taus, layers=3), "linear").layers
        assert (first.W == 1).all()
        for layer in above:
            torch.testing.assert_close(layer.W.detach(), torch.eye(len(taus)).double().expand_as(layer.W))
