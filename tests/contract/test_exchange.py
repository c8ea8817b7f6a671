"""Networks in other programs: judged by programs that are not ours."""

import re
from graphlib import TopologicalSorter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

import gle
import hrm
from gle.integrators import Euler, Exponential
from hrm.act import Halting
from hrm.gradients import run
from hrm.tasks import sudoku

nir = pytest.importorskip("nir")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

LINES = re.findall(
    r"```python\n(.*?)```", (Path(__file__).parents[2] / "docs" / "exchange.md").read_text("utf-8"), re.DOTALL
)
TAUS = {"tau_m": [0.6, 1.2, 1.2, 0.9], "tau_r": [0.2, 0.3, 1.2, 1.5]}


def chain(ensemble=(), **kw):
    """2 → 4 → 4 → 4 → 3, linear but for the last, with mixed time constants."""
    common = {"dtype": torch.float64, "ensemble": ensemble, **kw}
    net = gle.Network(
        [
            gle.Layer(2, 4, phi="linear", **TAUS, **common),
            gle.Layer(4, 4, phi="linear", depth=2, bias=False, **TAUS, **common),
            gle.Layer(4, 3, phi="spike", tau_m=1.0, tau_r=0.2, **common),
        ],
        seed=5,
    )
    with torch.no_grad():
        net.layers[2].W.mul_(8)  # so that it spikes
    return net


def any_wiring():
    """Skips, a mask, a diagonal, an identity, several inputs, an output that is not the last."""
    leaky = {"tau_r": 0.3, "phi": "linear"}
    mask = torch.tensor([[1, 0, 1, 1], [0, 1, 1, 0], [1, 1, 0, 0]])
    return gle.Graph(
        2,
        {
            "out": gle.Population(3, tau_m=0.5, **leaky),
            "a": gle.Population(4, tau_m=1.0, **leaky),
            "b": gle.Population(4, tau_m=[0.5, 1.0, 1.5, 2.0], **leaky),
            "c": gle.Population(4, tau_m=2.0, bias=False, **leaky),
        },
        [
            gle.Projection("input", "a"),
            gle.Projection("a", "b", synapse="diagonal"),
            gle.Projection("input", "b", bias=True),
            gle.Projection("b", "c", synapse="identity"),
            gle.Projection("c", "out", synapse=gle.synapses.Masked(mask)),
            gle.Projection("a", "out"),
        ],
        output="out",
        dtype=torch.float64,
    )


def images():
    common = {"phi": "linear", "tau_r": 0.3, "dtype": torch.float64}
    conv = gle.synapses.Conv2d((1, 2), (4, 3), (3, 2), stride=(1, 2), padding=(1, 0))
    tau_m = torch.linspace(0.5, 2.0, conv.n_out)
    return gle.Network(
        [gle.Layer(12, conv.n_out, synapse=conv, tau_m=tau_m, **common), gle.Layer(conv.n_out, 3, tau_m=1.0, **common)]
    )


NETS = {"chain": chain, "graph": any_wiring, "images": images}


