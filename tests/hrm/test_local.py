"""L and H as networks of neurons with local errors: against autograd, against the implicit gradient, and without either
history or autograd."""

import copy
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from test_train import Increment
from torch.utils._pytree import tree_leaves

import gle
from hrm import local
from hrm.act import Halting, Shown
from hrm.credit import Local, output_errors, side
from hrm.gradients import Implicit, spectral_radius, strategy
from hrm.losses import LOSSES, losses
from hrm.model import HRM, Carry, Config, Output
from hrm.optim import Average
from hrm.tasks.task import IGNORE
from hrm.train import Trainer, Training

D = torch.float64
SIZES = {"vocabulary": 5, "length": 6, "columns": 3, "d": 16, "heads": 2, "H_layers": 2, "L_layers": 2, "multiple": 8}


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(D)
    yield
    torch.set_default_dtype(torch.float32)


def trainer(modules="gle", gradient="local", training=None, seed=0, dtype=D, compile=None, **sizes):
    torch.manual_seed(seed)
    model = HRM(Config(**{**SIZES, "mixer": "mlp", **sizes}, modules=modules)).to(dtype)
    own = {"target": "end", "plasticity": "segment"} if gradient == "local" else {}
    common = {"batch": 8, "steps": 100, "lr": 1e-3, "warmup": 3, "halting": Halting(4)}
    options = {**common, **own, **(training or {})}
    return Trainer(model, Increment(), Training(gradient=gradient, **options), seed, compile)


def gradients(t):
    """Of one training step."""
    t.step()
    return {name: p.grad for name, p in t.model.named_parameters() if p.requires_grad}


def off(found, expected):
    """Largest difference of any entry of any parameter, relative to the parameter's largest one."""
    assert found.keys() == expected.keys()
    worst = 0.0
    for name, g in expected.items():
        if g is None or not g.any():
            assert found[name] is None or not found[name].any(), name
            continue
        worst = max(worst, float((found[name] - g).abs().max() / g.abs().max()))
    return worst


NT_1 = {"H_cycles": 1, "L_cycles": 1}
CASES = {
    "mixing by mlp": {},
    "by convolution": {"mixer": "conv"},
    "by attention": {"mixer": "attention"},
    "by attention without rotations": {"mixer": "attention", "positions": "learned"},
    "learned positions": {"positions": "learned"},
    "three updates of each": {"L_cycles": 1, "H_cycles": 3},
    "one block, stablemax": {"H_layers": 1, "L_layers": 1, "training": {"loss": "stablemax"}},
    "no q_continue": {"training": {"halting": Halting(4, q_continue=False)}},
    "no halting": {"training": {"halting": Halting(4, learned=False)}},
}


@pytest.mark.parametrize("modules", ["gle", "gle L", "gle H", "blocks"])
@pytest.mark.parametrize("case", CASES)
def test_local_one_step_is_autograd_s(case, modules):
    """Every parameter: modules, heads and embeddings; with neurons in both modules, in one of them, or in none.

    Prevents: a local rule that is nearly a gradient.
    """
    expected = gradients(trainer(modules, "one_step", **CASES[case]))
    found = gradients(trainer(modules, "local", **CASES[case]))
    assert sum(g is not None and bool(g.any()) for g in expected.values()) > len(expected) - 2 - 2 * (
        case == "no halting"
    )
    assert off(found, expected) < 1e-12


def test_in_single_precision():
    torch.set_default_dtype(torch.float32)
    parts = [gradients(trainer("gle", how, dtype=torch.float32)) for how in ("local", "one_step")]
    assert 0 < off(*parts) < 3e-5


@pytest.mark.parametrize("mixer", ["mlp", "conv", "attention"])
def test_neurons_are_the_blocks(mixer):
    """The same weights from the same seed, and the same answers.

    Prevents: a comparison of two models that begin elsewhere.
    """
    torch.manual_seed(0)
    theirs = HRM(Config(**{**SIZES, "mixer": mixer}))
    torch.manual_seed(0)
    ours = HRM(Config(**{**SIZES, "mixer": mixer}, modules="gle"))
    assert ours.n_parameters() == theirs.n_parameters() > 0
    assert Average(ours, 0.5).model.n_parameters() == theirs.n_parameters()
    x = torch.randint(0, 5, (4, 6))
    a, b = theirs.initial(4), ours.initial(4)
    for step in range(8):
        a, b = theirs.step(a, theirs.embed(x), step % 2 == 1), ours.step(b, ours.embed(x), step % 2 == 1)
        torch.testing.assert_close(ours.L.read(b.L), theirs.L.read(a.L), atol=1e-12, rtol=0)
        torch.testing.assert_close(ours.H.read(b.H), theirs.H.read(a.H), atol=1e-12, rtol=0)
    assert (ours.H.read(b.H) - ours.H.read(ours.initial(4).H)).abs().max() > 0.1


