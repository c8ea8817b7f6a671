"""The benchmark of Fig. 7: its smoke run, the centres of the windows, and bad input."""

import json

import numpy as np
import pytest
import torch

from bench import receptive_fields as bench


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    folder = bench.main(["--smoke", "true", "--runs", str(runs)])
    return folder, json.loads((folder / "result.json").read_text())


def test_smoke(smoke):
    folder, result = smoke
    figures = {"chains.png", "centres.png", "dense.png", "spatiotemporal.png"}
    assert {p.name for p in folder.iterdir()} == {"config.yaml", "env.json", "result.json"} | figures
    assert [(r["features"], r["phi"]) for r in result["dense"]] == [(n, p) for n in (1, 2) for p in ("linear", "tanh")]
    assert np.array(result["dense"][-1]["kernels"]).shape == (2, 2, 100)  # neurons, inputs, lags
    assert "τm" in bench.tables(result)


def test_centres(smoke):
    """Σ (τm − τr), from the options alone, plus a step per layer; noise finds it within its error.

    Prevents: an expected centre and a measured one that are wrong alike.
    """
    _, result = smoke
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
        first, *above = bench.chains(bench.Options(taus=taus, layers=3), "linear").layers
        assert (first.W == 1).all()
        for layer in above:
            torch.testing.assert_close(layer.W.detach(), torch.eye(len(taus)).double().expand_as(layer.W))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--dt", "0"], "dt must be a positive number, got 0"),
        (["--dt", "0.2"], "tau_r = 0.1 in layer 0 is below dt = 0.2"),
        (["--window", "0.1"], "a window of 0.1 is shorter than two steps"),
        (["--layers", "0"], "layers must be at least 1, got 0"),
        (["--batch", "5"], "batch must be at least 10, got 5"),
        (["--noise", "0"], "noise must be positive, got 0"),
        (["--taus", "[]"], "must not be empty"),
        (["--taus", "[[1.0, -0.1]]"], "tau_r must be positive, got -0.1"),
        (["--phi", "[step]"], "unknown activation 'step'"),
    ],
)
def test_bad_input(flags, message, tmp_path):
    """One line that names the value, and nothing is written."""
    with pytest.raises(SystemExit) as stop:
        bench.main([*flags, "--runs", str(tmp_path)])
    assert message in str(stop.value)
    assert not list(tmp_path.iterdir())
