"""The NeuroBench harness against counts of our own, and against closed forms."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import gle
from bench.models import harness
from gle.integrators import Euler

pytest.importorskip("neurobench")


def network(phi="relu", ensemble=()):
    net = gle.Network(
        [
            gle.Layer(3, 8, tau_m=1.0, tau_r=0.5, phi=phi, ensemble=ensemble),
            gle.Layer(8, 8, depth=2, tau_m=2.0, tau_r=1.0, phi=phi, ensemble=ensemble),
            gle.Layer(8, 1, tau_m=1.0, tau_r=1.0, phi="linear", ensemble=ensemble),
        ],
        1,
    )
    with torch.no_grad():
        net.layers[0].W[..., ::2] = 0  # of three inputs, the first and the last say nothing
    return net


def stimulus():
    return torch.randn(2, 40, 3, generator=torch.Generator().manual_seed(0))


def test_outputs_are_the_simulation_s():
    net, x = network(), stimulus()
    expected, _ = gle.Simulation(net, dt=0.1, integrator=Euler("instant")).predict(x.transpose(0, 1))
    unrolled = harness.Unrolled(net, 0.1)
    for _ in range(2):  # from rest each time
        torch.testing.assert_close(unrolled(x).transpose(0, 1), expected)


@pytest.mark.parametrize("member", [(), (1,)])
def test_harness_counts_as_we_do(member):
    """Prevents: a harness that finds no connection or activation, and reports zeros without a word."""
    net, x = network(ensemble=(2,) if member else ()), stimulus()
    said, own = harness.measured(net, 0.1, x, member), harness.counted(net, 0.1, x, member)
    assert said == pytest.approx(own, abs=1e-4)  # the harness rounds
    assert own["dense"] == 3 * 8 + 2 * 8 * 8 + 8
    assert own["connection_sparsity"] == pytest.approx(16 / (3 * 8 + 2 * 8 * 8 + 8))
    neurons = 8 + 16 + 1
    assert own["footprint"] == 4 * (3 * 8 + 2 * 8 * 8 + 8 + neurons + 3 * neurons)  # W, b, both τ and u
    assert 0.1 < own["activation_sparsity"] < 0.9
    assert 0 < own["effective"] < 0.9 * own["dense"]


def test_sparsity_follows_the_activation():
    """tanh is never at rest: nothing of it is sparse but the silent synapses."""
    assert harness.measured(network("tanh"), 0.1, stimulus())["activation_sparsity"] == 0
    assert harness.measured(network("relu"), 0.1, stimulus())["activation_sparsity"] > 0.1


def test_wrapped_by_hand():
    """As the README shows it; several batches."""
    from neurobench.benchmarks import Benchmark
    from neurobench.metrics.static import ParameterCount
    from neurobench.metrics.workload import MSE

    net, x = network(), stimulus()
    y, _ = gle.Simulation(net, dt=0.1, integrator=Euler("instant")).predict(x.transpose(0, 1))
    loader = DataLoader(TensorDataset(x, y.transpose(0, 1) + 2), 1)
    said = Benchmark(harness.model(net, 0.1), loader, [], [], [[ParameterCount], [MSE]]).run(quiet=True)
    assert said["ParameterCount"] == net.n_parameters()
    assert said["MSE"] == pytest.approx(4, rel=1e-5)


def test_bad_input():
    with pytest.raises(ValueError, match="does not name one of an ensemble"):
        harness.model(network(ensemble=(2,)), 0.1)