@pytest.mark.parametrize(("sizes", "segments", "most"), [({}, 1, 1e-12), (NT_1, 4, 1e-12), ({}, 4, 1e-9)])
def test_many_steps(sizes, segments, most):
    """Thirty whole training steps: the weights of both ways agree up to rounding. An untrained model's steps do not
    contract, and let what differs grow from step to step of a puzzle: with sixteen of them it may come to 1e-10; a rule
    off by one per cent is at 1e-2.

    Prevents: errors that rows of a batch, halting or the optimiser hide in one step.
    """
    ended = []
    for how in ("local", "one_step"):
        t = trainer("gle", how, training={"halting": Halting(segments)}, **sizes)
        for _ in range(30):
            row = t.step()
        ended.append(([p.detach() for p in t.model.parameters()], row["loss"]))
    (p, loss), (q, expected) = ended
    assert max(float((a - b).abs().max()) for a, b in zip(p, q, strict=True)) < most
    assert loss == pytest.approx(expected, abs=10 * most)


@pytest.mark.parametrize("loss", LOSSES)
def test_output_errors_are_the_losses_own(loss):
    torch.manual_seed(1)
    out = Output(*(torch.randn(s, requires_grad=True) for s in ((3, 6, 5), (3,), (3,))))
    y = torch.randint(0, 5, (3, 6))
    y[0, 2:] = IGNORE
    following = torch.rand(3)
    for ahead in (following, None):
        for t in out:
            t.grad = None
        losses(out, y, LOSSES[loss], ahead, 0.5).total.backward()
        found = output_errors(Output(*(t.detach() for t in out)), y, loss, ahead, 0.5)
        for e, t in zip(found, out, strict=True):
            expected = torch.zeros_like(t) if t.grad is None else -3 * t.grad
            torch.testing.assert_close(e, expected, atol=1e-13, rtol=0)


def test_what_is_watched():
    """e_L and e_H of a step are −∂E/∂z of each puzzle, as autograd has them with z as leaves."""
    t = trainer(training={"halting": Halting(4, learned=False)}, L_cycles=1, H_cycles=1)
    seen = []
    t.credit.watch = lambda *errors: seen.append(errors)
    slots = t.refill(t.slots)
    t.credit(t.model, slots, Shown(slots.x, slots.y), slots.puzzle, lambda share: None)
    ((e_L, e_H),) = seen
    L, H = t.model.L, t.model.H
    z_L = L.read(L(slots.carry.L, H.read(slots.carry.H) + t.model.embed(slots.x))).detach().requires_grad_()
    new_H = H(slots.carry.H, z_L)
    for z, e in ((z_L, e_L), (new_H.z, e_H)):
        out = t.model.read_out(Carry(None, new_H))
        total = losses(out, slots.y, LOSSES["softmax"], None, 0.0).total
        torch.testing.assert_close(e, -8 * torch.autograd.grad(total, z, retain_graph=True)[0], atol=1e-12, rtol=1e-9)


# -- errors that come back ---------------------------------------------------------------------------------------------


def contractive(errors="instantaneous", tau=(1.0, 1.0), gain="none", scale=0.3, **sizes):
    """A model whose map contracts, at its fixed point, with a puzzle and its answer."""
    t = trainer(
        training={"epsilon": 1.0, "gain": gain, "halting": Halting(4, learned=False)},
        L_cycles=1, H_cycles=1, H_layers=1, L_layers=1, d=8, errors=errors, tau_L=tau[0], tau_H=tau[1], **sizes,
    )  # fmt: skip
    with torch.no_grad():
        for name, p in t.model.named_parameters():
            if name.startswith(("L.", "H.")):
                p.mul_(scale)
    slots = t.refill(t.slots)
    carry, x = slots.carry, t.model.embed(slots.x).detach()
    with torch.no_grad():
        for _ in range(150):
            carry = t.model.step(carry, x, True)
    return t, slots._replace(carry=carry), x


