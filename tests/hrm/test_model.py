"""The model against a literal transcription of the paper's pseudocode, and its published size."""

import copy

import pytest
import scipy.signal
import torch
import torch.nn.functional as F

from hrm import layers
from hrm.gradients import STRATEGIES, strategy
from hrm.model import HRM, Carry, Config

TINY = dict(vocabulary=5, length=6, d=16, heads=2, H_layers=1, L_layers=2, multiple=8)


def tiny(seed=0, **changes):
    torch.manual_seed(seed)
    model = HRM(Config(**{**TINY, **changes})).double()
    with torch.no_grad():
        model.q_head.weight.normal_()
    return model


def symbols(model, batch=3):
    g = torch.Generator().manual_seed(1)
    return torch.randint(model.config.vocabulary, (batch, model.config.length), generator=g)


def figure_4(model, z, x):
    """The loop of Fig. 4, every line of it."""
    N, T = model.config.H_cycles, model.config.L_cycles

    def L_net(zL, zH, x):
        return model.L.blocks(zL + zH + x)

    def H_net(zH, zL):
        return model.H.blocks(zH + zL)

    x = model.embed(x)
    zH, zL = z
    with torch.no_grad():
        for _i in range(N * T - 1):
            zL = L_net(zL, zH, x)
            if (_i + 1) % T == 0:
                zH = H_net(zH, zL)
    # 1-step grad
    zL = L_net(zL, zH, x)
    zH = H_net(zH, zL)
    return (zH, zL), model.output_head(zH)


def test_published_size():
    assert HRM(Config(vocabulary=11, length=81)).n_parameters() == 27_275_266


@pytest.mark.parametrize("cycles", [(1, 1), (2, 2), (3, 2), (1, 4)])
@pytest.mark.parametrize("name", ["one_step", "last 2", "last_cycle", "bptt", "neumann 3", "damped 3", "implicit"])
def test_order_of_updates(name, cycles):
    """Prevents: an H that sees the old z_L, an L that sees x̃ twice, a strategy that changes the forward values."""
    model = tiny(H_cycles=cycles[0], L_cycles=cycles[1])
    x, carry = symbols(model), model.initial(3)
    (zH, zL), logits = figure_4(model, (carry.H, carry.L), x)
    new, _ = strategy(name)(model, carry, model.embed(x))
    torch.testing.assert_close(new.H, zH)
    torch.testing.assert_close(new.L, zL)
    torch.testing.assert_close(model.read_out(new).logits, logits)
    assert (new.H - carry.H).abs().max() > 0.1
    swapped = copy.deepcopy(model)
    swapped.L.blocks, swapped.H.blocks = model.H.blocks, model.L.blocks
    assert (strategy(name)(swapped, carry, model.embed(x))[0].H - zH).abs().max() > 1e-3


def test_one_step_gradient_is_figure_4_s():
    model = tiny(H_cycles=2, L_cycles=3)
    x, carry = symbols(model), model.initial(3)
    _, logits = figure_4(model, (carry.H, carry.L), x)
    expected = torch.autograd.grad(logits.square().sum(), list(model.parameters()), allow_unused=True)
    new, _ = strategy("one_step")(model, carry, model.embed(x))
    found = torch.autograd.grad(model.read_out(new).logits.square().sum(), list(model.parameters()), allow_unused=True)
    for a, b in zip(found, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b)
            assert a.abs().max() > 0


def test_q_head_reads_the_first_position():
    model = tiny()
    carry = Carry(model.L.initial(2), torch.randn(2, 6, 16, dtype=torch.float64))
    q = model.q_head(carry.H[:, 0])
    out = model.read_out(carry)
    torch.testing.assert_close(torch.stack([out.q_halt, out.q_continue], 1), q)


def test_halting_begins_unlikely():
    model = HRM(Config(**TINY))
    out = model.read_out(model.initial(2))
    assert out.q_halt.tolist() == out.q_continue.tolist() == [-5, -5]


# -- blocks ------------------------------------------------------------------------------------------------------------


