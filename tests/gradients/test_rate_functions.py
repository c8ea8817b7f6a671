"""Ways back through rate functions and synapses, with autograd as the arbiter: a network of each kind whose gradients
are backprop's, where τm = τr makes neurons instantaneous; and, with time constants, BPTT and RTRL of the whole loop."""

from dataclasses import dataclass

import pytest
import torch
from torch.nn import functional as F

import gle
from gle import rules
from gle.integrators import Euler
from gle.neurons import Activation, Gated, RMSNorm, Softmax, Spike, Swish, rate_function
from gle.synapses import Conv2d, Diagonal, Masked, Positions, Tokens
from hrm import layers

D = torch.float64
STILL = {"tau_m": 1.0, "tau_r": 1.0}
MASK = torch.tensor([[1, 0, 1, 0], [0, 1, 0, 0], [1, 1, 1, 1]])
FUNCTIONS = [Swish(), Gated(), RMSNorm(), RMSNorm(3), Softmax(), Softmax(2), Spike(2.0)]


def tensors(*shapes, seed=1):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=g, dtype=D) for shape in shapes]


def cost_gradients(net, x, y, out):
    """Autograd's, of the mean over samples of ½ |y − out|²."""
    cost = 0.5 * (y - out).square().sum() / len(x)
    where = [(i, kind) for i, part in enumerate(net.parts) for kind in part.learned(("W", "b"))]
    values = [getattr(net.parts[i], kind) for i, kind in where]
    return where, torch.autograd.grad(cost, values)


def gle_gradients(net, x, y):
    sim = gle.Simulation(net, dt=0.1, integrator=Euler("instant"))
    return rules.assign(rules.GLE(), sim, x.unsqueeze(0), y.unsqueeze(0))


def same(net, x, y, out, atol=1e-12):
    credit = gle_gradients(net, x, y)
    torch.testing.assert_close(credit.outputs[0], out.detach(), atol=atol, rtol=0)
    for (i, kind), expected in zip(*cost_gradients(net, x, y, out), strict=True):
        assert expected.abs().max() > 1e-4, net.part_name(i)
        torch.testing.assert_close(getattr(credit.grads[i], kind), expected, atol=atol, rtol=0)


@pytest.mark.parametrize("phi", FUNCTIONS, ids=repr)
def test_instantaneous_layers_are_backprop(phi):
    """Prevents: a wrong pull-back, a compartment in another's place, pooling over samples."""
    n = 6
    net = gle.Network(
        [
            gle.Layer(4, n, phi=phi, dtype=D, **STILL),
            gle.Layer(n, n, phi=phi, depth=2, dtype=D, **STILL) if len(phi.compartments) == 1 else
            gle.Layer(n, n, phi="swish", dtype=D, **STILL),
            gle.Layer(n, 2, phi="linear", dtype=D, **STILL),
        ],
        seed=2,
    )  # fmt: skip
    if isinstance(phi, Spike):
        with torch.no_grad():  # currents that reach the threshold
            for layer in net.layers:
                layer.W.mul_(4.0)
    x, y = tensors((5, 4), (5, 2))
    r = x
    for i, d in net.places():
        layer = net.layers[i]
        r = layer.phi.rate(r @ layer.W[d].mT + layer.b[d])[0]
    same(net, x, y, r)


def test_rate_functions_are_those_of_torch():
    """Prevents: a swish by name alone."""
    (u,) = tensors((5, 12))
    for phi, expected in (
        (Swish(), F.silu(u)),
        (Gated(), u[:, :6] * F.silu(u[:, 6:])),
        (RMSNorm(eps=1e-5), F.rms_norm(u, (12,), eps=1e-5)),
        (RMSNorm(3, eps=1e-5), F.rms_norm(u.unflatten(-1, (3, 4)), (4,), eps=1e-5).flatten(-2)),
        (Softmax(2), torch.softmax(u.unflatten(-1, (2, 6)), -1).flatten(-2)),
        (Spike(), (u > 1).double()),
    ):
        torch.testing.assert_close(phi.rate(u)[0], expected, atol=1e-14, rtol=1e-12)
    found = Spike(2.0).pull(Spike(2.0).rate(u)[1], u, torch.ones_like(u))
    torch.testing.assert_close(found, 1 / (1 + 2 * (u - 1).abs()) ** 2)


