"""gle.save and gle.load: what comes back predicts what was saved, and what cannot come back says so."""

import subprocess
import sys
import zipfile

import pytest
import torch
from nets import DT, flat, mixed_network, signals

import gle
from gle.integrators import Euler

ALL = ("W", "b", "tau_m", "tau_r")


def trained(integrator="euler", ensemble=(), dtype=torch.float64, **kw):
    net = mixed_network(ensemble, dtype=dtype, **kw)
    beta = torch.linspace(0.5, 1.0, 3, dtype=dtype) if ensemble else 0.7
    sim = gle.Simulation(
        net, dt=DT, integrator=integrator, cost="cross_entropy", beta=beta, gamma=0.1,
        plasticity=gle.Plasticity(lr=0.01, learn=ALL),
    )  # fmt: skip
    sim.run(*signals(12, members=ensemble, dtype=dtype))
    return sim


@pytest.mark.parametrize(
    ("integrator", "ensemble", "dtype", "settings"),
    [
        ("euler", (), torch.float64, {}),
        (Euler("instant"), (3,), torch.float64, {"feedback": "fixed_random"}),
        ("exponential", (), torch.bfloat16, {"bias": False, "errors": "instantaneous"}),
        ("rk4", (), torch.float32, {"phi": "softplus"}),
    ],
)
def test_a_simulation_comes_back(integrator, ensemble, dtype, settings, tmp_path):
    """Prevents: a file without the integrator, the dtype or the feedback weights that the results hang on."""
    sim = trained(integrator, ensemble, dtype, **settings)
    sim.network.layers[1].requires_grad_(False)
    sim.network.layers[2].plastic = False
    x, _ = signals(9, dtype=dtype)
    gle.save(tmp_path / "net.pt", sim)
    again = gle.load(tmp_path / "net.pt")
    assert again.plasticity is None
    assert again.integrator.propagation == sim.integrator.propagation
    assert type(again.dynamics.cost) is type(sim.dynamics.cost)
    assert again.dynamics[:1] == sim.dynamics[:1]
    assert torch.equal(torch.as_tensor(again.dynamics.beta), torch.as_tensor(sim.dynamics.beta))
    assert again.dynamics.gamma == 0.1
    assert torch.equal(again.predict(x)[0], sim.predict(x)[0])
    for p, q in zip(flat(again.network.theta(), (*ALL, "B")), flat(sim.network.theta(), (*ALL, "B")), strict=True):
        assert p.dtype == q.dtype
        assert torch.equal(p, q)
    for a, b in zip(again.network.layers, sim.network.layers, strict=True):
        assert (repr(a.errors), a.plastic, a.phi) == (repr(b.errors), b.plastic, b.phi)
        assert a.learned(ALL) == b.learned(ALL)
    assert [p.name for p in tmp_path.iterdir()] == ["net.pt"]


def test_a_network_comes_back_in_another_process(tmp_path):
    sim = trained()
    gle.save(tmp_path / "net.pt", sim.network)
    program = (
        f"import torch, gle; net = gle.load({str(tmp_path / 'net.pt')!r}); x = torch.ones(5, 1, 2).double(); "
        f"print(gle.Simulation(net, dt={DT}).predict(x)[0].sum().item())"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    x = torch.ones(5, 1, 2, dtype=torch.float64)
    assert float(ended.stdout) == gle.Simulation(sim.network, dt=DT).predict(x)[0].sum().item()


def test_a_frozen_simulation_takes_a_trained_state():
    """Prevents: a plasticity that has to be made only to evaluate."""
    sim, frozen = trained(), gle.Simulation(mixed_network(seed=50), dt=DT)
    frozen.load_state_dict(sim.state_dict())
    x, _ = signals(6)
    assert torch.equal(*(s.predict(x, state=s.carry.state)[0] for s in (sim, frozen)))
    assert (frozen.network.layers[0].W - mixed_network(seed=50).layers[0].W).abs().max() > 1e-2


class OwnCost(gle.costs.MeanSquaredError):
    pass


OWN = gle.Activation("own", torch.tanh, lambda r: 1 - r * r)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gle.Simulation(mixed_network(), dt=DT, cost=OwnCost()), "cost OwnCost is none of mse, cross_entropy"),
        (lambda: mixed_network(phi=OWN), "activation own is none of linear"),
        (
            lambda: gle.Simulation(mixed_network(), dt=DT, integrator=Euler(fraction=lambda dt, tau: dt / tau)),
            "a fraction of one's own",
        ),
        (lambda: mixed_network().layers[0], "a Network or a Simulation can be saved, not a Layer"),
    ],
)
def test_what_cannot_be_made_again_is_not_saved(make, message, tmp_path):
    """Prevents: a file that only fails when it is needed."""
    with pytest.raises(ValueError, match=message):
        gle.save(tmp_path / "net.pt", make())
    assert not list(tmp_path.iterdir())


def changed(contents, *path, to):
    place = contents
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = to


@pytest.mark.parametrize(
    ("path", "to", "message"),
    [
        (("layout",), 99, "its layout is 99, this version reads 1"),
        (("dtype",), "int8", "dtype 'int8' is none of"),
        (("layers", 0, "phi"), "splash", "activation 'splash' is none of"),
        (("layers", 0, "n_out"), 5, "layer 1 takes 4 inputs, but the layer below has 5"),
        (("layers", 2, "n_out"), 5, r"layers\.2\.\w+ does not fit the layers that the file describes"),
        (("layers", 0, "bias"), "yes", "bias = 'yes' is no bool"),
        (("parameters", "layers.0.W"), torch.zeros(3), r"layers\.0\.W does not fit"),
        (("parameters", "layers.9.W"), torch.zeros(3), r"layers\.9\.W does not fit"),
        (("dynamics", "integrator"), "leapfrog", "integrator 'leapfrog' is none of euler"),
        (("dynamics", "dt"), -1.0, "dt must be a positive number"),
        (("dynamics",), {"dt": 0.1}, "dynamics should have dt, integrator"),
    ],
)
def test_files_of_something_else(path, to, message, tmp_path):
    """One line that names the file and what is wrong. Prevents: a network that is another than the one that was
    saved."""
    file = tmp_path / "net.pt"
    gle.save(file, trained())
    contents = torch.load(file, weights_only=True)
    changed(contents, *path, to=to)
    torch.save(contents, file)
    with pytest.raises(ValueError, match=rf"net\.pt holds no network of this version: .*{message}"):
        gle.load(file)


def test_damaged_files(tmp_path):
    """Prevents: a flipped bit in a weight that loads."""
    file = tmp_path / "net.pt"
    gle.save(file, trained())
    whole = file.read_bytes()
    with zipfile.ZipFile(file) as parts:
        largest = max(parts.infolist(), key=lambda part: part.file_size)
    flipped = bytearray(whole)
    flipped[largest.header_offset + 200] ^= 4
    for content in (whole[: len(whole) // 2], b"nothing", bytes(flipped)):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"net\.pt holds no network of this version: .*damaged"):
            gle.load(file)
    with pytest.raises(ValueError, match="there is no file"):
        gle.load(tmp_path / "nowhere.pt")


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "net.pt"
    gle.save(file, mixed_network(seed=1))
    before = file.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        gle.save(file, mixed_network(seed=2))
    assert file.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["net.pt"]