def signal(net, steps=200, batch=3):
    return 2 * torch.randn(steps, batch, net.n_in, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


# -- NIR ---------------------------------------------------------------------------------------------------------------


def interpreted(path, x, dt, exact=False):
    """The graph in a file, by what NIR says of its nodes and nothing else; x: [time, batch, features]. Leaky
    integrators by Euler, or exactly for input held over a step; what a node says follows from the potentials before the
    step."""
    graph = nir.read(path)
    before = {k: [a for a, b in graph.edges if b == k] for k in graph.nodes}
    order = list(TopologicalSorter(before).static_order())
    v, outputs = {}, []
    for frame in x.numpy():
        said, moved = {}, {}
        for k in order:
            node = graph.nodes[k]
            heard = sum(said[a] for a in before[k]) if before[k] else frame.reshape(-1, *node.input_type["input"])
            if isinstance(node, nir.Affine):
                said[k] = heard @ node.weight.T + node.bias
            elif isinstance(node, nir.Linear):
                said[k] = heard @ node.weight.T
            elif isinstance(node, nir.Scale):
                said[k] = heard * node.scale
            elif isinstance(node, nir.Conv2d):
                (h, w), (sh, sw) = node.padding, node.stride
                padded = np.pad(heard, ((0, 0), (0, 0), (h, h), (w, w)))
                windows = np.lib.stride_tricks.sliding_window_view(padded, node.weight.shape[2:], axis=(2, 3))
                said[k] = np.einsum("bcyxij,ocij->boyx", windows[:, :, ::sh, ::sw], node.weight)
                said[k] = said[k] + node.bias[:, None, None]
            elif isinstance(node, nir.Flatten):
                said[k] = heard.reshape(len(heard), -1)
            elif isinstance(node, nir.Threshold):
                said[k] = (heard > node.threshold).astype(float)
            elif isinstance(node, nir.LI):
                said[k] = v.get(k, np.zeros_like(heard))
                a = -np.expm1(-dt / node.tau) if exact else dt / node.tau
                moved[k] = said[k] + a * (node.v_leak + node.r * heard - said[k])
            else:
                said[k] = heard
        v = moved
        outputs.append(said["output"])
    return np.stack(outputs)


@pytest.mark.parametrize("name", NETS)
def test_a_network_goes_to_nir_and_back(name, tmp_path):
    """By simulation, at two dt and by two schemes, in our hands and in those of an interpreter that knows NIR alone.
    Prevents: a dt in the file, a τr that is lost, weights that are transposed."""
    net, file = NETS[name](), tmp_path / "net.nir"
    gle.export.to_nir(file, net)
    again = gle.export.from_nir(file)
    assert type(again) is (gle.Network if name == "chain" else gle.Graph)
    x = signal(net)
    for dt, scheme in ((0.1, Euler("instant")), (0.05, Exponential("instant"))):
        expected, _ = gle.Simulation(net, dt=dt, integrator=scheme).predict(x)
        read, _ = gle.Simulation(again, dt=dt, integrator=scheme).predict(x)
        judged = interpreted(file, x, dt, exact=isinstance(scheme, Exponential))
        assert expected.std() > 0.05
        torch.testing.assert_close(read, expected, atol=1e-6, rtol=0)
        np.testing.assert_allclose(judged, expected, atol=1e-6, rtol=0)
    delayed = [gle.Simulation(n, dt=0.1).predict(x)[0] for n in (net, again)]
    torch.testing.assert_close(*delayed, atol=1e-6, rtol=0)
    assert (delayed[0] - expected).abs().max() > 1e-2
    assert [p.name for p in tmp_path.iterdir()] == ["net.nir"]


def test_a_member_in_another_unit_of_time(tmp_path):
    """The file has seconds, the network milliseconds, and a remark on the scheme that it was simulated with."""
    net, file = chain(ensemble=(2, 3)), tmp_path / "net.nir"
    sim = gle.Simulation(net, dt=0.1)
    gle.export.to_nir(file, sim, member=(1, 2), unit=1e-3)
    graph = nir.read(file)
    assert graph.metadata["dt"] == pytest.approx(1e-4)
    np.testing.assert_allclose(graph.nodes["layer0_li"].tau, np.array(TAUS["tau_m"]) * 1e-3)
    x = signal(net)
    read, _ = gle.Simulation(gle.export.from_nir(file, unit=1e-3), dt=0.1).predict(x)
    torch.testing.assert_close(read, sim.predict(x)[0][:, 1, 2], atol=1e-6, rtol=0)


def foreign(**changes):
    """As another program writes: a leaky integrator with a resistance, and spikes above a threshold of its own."""
    n = np.ones(3)
    nodes = {
        "input": nir.Input({"input": np.array([2])}),
        "weights": nir.Linear(np.array([[1.0, 2.0], [-1.0, 0.5], [3.0, 1.0]])),
        "lif.0": nir.LI(tau=0.5 * n, r=2.0 * n, v_leak=0.0 * n),
        "spikes": nir.Threshold(threshold=0.7 * n),
        "output": nir.Output({"output": np.array([3])}),
        **changes,
    }
    names = list(nodes)
    return nir.NIRGraph({k: v for k, v in nodes.items() if v}, list(pairwise(names)))


def test_files_of_others(tmp_path):
    """What such a leaky integrator says is its potential after the step."""
    file = tmp_path / "theirs.nir"
    nir.write(file, foreign())
    x = signal(gle.Network([gle.Layer(2, 3, tau_m=1.0, tau_r=1.0)]))
    ours, _ = gle.Simulation(gle.export.from_nir(file, dt=0.1), dt=0.1).predict(x)
    v, expected = np.zeros((3, 3)), []
    for frame in x.numpy():
        v = v + 0.1 / 0.5 * (2.0 * frame @ np.array([[1.0, 2.0], [-1.0, 0.5], [3.0, 1.0]]).T - v)
        expected.append(v > 0.7)
    assert 0.1 < np.mean(expected) < 0.9
    assert np.array_equal(ours.numpy(), expected)
    with pytest.raises(ValueError, match=r"theirs\.nir: 'lif\.0' is a leaky integrator that does not look ahead.*give"):
        gle.export.from_nir(file)


ONE = np.ones(3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spikes": nir.LIF(ONE, ONE, 0 * ONE, ONE)}, "GLE has nothing for node 'spikes', a LIF"),
        ({"lif.0": nir.LI(ONE, ONE, 0.1 * ONE)}, r"'lif\.0' has v_leak ≠ 0"),
        ({"lif.0": nir.LI(-ONE, ONE, 0 * ONE)}, r"time constants of 'lif\.0' would be"),
        ({"spikes": nir.Affine(np.eye(3), ONE)}, "node 'spikes', a Affine, stands neither before a leaky"),
        ({"spikes": nir.Threshold(0 * ONE)}, r"'lif\.0': a threshold must be positive"),
    ],
)
def test_what_is_not_read(changes, message, tmp_path):
    """Prevents: a network that is another than the file's."""
    nir.write(tmp_path / "theirs.nir", foreign(**changes))
    with pytest.raises(ValueError, match=rf"theirs\.nir: {message}"):
        gle.export.from_nir(tmp_path / "theirs.nir", dt=0.1)