@pytest.mark.parametrize("phi", FUNCTIONS, ids=repr)
@pytest.mark.parametrize("integrator", [Euler(), Euler("instant"), "rk4"], ids=str)
def test_what_bptt_finds_rtrl_finds(phi, integrator):
    """Prevents: a reference that leaves out what a rate function keeps."""
    net = gle.Network([gle.Layer(3, 6, tau_m=1.0, tau_r=0.4, phi=phi, dtype=D)], seed=1)
    x, y = tensors((12, 2, 3), (12, 2, 6))
    sim = gle.Simulation(net, dt=0.2, integrator=integrator)
    exact = rules.assign(rules.BPTT(), sim, x, y).grads
    other = rules.assign(rules.RTRL(), sim, x, y).grads
    for kind in ("W", "b"):
        assert getattr(exact[0], kind).abs().max() > 1e-3
        torch.testing.assert_close(getattr(other[0], kind), getattr(exact[0], kind), atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("phi", [Swish(), Gated(), RMSNorm()], ids=repr)
def test_errors_advance_as_for_tanh(phi):
    """With time constants, GLE's gradients stand to BPTT's as they do for tanh: the same phase, so a cosine near one
    for slow input, and less without prospective errors.

    Prevents: a pull-back of another instant than the error's.
    """
    t = 0.1 * torch.arange(400, dtype=D)
    g = torch.Generator().manual_seed(4)
    phase = 6.3 * torch.rand(5, generator=g, dtype=D)
    slow = torch.sin(0.5 * t[:, None, None] + phase)
    cosines = {}
    for errors in ("prospective", "instantaneous"):
        common = {"tau_m": 1.0, "tau_r": 0.2, "errors": errors, "dtype": D}
        net = gle.Network(
            [gle.Layer(3, 6, phi=phi, **common), gle.Layer(6, 6, **common), gle.Layer(6, 2, phi="linear", **common)],
            seed=6,
        )
        sim = gle.Simulation(net, dt=0.1, integrator=Euler("instant"))
        x, y = slow[..., :3], slow[..., 3:]
        a, b = (rules.assign(rule, sim, x, y).grads[0].W.flatten() for rule in (rules.GLE(), rules.BPTT()))
        assert min(a.norm(), b.norm()) > 1e-3
        cosines[errors] = float(a @ b / a.norm() / b.norm())
    assert cosines["prospective"] > 0.95
    assert cosines["prospective"] > cosines["instantaneous"]


def conv_chain():
    conv = Conv2d((1, 2), (4, 4), 3)
    common = {"tau_m": 1.0, "tau_r": 0.5, "dtype": D}
    return gle.Network(
        [gle.Layer(16, 8, synapse=conv, **common), gle.Layer(8, 2, phi="linear", **common)]
    )  # fmt: skip


@pytest.mark.parametrize("ensemble", [(), (2,)])
def test_convolutions_under_every_rule(ensemble):
    """Prevents: axes of time that a synapse does not know."""
    conv = Conv2d((1, 2), (4, 4), 3)
    common = {"tau_m": 1.0, "tau_r": 0.5, "dtype": D, "ensemble": ensemble}
    net = gle.Network([gle.Layer(16, 8, synapse=conv, **common), gle.Layer(8, 2, phi="linear", **common)])
    x, y = tensors((8, 3, 16), (8, 3, 2))
    sim = gle.Simulation(net, dt=0.1)
    exact = rules.assign(rules.BPTT(), sim, x, y).grads[0].W
    matched = rules.assign(rules.Adjoint(matched=True), sim, x, y).grads[0].W
    assert exact.abs().max() > 1e-4
    torch.testing.assert_close(matched, exact, atol=1e-12, rtol=1e-9)
    assert rules.assign(rules.Instantaneous(), sim, x, y).grads[0].W.abs().max() > 1e-4


def test_predictions_of_normalised_series_of_several_lengths():
    net = gle.Network([gle.Layer(2, 6, phi=RMSNorm(3), dtype=D, **STILL), gle.Layer(6, 2, dtype=D, **STILL)])
    (x,) = tensors((7, 4, 2))
    sim = gle.Simulation(net, dt=0.1)
    r, state = sim.predict(x, lengths=[3, 5, 7, 1])
    alone, _ = sim.predict(x[:3, :1])
    torch.testing.assert_close(r[:3, :1], alone, atol=1e-12, rtol=0)
    assert state[0].kept[0].shape == (1, 4, 3)


@dataclass
class Own:
    """A rate function of a user's own, which cannot be hashed."""

    scale: float = 2.0
    name: str = "own"
    compartments: tuple = ("soma",)
    pooled: bool = False

    def rate(self, voltage):
        return self.scale * voltage, ()

    def pull(self, kept, r, received):
        return self.scale * received


def test_a_rate_function_of_ones_own():
    net = gle.Network([gle.Layer(3, 2, phi=Own(), dtype=D, **STILL)], seed=1)
    x, y = tensors((5, 3), (5, 2))
    same(net, x, y, 2 * (x @ net.layers[0].W[0].mT + net.layers[0].b[0]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gle.Layer(8, 8, phi="gated", synapse=Tokens(4), **STILL), "give each a projection of its own"),
        (lambda: RMSNorm(eps=0.0), "eps must be positive, got 0"),
        (lambda: Softmax("2"), "groups must be a whole number, got '2'"),
        (lambda: rate_function(Own), "phi must be the name of an activation"),
        (lambda: Conv2d((1, 1), (4, 4), (3, 3, 3)), "kernel must be one number or two"),
        (lambda: Positions(2.0), "positions must be a whole number, got 2"),
        (
            lambda: rules.assign(
                rules.RTRL(),
                gle.Simulation(gle.Network([gle.Layer(3, 2, phi="swish", dtype=D, **STILL)]), dt=0.1, gamma=0.5),
                *tensors((4, 2, 3), (4, 2, 2)),
            ),
            "with γ ≠ 0 this rule takes pointwise",
        ),
        (
            lambda: gle.Simulation(conv_chain(), dt=0.1, plasticity=gle.Plasticity(centred=5.0)),
            r"centred needs a bias of each neuron, those of layers\.0 share theirs",
        ),
        (
            lambda: gle.analysis.state_space.layer_state_space(
                gle.Network([gle.Layer(4, 3, synapse=Masked(MASK), **STILL)])
            ),
            "layer 0 has Masked synapses",
        ),
        (lambda: rate_function("swoosh"), "unknown activation 'swoosh'; choose one of linear, .* rms_norm"),
        (lambda: RMSNorm(0), "groups must be at least 1, got 0"),
        (lambda: Spike(0.0), "sharpness must be positive, got 0"),
        (lambda: rate_function(Wrong()), "rate function 'wrong': the error comes back as .* correct `pull`"),
        (lambda: rate_function(Flat()), "rate function 'flat': .* expected"),
        (lambda: rate_function(Swish), "phi must be the name of an activation"),
    ],
)
def test_bad_rate_functions(make, message):
    """Prevents: gradients that are wrong in silence."""
    with pytest.raises(ValueError, match=message):
        make()