def settled(t, slots, steps):
    """Gradients that local errors come to while the target stands and nothing moves."""
    errors = slots.errors
    for _ in range(steps):
        for p in t.model.parameters():
            p.grad = None
        learned = t.credit(
            t.model, slots._replace(errors=errors), Shown(slots.x, slots.y), slots.puzzle, lambda share: None
        )
        errors = learned.errors
    return {name: p.grad for name, p in t.model.named_parameters()}


def implicit(t, slots):
    for p in t.model.parameters():
        p.grad = None
    carry, _ = Implicit(1e-13)(t.model, slots.carry, t.model.embed(slots.x))
    losses(t.model.read_out(carry), slots.y, LOSSES["softmax"], None, 0.0).total.backward()
    return {name: p.grad for name, p in t.model.named_parameters()}


@pytest.mark.parametrize(
    ("errors", "tau", "scale"),
    [("instantaneous", (1.0, 1.0), 0.3), ("instantaneous", (1.0, 2.0), 0.3), ("relaxing", (2.0, 3.0), 0.2)],
)
def test_at_a_fixed_point_errors_relax_to_the_implicit_gradient(errors, tau, scale):
    """ε = 1: cosine 1 and ratio of norms 1, where the one-step gradient (ε = 0) has neither.

    Prevents: errors that come back once too often, not at all, or to the wrong module.
    """
    t, slots, x = contractive(errors, tau, scale=scale)
    assert 0.2 < spectral_radius(t.model, slots.carry, x) < 0.98
    found, expected = settled(t, slots, 300), implicit(t, slots)
    t.credit.epsilon = 0.0
    cut = settled(t, slots, 2 if errors == "instantaneous" else 60)
    for module in ("L.", "H."):
        f, e, c = (
            torch.cat([g.flatten() for n, g in sorted(d.items()) if n.startswith(module) and g is not None])
            for d in (found, expected, cut)
        )
        assert e.norm() > 1e-3
        assert 1 - float(f @ e / f.norm() / e.norm()) < 1e-10
        assert float(f.norm() / e.norm()) == pytest.approx(1, abs=1e-6)
        assert 1 - float(c @ e / c.norm() / e.norm()) > 1e-3


def test_gain_control_holds_what_comes_back():
    """Where the map does not contract, errors that come back grow without end; with a control they do not, and their
    size stays that of the fresh ones, for each puzzle or each position alone."""
    sizes = {}
    for gain in ("none", "puzzle", "token"):
        t, slots, x = contractive(gain=gain, scale=3.0)
        assert spectral_radius(t.model, slots.carry, x) > 1
        t.credit.gain = gain
        errors = slots.errors
        for _ in range(60):
            errors = t.credit(
                t.model, slots._replace(errors=errors), Shown(slots.x, slots.y), slots.puzzle, lambda share: None
            ).errors
        sizes[gain] = float(errors.L.norm())
    assert sizes["none"] > 1e3 * max(sizes["puzzle"], sizes["token"])
    local = Local(None, None, None, "softmax", 0.0, Halting(), epsilon=1.0)
    e, fresh = 3 * torch.randn(5, 6, 4), torch.randn(5, 6, 4)
    e[0] *= 1e-3
    held = local._returning(e, fresh)
    torch.testing.assert_close(held[0], e[0])
    torch.testing.assert_close(held[1:].norm(dim=(1, 2)), fresh[1:].norm(dim=(1, 2)))
    torch.testing.assert_close(held[1:] / held[1:].norm(), e[1:] * (held[1:] / e[1:])[:, :1, :1] / held[1:].norm())


# -- what is local -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [{}, {"mixer": "conv", "tau_H": 2.0}, {"inner_tau": 2.0, "errors": "relaxing"}])
def test_no_autograd(sizes, monkeypatch):
    """Training with gradients disabled throughout, and every tensor that is met without a graph.

    Prevents: a "local" rule that asks autograd after all.
    """

    def forbidden(*args, **kw):
        raise AssertionError("autograd was asked")

    monkeypatch.setattr(torch.autograd, "grad", forbidden)
    monkeypatch.setattr(torch.autograd, "backward", forbidden)
    monkeypatch.setattr(torch.Tensor, "backward", forbidden)
    t = trainer(training={"target": "always", "plasticity": "step", "epsilon": 1.0}, **sizes)
    before = copy.deepcopy(t.model.state_dict())
    with torch.no_grad():
        for _ in range(3):
            t.step()
    assert all(not leaf.requires_grad and leaf.grad_fn is None for leaf in tree_leaves(t.slots))
    moved = [n for n, v in t.model.state_dict().items() if not torch.equal(v, before[n])]
    assert {n for n, p in t.model.named_parameters() if p.requires_grad} == set(moved)