def test_damaged_files(tmp_path):
    file = tmp_path / "net.nir"
    gle.export.to_nir(file, chain())
    whole = file.read_bytes()
    for content in (whole[: len(whole) // 2], b"nothing"):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"net\.nir holds no NIR graph"):
            gle.export.from_nir(file)
    with pytest.raises(ValueError, match="there is no file"):
        gle.export.from_nir(tmp_path / "nowhere.nir")


def graph_with(phi="linear", hidden="hidden", bias=True, **projection):
    given = {"tau_m": 1.0, "tau_r": 0.5, "phi": "linear"}
    populations = {hidden: gle.Population(16, **{**given, "phi": phi}, bias=bias), "out": gle.Population(16, **given)}
    joins = [gle.Projection("input", hidden), gle.Projection(hidden, "out", **projection)]
    return gle.Graph(16, populations, joins)


CONV = gle.synapses.Conv2d((1, 1), (4, 4), 3, padding=1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: graph_with(phi="tanh"), "no nodes for φ = tanh of 'hidden'"),
        (
            lambda: graph_with(phi=gle.Activation("linear", lambda u: 2 * u, lambda r: 2 * torch.ones_like(r))),
            "no nodes",
        ),
        (lambda: graph_with(delay=1), "the delay by a step of hidden → out"),
        (lambda: graph_with(synapse=gle.synapses.Tokens(4)), "no node for the Tokens synapses of 'out'"),
        (lambda: graph_with(synapse=CONV), "cannot make an image of what comes from 'hidden'"),
        (lambda: graph_with(hidden="a/b"), "a population called 'a/b'"),
        (lambda: chain(ensemble=2), r"member = \(\): NIR holds one network, give an index for each axis of \(2,\)"),
        (lambda: chain().layers[0], "a Network, a Graph or a Simulation can be written, not a Layer"),
    ],
)
def test_what_is_not_written(make, message, tmp_path):
    """By name, and before there is a file. Prevents: a network without its φ in another program."""
    with pytest.raises(ValueError, match=message):
        gle.export.to_nir(tmp_path / "net.nir", make())
    assert not list(tmp_path.iterdir())


def test_what_a_convolution_leaves_no_place_for(tmp_path):
    net = gle.Graph(
        16,
        {"out": gle.Population(16, tau_m=1.0, tau_r=0.5, phi="linear")},
        [gle.Projection("input", "out", synapse=CONV)],
    )
    with pytest.raises(ValueError, match="no node for a bias of each neuron of 'out': give its convolution the bias"):
        gle.export.to_nir(tmp_path / "net.nir", net)