def test_rotary_positions_are_relative():
    """q·k after rotation depends on the distance alone; a pair turns by its frequency."""
    cos, sin = layers.rotations(12, 8, 100.0)
    q, k = torch.randn(2, 1, 8, dtype=torch.float64)
    scores = layers.rotate(q.expand(12, 8), cos, sin) @ layers.rotate(k.expand(12, 8), cos, sin).T
    for distance in (1, 3):
        torch.testing.assert_close(scores.diagonal(distance), scores[0, distance].expand(12 - distance))
    assert (scores[0, 1] - scores[0, 3]).abs() > 1e-3
    one = layers.rotate(torch.eye(8, dtype=torch.float64)[1].expand(12, 8), cos, sin)  # pair 1: components 1 and 5
    angle = torch.tensor(5 * 100 ** (-2 / 8), dtype=torch.float64)
    torch.testing.assert_close(one[5, [1, 5]], torch.stack([angle.cos(), angle.sin()]))


def test_convolution_is_scipy_s():
    """Of rows of three cells, which a grid read the wrong way round would not have."""
    torch.manual_seed(0)
    convolution = layers.Convolution(4, 3).double()
    x = torch.randn(2, 6, 4, dtype=torch.float64)
    for b, y in enumerate(convolution(x)):
        for channel in range(4):
            expected = sum(
                scipy.signal.correlate2d(x[b, :, i].reshape(2, 3), convolution.weight[channel, i].detach(), "same")
                for i in range(4)
            )
            torch.testing.assert_close(y[:, channel].reshape(2, 3).detach(), torch.as_tensor(expected))


def test_convolutions_begin_at_variance_one():
    torch.manual_seed(0)
    y = layers.Convolution(32, 12)(torch.randn(50, 144, 32)).unflatten(1, (12, 12))
    assert y[:, 1:-1, 1:-1].std().item() == pytest.approx(1, abs=0.03)


def test_attention_by_hand():
    """Softmax of scaled products of rotated queries and keys, head by head."""
    torch.manual_seed(0)
    attention = layers.Attention(16, 2, 5, 10000.0).double()
    x = torch.randn(2, 5, 16, dtype=torch.float64)
    qkv = x @ attention.qkv.weight.T
    cos, sin = layers.rotations(5, 8, 10000.0)
    heads = []
    for h in range(2):
        q, k, v = (qkv[..., 16 * i + 8 * h : 16 * i + 8 * h + 8] for i in range(3))
        q, k = (layers.rotate(t, cos.float().double(), sin.float().double()) for t in (q, k))
        heads.append(torch.softmax(q @ k.transpose(1, 2) / 8**0.5, -1) @ v)
    torch.testing.assert_close(attention(x), torch.cat(heads, -1) @ attention.out.weight.T)


def test_norm_and_swiglu():
    x = torch.randn(3, 7, dtype=torch.float64)
    torch.testing.assert_close(layers.rms_norm(x), x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt())
    glu = layers.SwiGLU(512, 4.0)
    assert glu.down.weight.shape == (512, 1536)
    assert glu.gate_up.weight.shape == (3072, 512)
    z = torch.randn(2, 512)
    gate, up = (z @ glu.gate_up.weight.T).split(1536, -1)
    torch.testing.assert_close(glu(z), (F.silu(gate) * up) @ glu.down.weight.T)


def test_truncated_normal():
    """Within two standard deviations of the normal it is cut from, with the std that was asked for."""
    w = layers.truncated_normal((200_000,), 0.3, torch.Generator().manual_seed(0))
    assert w.std().item() == pytest.approx(0.3, rel=0.01)
    assert w.abs().max() < 2 * 0.3 / 0.8796
    assert w.abs().max() > 1.95 * 0.3 / 0.8796


@pytest.mark.parametrize(
    "changes",
    [
        {"mixer": "mlp"},
        {"mixer": "conv", "columns": 3},
        {"shared": True},
        {"puzzles": 4},
        {"positions": "learned"},
        {"positions": "both"},
    ],
)
def test_variants_run_and_learn(changes):
    model = tiny(**changes)
    x = symbols(model)
    carry, _ = strategy("one_step")(model, model.initial(3), model.embed(x, torch.tensor([0, 1, 3])))
    out = model.read_out(carry)
    assert out.logits.shape == (3, 6, 5)
    (out.logits.square().sum() + out.q_halt.sum()).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().max() > 0, name