def test_synapses_see_their_own_neurons_alone():
    """Each weight's update is unchanged by what other neurons do, given its own pre- and postsynaptic signals: the
    gradient of any weight is error times rate of the two neurons that it joins, summed over samples and, where weights
    are shared, over positions."""
    t = trainer()
    slots = t.refill(t.slots)
    module = t.model.L
    with torch.no_grad():
        carry, seen = module.act(slots.carry.L, t.model.embed(slots.x))
        e = torch.randn_like(module.read(carry))
        _, grads, _ = module.respond(seen, e, ())
        net = module.net
        down = net.errors(net.theta(), seen.state, [
            s._replace(r=r, kept=kept) for s, (r, kept) in zip(seen.state, seen.up.outputs, strict=True)
        ], e.flatten(1), module.dynamics)  # fmt: skip
    found = {id(p): g for p, g in grads}
    length, d = module.shape
    checked = 0
    for k, part in enumerate(net.projections):
        if part.W is None:
            continue
        post = net._at(k, down.errors[net._ends[k][1]])[0]
        pre = seen.up.pre[k][0]
        out, within = part.W.shape[1:]
        if type(part.synapse).__name__ == "Positions":
            a, b = post.unflatten(1, (out, -1)), pre.unflatten(1, (within, -1))
            one = -sum(float(a[s, 1, f] * b[s, 2, f]) for s in range(8) for f in range(d)) / 8
        else:
            a, b = post.unflatten(1, (length, -1)), pre.unflatten(1, (length, -1))
            one = -sum(float(a[s, l, 1] * b[s, l, 2]) for s in range(8) for l in range(length)) / 8
        assert float(found[id(part.W)][0, 1, 2]) == pytest.approx(one, rel=1e-10)
        checked += 1
    assert checked == len(grads) == 12
    pooled = {part.name for part in net.populations if part.phi.pooled}
    assert pooled == {"mixed0", "out0", "mixed1", "out1"}  # the norms, and nothing else


# -- online, with dynamics ---------------------------------------------------------------------------------------------


ONLINE = {"target": "always", "plasticity": "step"}


def test_online_is_an_update_a_step():
    """N · T updates a segment, at learning rates between those of the segments; and one for the sum, which is their sum
    where nothing moves meanwhile."""
    t = trainer(training={**ONLINE, "lr": 0.0, "warmup": 0}, L_cycles=1, H_cycles=3)
    moves = []
    t._update = lambda slots, puzzle, share: moves.append(
        (share, {n: None if p.grad is None else p.grad.clone() for n, p in t.model.named_parameters()})
    )
    t.step()
    assert [share for share, _ in moves] == [1 / 3, 2 / 3, 1.0]
    whole = trainer(training={"target": "always", "lr": 0.0, "warmup": 0}, L_cycles=1, H_cycles=3)
    summed = gradients(whole)
    for name, g in summed.items():
        if g is not None:
            torch.testing.assert_close(g, sum(m[name] for _, m in moves), atol=1e-14, rtol=1e-10)


def test_compiled_is_eager():
    """Prevents: a step that cannot be traced, or that is traced with the weights of its beginning."""
    ended = []
    for compile in (None, lambda f, device: torch.compile(f, backend="eager", fullgraph=True)):
        t = trainer(training={**ONLINE, "epsilon": 1.0}, tau_H=2.0, inner_tau=2.0, compile=compile)
        for _ in range(3):
            t.step()
        ended.append([p.detach() for p in t.model.parameters()])
    for a, b in zip(*ended, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-9)


def test_leaky_modules_leak():
    """z moves by dt/τ of its way: a module with τ = 4 against four lines of NumPy; settled, it stands where the one
    without a leak does."""
    t = trainer(tau_L=4.0)
    fast = trainer()
    slots = t.refill(t.slots)
    x = t.model.embed(slots.x).detach()
    carry = slots.carry.L
    z = carry.z.numpy().copy()
    with torch.no_grad():
        for _ in range(3):
            target = fast.model.L.read(fast.model.L(local.GraphCarry(torch.from_numpy(z)), x)).numpy()
            z = z + (target - z) / 4
            carry = t.model.L(carry, x)
    np.testing.assert_allclose(carry.z.numpy(), z, atol=1e-12)