class Wrong(Swish):
    name = "wrong"

    def pull(self, kept, r, received):
        return received


class Flat(Swish):
    name = "flat"
    compartments = ("one", "two")


# -- synapses ----------------------------------------------------------------------------------------------------------

IMAGE = (-1, (2, 5, 4))
SYNAPSES = {  # synapse, n_in, n_out, the same by torch
    "masked": (Masked(MASK), 4, 3, lambda x, W, b: x @ (W * MASK).mT + b),
    "diagonal": (Diagonal(), 5, 5, lambda x, W, b: x * W + b),
    "positions": (
        Positions(3), 6, 8,
        lambda x, W, b: (torch.einsum("op,bpf->bof", W, x.unflatten(-1, (3, 2))) + b[:, None]).flatten(1),
    ),
    "tokens": (Tokens(3), 6, 12, lambda x, W, b: F.linear(x.unflatten(-1, (3, 2)), W, b).flatten(1)),
    "conv2d": (Conv2d((2, 3), (5, 4), 3), 40, 18, lambda x, W, b: F.conv2d(x.unflatten(*IMAGE), W, b).flatten(1)),
    "strided": (
        Conv2d((2, 3), (5, 4), (3, 2), stride=(2, 1), padding=1), 40, 45,
        lambda x, W, b: F.conv2d(x.unflatten(*IMAGE), W, b, stride=(2, 1), padding=1).flatten(1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("ensemble", [(), (2,)])
@pytest.mark.parametrize("name", SYNAPSES)
def test_synapses_are_autograd(name, ensemble):
    """Prevents: a gradient or a way back along other axes than those of the current, for members and rows alike."""
    synapse, n_in, n_out, by_torch = SYNAPSES[name]
    shape_W, shape_b = synapse.shapes(n_in, n_out)
    lead = (1, *ensemble)
    W, b, r, e = tensors((*lead, *shape_W), (*lead, *shape_b), (*lead, 7, n_in), (*lead, 7, n_out))
    W, b, r = (t.requires_grad_() for t in (W, b, r))
    current = synapse.current(W, b, r)
    flat = [t.reshape(-1, *t.shape[len(lead) :]) for t in (r, W, b)]
    expected = torch.stack([by_torch(*parts) for parts in zip(*flat)]).reshape(current.shape)
    torch.testing.assert_close(current, expected, atol=1e-12, rtol=0)
    assert current.detach().std() > 0.1
    d_W, d_b, d_r = torch.autograd.grad(expected, (W, b, r), -e)
    found_W, found_b = synapse.gradient(e, r), synapse.bias_gradient(e, b)
    torch.testing.assert_close(found_W, d_W, atol=1e-12, rtol=0)
    torch.testing.assert_close(found_b, d_b, atol=1e-12, rtol=0)
    torch.testing.assert_close(synapse.backproject(W, None, e), -d_r, atol=1e-12, rtol=0)


def test_average_is_torch_s():
    pool = Conv2d((2, 2), (6, 4), 2, stride=2, average=True)
    assert pool.shapes(48, pool.n_out) == (None, None)
    r, e = tensors((1, 5, 48), (1, 5, 12))
    r.requires_grad_()
    expected = F.avg_pool2d(r[0].unflatten(-1, (2, 6, 4)), 2).flatten(1)
    torch.testing.assert_close(pool.current(None, None, r)[0], expected, atol=1e-14, rtol=0)
    (back,) = torch.autograd.grad(expected, r, e[0])
    torch.testing.assert_close(pool.backproject(None, None, e), back, atol=1e-14, rtol=0)


def test_small_convolutional_network_is_backprop():
    """Convolution, average, dense: at rest (constant input, leaky neurons, settled) the gradients are backprop's."""
    conv, pool = Conv2d((1, 3), (6, 6), 3), Conv2d((3, 3), (4, 4), 2, stride=2, average=True)
    leaky = {"tau_m": 1.0, "tau_r": 0.3}
    net = gle.Graph(
        36,
        {
            "conv": gle.Population(conv.n_out, bias=False, **leaky),
            "pool": gle.Population(pool.n_out, phi="linear", bias=False, **leaky),
            "out": gle.Population(2, phi="linear", **leaky),
        },
        [
            gle.Projection("input", "conv", synapse=conv, bias=True),
            gle.Projection("conv", "pool", synapse=pool),
            gle.Projection("pool", "out"),
        ],
        dtype=D,
    )
    x, y = tensors((4, 36), (4, 2))
    sim = gle.Simulation(net, dt=0.1)
    sim.run(x.expand(800, 4, 36), y.expand(800, 4, 2))
    credit = rules.assign(rules.GLE(), sim, x.unsqueeze(0), y.unsqueeze(0))
    first, last, out = net["input → conv"], net["pool → out"], net["out"]
    r = torch.tanh(F.conv2d(x.unflatten(-1, (1, 6, 6)), first.W[0], first.b[0]))
    r = F.avg_pool2d(r, 2).flatten(1) @ last.W[0].mT + out.b[0]
    for (i, kind), expected in zip(*cost_gradients(net, x, y, r), strict=True):
        assert expected.abs().max() > 1e-3
        torch.testing.assert_close(getattr(credit.grads[i], kind), expected, atol=1e-9, rtol=0)


# -- a whole block -----------------------------------------------------------------------------------------------------


def test_a_block_of_the_hierarchical_model():
    """Token mixing over positions, then over features, each gated, added to what came in and normalised: the block of
    `hrm.layers` as a graph, with its output and its gradients.

    Prevents: wiring that cannot say what the reasoning modules are made of.
    """
    P, d = 5, 4
    n = P * d
    theirs = layers.Block(layers.TokenMixer(P, 4.0, 4), d, 4.0, 4).to(D)
    mix, mlp = theirs.mixer.mlp, theirs.mlp
    hidden_P, hidden = (m.down.weight.shape[1] for m in (mix, mlp))
    still = {**STILL, "bias": False}
    norm = RMSNorm(P, eps=layers.EPS)
    net = gle.Graph(
        n,
        {
            "x": gle.Population(n, phi="linear", **still),
            "mix": gle.Population(hidden_P * d, phi="gated", **still),
            "mixed": gle.Population(n, phi=norm, **still),
            "mlp": gle.Population(P * hidden, phi="gated", **still),
            "out": gle.Population(n, phi=norm, **still),
        },
        [
            gle.Projection("input", "x", synapse="identity"),
            gle.Projection("x", "mix", "up", synapse=Positions(P)),
            gle.Projection("x", "mix", "gate", synapse=Positions(P)),
            gle.Projection("mix", "mixed", synapse=Positions(hidden_P)),
            gle.Projection("x", "mixed", synapse="identity"),
            gle.Projection("mixed", "mlp", "up", synapse=Tokens(P)),
            gle.Projection("mixed", "mlp", "gate", synapse=Tokens(P)),
            gle.Projection("mlp", "out", synapse=Tokens(P)),
            gle.Projection("mixed", "out", synapse="identity"),
        ],
        dtype=D,
    )
    pairs = {}
    with torch.no_grad():
        for block, name in ((mix, "mix"), (mlp, "mlp")):
            gate, up = block.gate_up.weight.chunk(2)
            before, after = ("x", "mixed") if name == "mix" else ("mixed", "out")
            pairs[f"{before} → {name}.up"], pairs[f"{before} → {name}.gate"] = up, gate
            pairs[f"{name} → {after}"] = block.down.weight
        for name, W in pairs.items():
            net[name].W[0].copy_(W)
    x, y = tensors((3, n), (3, n))
    out = theirs(x.unflatten(-1, (P, d))).flatten(1)
    credit = gle_gradients(net, x, y)
    torch.testing.assert_close(credit.outputs[0], out.detach(), atol=1e-12, rtol=0)
    (0.5 * (y - out).square().sum() / len(x)).backward()
    for block, name in ((mix, "mix"), (mlp, "mlp")):
        gate, up = block.gate_up.weight.grad.chunk(2)
        before, after = ("x", "mixed") if name == "mix" else ("mixed", "out")
        for label, expected in (
            (f"{before} → {name}.up", up),
            (f"{before} → {name}.gate", gate),
            (f"{name} → {after}", block.down.weight.grad),
        ):
            found = next(g for part, g in zip(net.parts, credit.grads) if str(getattr(part, "given", "")) == label)
            assert expected.abs().max() > 1e-3
            torch.testing.assert_close(found.W[0], expected, atol=1e-12, rtol=0)


def test_activations_still_stand():
    assert isinstance(rate_function("tanh"), Activation)