def test_shared_network_is_one():
    both, one = tiny(), tiny(shared=True)
    assert one.n_parameters() < both.n_parameters()
    names = {id(p) for p in one.parameters()}
    assert len(names) == len(list(one.parameters()))
    assert not torch.equal(one.L.z0, one.H.z0)
    z = torch.randn(3, 6, 16, dtype=torch.float64)
    assert torch.equal(one.L(z, z), one.H(z, z))


def test_learned_positions():
    """x̃ has variance one with them, too; they alone tell one position from another."""
    model = tiny(positions="learned", d=64)
    x = symbols(model)
    embedded = model.embed(x)
    assert embedded.var().item() == pytest.approx(1, rel=0.15)
    order = torch.tensor([3, 0, 5, 1, 2, 4])

    def answer(x):
        carry, _ = strategy("one_step")(model, model.initial(3), model.embed(x))
        return model.read_out(carry).logits

    assert not torch.allclose(answer(x[:, order]), answer(x)[:, order])
    with torch.no_grad():
        model.position_embedding.weight.zero_()
    torch.testing.assert_close(answer(x[:, order]), answer(x)[:, order])


def test_puzzle_embedding_stands_in_front():
    model = tiny(puzzles=3)
    with torch.no_grad():
        model.puzzle_embedding.weight.normal_()
    x = symbols(model)
    a, b = (model.embed(x, torch.full((3,), i)) for i in (0, 1))
    assert a.shape == (3, 7, 16)
    assert torch.equal(a[:, 1:], b[:, 1:])
    assert not torch.equal(a[:, 0], b[:, 0])


def test_exchangeable_modules():
    """A module of another kind, whose carry is a pytree, takes L's place; every strategy copes with it."""

    class Leaky(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.W = torch.nn.Parameter(0.3 * torch.randn(16, 16, dtype=torch.float64))

        def initial(self, batch):
            return {"u": torch.zeros(batch, 6, 16, dtype=torch.float64), "trace": (torch.ones(batch, 2).double(),)}

        def forward(self, carry, injection):
            u = carry["u"] + 0.5 * (injection @ self.W - carry["u"])
            return {"u": u, "trace": (0.5 * carry["trace"][0] + u[:, 0, :2],)}

        def read(self, carry):
            return carry["u"].tanh()

    torch.manual_seed(0)
    model = HRM(Config(**TINY), L=Leaky()).double()
    for name in STRATEGIES:
        model.zero_grad()
        carry, _ = strategy(name)(model, model.initial(3), model.embed(symbols(model)))
        model.read_out(carry).logits.square().sum().backward()
        assert model.L.W.grad.abs().max() > 0, name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"H_cycles": 0}, "H_cycles must be at least 1, got 0"),
        ({"d": 15}, "d = 15 must divide into 2 heads"),
        ({"positions": "fourier"}, "unknown positions 'fourier'; choose one of rope, learned, both"),
        ({"mixer": "fft"}, "unknown mixer 'fft'; choose one of attention, mlp, conv"),
        ({"mixer": "conv", "columns": 4}, "whole grids without puzzle identities, got 0 puzzles, and 6 cells in 4"),
        ({"mixer": "conv", "columns": 3, "puzzles": 2}, "whole grids without puzzle identities, got 2 puzzles"),
    ],
)
def test_bad_configuration(changes, message):
    with pytest.raises(ValueError, match=message):
        HRM(Config(**{**TINY, **changes}))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("two_step", "unknown gradient 'two_step'; choose one of one_step"),
        ("last 0", "k must be at least 1 step, got 0"),
        ("bptt 3", "bptt takes no such arguments: '3'"),
        ("neumann 0", "k must be at least 1 term"),
    ],
)
def test_bad_strategy(name, message):
    with pytest.raises(ValueError, match=message):
        strategy(name)