@pytest.mark.parametrize(
    "sizes",
    [{"inner_tau": 3.0}, {"inner_tau": 3.0, "inner_errors": "prospective"}, {"errors": "relaxing", "tau_L": 2.0}],
)
def test_memories_inside_are_part_of_the_carry(sizes):
    """Membranes of slow neurons lie in the carry, error neurons' in the slots; both begin anew with a puzzle.

    Prevents: neurons that remember the puzzle before.
    """
    t = trainer(training={**ONLINE, "halting": Halting(1, learned=False)}, **sizes)
    t.step()
    carry, waiting = t.slots.carry, t.slots.errors
    kept = len(carry.L.u), len(waiting.v_L)
    assert (
        kept
        == {"inner_tau": (2, 2 * (sizes.get("inner_errors") == "prospective")), "errors": (0, 1)}[next(iter(sizes))]
    )
    assert any(float(v.abs().max()) > 0 for v in (*carry.L.u, *waiting.v_L))
    refilled = t.refill(t.slots)
    for leaf in tree_leaves((refilled.carry.L.u, refilled.errors)):
        assert not leaf.any()


@pytest.mark.parametrize("sizes", [{"tau_H": 2.0}, {"inner_tau": 2.0, "errors": "relaxing", "tau_L": 2.0}])
def test_resumed_is_uninterrupted(sizes):
    """Prevents: errors, membranes or feedback that a checkpoint forgets."""
    settings = {"training": {**ONLINE, "epsilon": 1.0}, "feedback": "kolen_pollack", **sizes}
    whole, first, second = (trainer(**settings) for _ in range(3))
    for _ in range(7):
        whole.step()
    for _ in range(3):
        first.step()
    second.step()
    second.load_state_dict(first.state_dict())
    for _ in range(4):
        second.step()
    for a, b in zip(tree_leaves(whole.state_dict()), tree_leaves(second.state_dict()), strict=True):
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def test_kolen_pollack_feedback_takes_the_steps_of_the_weights():
    """B − W falls by 1 − lr · decay at each update, and with fixed random feedback B stays.

    Prevents: feedback that the optimiser does not know of, and so never learns.
    """
    for feedback in ("kolen_pollack", "fixed_random"):
        t = trainer(training={**ONLINE, "lr": 1e-2, "warmup": 0, "final": 1.0, "weight_decay": 1.0}, feedback=feedback)
        part = next(p for p in t.model.L.net.projections if p.W is not None)
        B, difference = part.B.clone(), part.B - part.W.detach()
        for _ in range(5):
            t.step()
        if feedback == "fixed_random":
            assert torch.equal(part.B, B)
        else:
            torch.testing.assert_close(part.B - part.W.detach(), difference * (1 - 1e-2) ** 20, atol=1e-12, rtol=0)
        assert (part.W - (B - difference)).detach().abs().max() > 1e-2


def test_it_learns():
    """Online, with everything leaky: the task of `test_train`, in a few steps."""
    t = trainer(training={**ONLINE, "lr": 3e-3, "steps": 150}, tau_H=2.0, H_layers=1, L_layers=1)
    first = t.step()["cells"]
    last = [t.step() for _ in range(119)][-1]
    assert last["cells"] > 0.95 > 0.5 > first
    assert t.evaluate(t.task.validation)["curve"]["exact"][0] >= 0.8


def test_what_cannot_be():
    for sizes, message in (
        ({"shared": True}, "leave out shared"),
        ({"tau_L": 0.5}, "tau_L must be at least one step, got 0.5"),
        ({"errors": "late"}, "unknown errors 'late'; choose one of instantaneous"),
    ):
        with pytest.raises(ValueError, match=message):
            trainer(**sizes)
    with pytest.raises(ValueError, match="unknown modules 'gel'"):
        trainer("gel")
    for training, message in (
        ({"bf16": True}, "local errors are not for bfloat16"),
        ({"epsilon": 2.0}, r"epsilon must lie in \[0, 1\]"),
        ({"gain": "some"}, "unknown gain 'some'"),
    ):
        with pytest.raises(ValueError, match=message):
            trainer(training=training)
    net = trainer().model.L.net
    with pytest.raises(ValueError, match="a module's graph has a population 'in' and 20 inputs"):
        local.GraphModule(net, 4, torch.zeros(5))
    assert math.isfinite(trainer().step()["loss"])
    assert side(trainer("blocks").model.L).errors_at_rest(3) == ()
    assert strategy("one_step")