# -- the lines of the page, and ONNX -----------------------------------------------------------------------------------


def test_lines_on_nir(tmp_path, monkeypatch, capsys):
    """As printed; what it prints is dt, the difference, and how large the outputs are."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    exec(LINES[0], {})
    for line in capsys.readouterr().out.splitlines():
        _, off, size = map(float, line.split())
        assert off < 1e-6
        assert size > 0.01


def test_lines_on_a_step(tmp_path, monkeypatch):
    """As printed, from a saved simulation; then another batch, some of whose samples begin anew on the way."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    x = torch.randn(20, 4, 1)
    scope = {"gle": gle, "tau": torch.linspace(0.2, 2.0, 8), "x": x}
    exec(LINES[1], scope)
    sim = gle.load("net.pt")
    expected, _ = sim.predict(x)
    np.testing.assert_allclose(np.stack(scope["answers"]), expected, atol=1e-5, rtol=0)
    assert expected.std() > 0.05

    x = torch.randn(10, 7, 1)
    first, second = sim.predict(x)[0], sim.predict(x[5:])[0]
    state = {
        i.name: np.ones([7 if n == "batch" else n for n in i.shape], np.float32) for i in scope["step"].get_inputs()
    }
    anew = np.arange(7) > 3
    for t, frame in enumerate(x.numpy()):
        state |= {"start": anew if t == 5 else np.full(7, t == 0), "input": frame}
        out = dict(zip(scope["names"], scope["step"].run(None, state)))
        state = {name.removeprefix("next_"): value for name, value in out.items() if name != "output"}
        rest = torch.where(torch.from_numpy(anew)[:, None], second[t - 5], first[t]) if t >= 5 else first[t]
        np.testing.assert_allclose(out["output"], rest, atol=1e-5, rtol=0)


def test_lines_on_a_segment(tmp_path, monkeypatch):
    """As printed, from a file of weights: what `solve` thinks; then a batch, with carries of its own."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    task = sudoku.Sudoku(4, None, None, None)
    small = {"d": 8, "H_layers": 1, "L_layers": 1, "H_cycles": 1, "L_cycles": 1, "multiple": 8, "mixer": "conv"}
    model = hrm.HRM(hrm.Config(vocabulary=task.vocabulary, length=16, columns=4, **small))
    with torch.no_grad():
        model.q_head.weight.normal_(std=0.3)
    model.save("0-best.pt", task, Halting(3))
    scope = {"np": np, "onnxruntime": onnxruntime}
    exec(LINES[2], scope)
    steps = scope["model"].solve("1... ..2. .3.. ...4").steps
    assert np.array_equal([scope["model"].notation.numbers(t) for t in scope["thoughts"]], steps)

    x, carry = torch.randint(5, (6, 16)), model.initial(6)
    carry = type(carry)(*(torch.randn_like(z) for z in carry))
    given = {"carry.L": carry.L.numpy(), "carry.H": carry.H.numpy(), "x": x.numpy(), "start": np.zeros(6, bool)}
    out = dict(zip(scope["names"], scope["segment"].run(None, given)))
    with torch.no_grad():
        after = run(model, carry, model.embed(x), 0, 1)
        answer = model.read_out(after)
    expected = {**answer._asdict(), "next_carry.L": after.L, "next_carry.H": after.H}
    assert out.keys() == expected.keys()
    for name, value in expected.items():
        assert value.std() > 0.01
        np.testing.assert_allclose(out[name], value, atol=1e-5, rtol=0)


def test_what_is_no_step(tmp_path):
    for item in (chain(), gle.Simulation(chain(dtype=torch.bfloat16), dt=0.1)):
        with pytest.raises(ValueError, match=r"of a Simulation, which has the dt|in torch\.bfloat16 is not written"):
            gle.export.to_onnx(tmp_path / "step.onnx", item)
    with pytest.raises(ValueError, match=r"an HRM, or what hrm\.load gives, can be written, not a Network"):
        hrm.export.to_onnx(tmp_path / "segment.onnx", chain())
    assert not list(tmp_path.iterdir())