def test_one_file_alone_takes_gle():
    """Prevents: a half that cannot be used, or read, without the other."""
    folder = Path(local.__file__).parent
    importing = {
        p.name for p in folder.rglob("*.py") if re.search(r"^\s*(from|import) gle\b", p.read_text(), re.MULTILINE)
    }
    assert importing == {"local.py"}


# -- puzzles, controls, refusals ---------------------------------------------------------------------------------------


def with_puzzles(**training):
    """A trainer whose task has three puzzles with embeddings of their own."""
    task = Increment()
    task.puzzles = 3
    for grids in (task.train, task.validation, task.test):
        grids.puzzle[:] = np.arange(len(grids)) % 3
    torch.manual_seed(0)
    model = HRM(Config(**{**SIZES, "mixer": "mlp", "H_cycles": 3, "L_cycles": 1}, puzzles=3, modules="gle"))
    o = {"batch": 8, "steps": 100, "lr": 0.0, "warmup": 0, "halting": Halting(4), "puzzle_lr": 0.0, **training}
    return Trainer(model, task, Training(**o), 0)


def test_puzzles_embeddings_learn_as_all_weights_do():
    """One step: autograd's; a sum over a segment: that of its steps, and online they move between them.

    Prevents: an embedding that gets the last step's error alone, or is looked up once a segment.
    """
    found = {}
    for gradient in ("local", "one_step"):
        own = {"target": "end", "plasticity": "segment"} if gradient == "local" else {}
        t = with_puzzles(gradient=gradient, **own)
        t._update = lambda slots, puzzle, share, g=gradient: found.setdefault(g, puzzle.grad.clone())
        t.step()
    torch.testing.assert_close(found["local"], found["one_step"], atol=1e-14, rtol=1e-10)
    assert found["local"].abs().max() > 1e-5
    moves = {"step": [], "segment": []}
    for plasticity, seen in moves.items():
        t = with_puzzles(gradient="local", plasticity=plasticity)
        t._update = lambda slots, puzzle, share, seen=seen: seen.append(puzzle.grad.clone())
        t.step()
    assert len(moves["step"]) == 3
    torch.testing.assert_close(moves["segment"][0], sum(moves["step"]), atol=1e-14, rtol=1e-10)
    t = with_puzzles(gradient="local", puzzle_lr=0.1)
    seen = []
    embed = t.model.embed
    t.model.embed = lambda x, puzzle: seen.append(puzzle.detach().clone()) or embed(x, puzzle)
    t.step()
    assert not torch.equal(seen[0], seen[1])
    assert torch.equal(seen[-1][0] != 0, torch.ones(16, dtype=torch.bool))


def test_L_learns_from_the_last_word_of_H():
    """Where H is updated at every other step, L keeps the error of its last update, into the next segment.

    Prevents: half of the steps without an error.
    """
    t = trainer(training={**ONLINE, "lr": 0.0, "warmup": 0, "halting": Halting(4, learned=False)}, L_cycles=2)
    moves = []
    t._update = lambda slots, puzzle, share: moves.append(t.model.L.net.projections[1].W.grad.abs().max().item())
    t.step()
    assert [m > 0 for m in moves] == [False, True, True, True]  # at first there is no word yet
    t.step()
    assert all(m > 0 for m in moves[4:])


def test_feedback_differs_between_modules_and_seeds():
    first, second = (trainer(feedback="fixed_random", seed=s).model for s in (0, 1))
    weights = [next(p.B for p in m.net.projections if p.B is not None) for m in (first.L, first.H, second.L, second.H)]
    for i, a in enumerate(weights):
        assert not any(torch.equal(a, b) for b in weights[:i])
    again = trainer(feedback="fixed_random").model.L.net.projections
    assert torch.equal(weights[0], next(p.B for p in again if p.W is not None))


def test_frozen_modules_keep_their_feedback():
    t = trainer(training={**ONLINE, "control": "frozen", "weight_decay": 1.0}, feedback="kolen_pollack")
    before = copy.deepcopy(t.model.L.state_dict())
    t.step()
    assert all(torch.equal(v, before[n]) for n, v in t.model.L.state_dict().items())


@pytest.mark.parametrize("control", ["frozen", "shuffled", "cut", "own head"])
def test_controls(control):
    """Each takes away what its name says, and leaves the rest."""
    t = trainer(training={"control": "none"})
    whole = gradients(t)
    model = trainer().model
    if control == "own head":
        model.own_head = torch.nn.Linear(16, 5, bias=False)
    t = Trainer(model, Increment(), Training(**{**vars(t.o), "control": control}), 0)
    t.step()
    found = {name: p.grad for name, p in t.model.named_parameters() if p.requires_grad}
    both = {name: g for name, g in whole.items() if g is not None and found[name] is not None}
    same = {name for name, g in both.items() if torch.equal(g, found[name])}
    learns = {name for name, g in found.items() if g is not None}
    assert {"output_head.weight", "q_head.weight", "q_head.bias"} <= same
    modules = [{n for n in found if n.startswith(k)} for k in ("L.", "H.")]
    if control == "frozen":
        assert not learns & (modules[0] | modules[1])
        assert "embedding.weight" in same
    elif control == "cut":
        assert not learns & modules[0]
        assert modules[1] <= same
    elif control == "own head":
        assert modules[1] <= same
        assert not modules[0] & same
        assert modules[0] | {"own_head.weight"} <= learns
    else:
        assert not (modules[0] | modules[1]) & same
        assert modules[0] | modules[1] <= learns


def test_what_is_refused():
    """Prevents: options without effect, and models that local errors would teach something else."""
    for sizes, message in (
        ({"tau_H": 2.0}, "tau_H is an option of gle modules, not of modules = 'blocks'"),
        ({"feedback": "fixed_random"}, "feedback is an option of gle modules"),
        ({"shared": True}, "local errors are for modules with weights of their own: leave out shared"),
    ):
        with pytest.raises(ValueError, match=message):
            trainer("blocks", **sizes)
    with pytest.raises(ValueError, match="tau_H is an option of gle modules, not of modules = 'gle L'"):
        trainer("gle L", tau_H=2.0)
    with pytest.raises(ValueError, match="inner_tau is for neurons that mix positions by mlp, not by conv"):
        trainer(mixer="conv", inner_tau=2.0)
    with pytest.raises(ValueError, match="epsilon is an option of gradient = 'local', not of 'one_step'"):
        Training(epsilon=1.0).check()
    with pytest.raises(ValueError, match="control = 'shuffled' needs two slots"):
        trainer(training={"control": "shuffled", "batch": 1})
    with pytest.raises(ValueError, match="control = 'own head' needs model"):
        trainer(training={"control": "own head"})
    with pytest.raises(ValueError, match="set columns = 3 in its Config"):
        trainer(mixer="conv", columns=2)
    slow, fast = trainer(tau_H=2.0), trainer()
    with pytest.raises(ValueError, match="has other time constants"):
        fast.load_state_dict(slow.state_dict())
    model = trainer().model
    model.own_head = torch.nn.Linear(16, 5, bias=False)
    with pytest.raises(ValueError, match="a file of weights has no place for own_head"):
        model.save("nowhere.pt", Increment())
    still = {"tau_m": 1.0, "tau_r": 1.0, "phi": "linear", "bias": False}
    ends = {"in": gle.Population(6, **still), "z": gle.Population(6, **still)}
    enter = gle.Projection("input", "in", synapse="identity")
    for projections, message in (
        ([gle.Projection("input", "in"), gle.Projection("in", "z")], "joined to 'in' by an identity"),
        ([enter, gle.Projection("in", "z"), gle.Projection("z", "z", delay=1, synapse="identity")], "goes round"),
    ):
        with pytest.raises(ValueError, match=message):
            local.GraphModule(gle.Graph(6, ends, projections), 3, torch.zeros(2))
    net = gle.Graph(6, ends, [enter, gle.Projection("in", "z")], dtype=D)  # prospective errors, τm = τr
    module = local.GraphModule(net, 3, torch.zeros(2))
    _, seen = module.act(module.initial(4), torch.randn(4, 3, 2))
    e = torch.randn(4, 3, 2)
    back, _, _ = module.respond(seen, e, ())
    torch.testing.assert_close(back.flatten(1), e.flatten(1) @ net.projections[1].W[0].detach())
