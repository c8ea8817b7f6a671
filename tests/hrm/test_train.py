"""Training: losses, optimisers, halting, and that an interrupted or divided run is the uninterrupted, undivided one."""

import copy
import math
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from processes import side_by_side
from torch.utils._pytree import tree_leaves

from hrm import act
from hrm.act import Halting, Slots
from hrm.losses import LOSSES, losses, stablemax
from hrm.model import HRM, Config, Output
from hrm.optim import OPTIMIZERS, AdamATan2, Average, learning_rate
from hrm.tasks.task import IGNORE, Grids, Task
from hrm.train import Trainer, Training, answer, evaluate


class Increment(Task):
    """Each cell one more: learned in no time."""

    def __init__(self, rows=40):
        super().__init__("increment", 2, 3, 5)
        x = np.random.default_rng(0).integers(0, 4, (rows, 6))
        grids = Grids(x, x + 1)
        self.train, self.validation, self.test = grids[::2], grids[1::4], grids[3::4]

    def augment(self, x, y, rng):
        order = rng.permutation(6)
        return x[order], y[order]


def trainer(seed=0, task=None, sizes=None, **changes):
    torch.manual_seed(seed)
    model = HRM(Config(vocabulary=5, length=6, d=16, heads=2, H_layers=1, L_layers=1, multiple=8, **(sizes or {})))
    o = Training(**{"batch": 8, "steps": 100, "lr": 3e-3, "warmup": 3, "halting": Halting(4), **changes})
    return Trainer(model, task or Increment(), o, seed)


@pytest.mark.parametrize("gradient", ["one_step", "local"])
def test_a_copy_of_a_trainer_learns_by_itself(gradient):
    """Prevents: a copy whose segment, or look ahead, is that of the original."""
    original = trainer(gradient=gradient)
    original.step()
    copied, pickled = copy.deepcopy(original), pickle.loads(pickle.dumps(original))
    row = original.step()
    with torch.no_grad():
        for p in original.model.parameters():
            p.fill_(math.nan)
    assert copied.step() == pickled.step() == row


# -- losses ------------------------------------------------------------------------------------------------------------


def test_stablemax():
    """s(x) = x + 1 above zero and 1/(1 − x) below, normalised; smooth at zero, finite for huge logits."""
    x = torch.tensor([-3.0, 0.0, 2.0], dtype=torch.float64)
    s = torch.tensor([1 / 4, 1, 3], dtype=torch.float64)
    torch.testing.assert_close(stablemax(x).exp(), s / s.sum())
    huge = torch.tensor([-1e30, 1e30, 0.0], requires_grad=True)
    stablemax(huge)[1].backward()
    assert torch.isfinite(huge.grad).all()
    assert torch.autograd.gradcheck(stablemax, torch.randn(4, 5, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize("name", LOSSES)
def test_losses_by_hand(name):
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 5, generator=g, dtype=torch.float64)
    labels = logits.argmax(-1)
    labels[1, 2] = (labels[1, 2] + 1) % 5  # one wrong cell
    labels[2, 1:] = IGNORE
    out = Output(logits, torch.tensor([0.3, -1.0, 2.0]), torch.tensor([0.5, 0.1, -0.2]))
    following = torch.tensor([0.9, 0.2, 0.4])
    l = losses(out, labels, LOSSES[name], following, 0.5)
    assert l.correct.tolist() == [True, False, True]
    assert l.cells.tolist() == [1, 0.75, 1]
    probability = LOSSES[name](logits).exp()
    rows = [
        np.mean([-math.log(probability[i, j, labels[i, j]]) for j in range(4) if labels[i, j] != IGNORE])
        for i in range(3)
    ]
    sigmoid = lambda q: 1 / (1 + math.exp(-q))  # noqa: E731
    halt = -(math.log(sigmoid(0.3)) + math.log(1 - sigmoid(-1.0)) + math.log(sigmoid(2.0))) / 3
    go_on = F.binary_cross_entropy(torch.sigmoid(out.q_continue), following).item()
    assert l.total.item() == pytest.approx(np.mean(rows) + 0.5 * (halt + go_on), rel=1e-6)
    assert losses(out, labels, LOSSES[name], None, 0.5).total.item() == pytest.approx(np.mean(rows) + 0.5 * halt)


def test_softmax_is_torch_s():
    logits, labels = torch.randn(2, 6, 5), torch.randint(5, (2, 6))
    out = Output(logits, torch.zeros(2), torch.zeros(2))
    l = losses(out, labels, LOSSES["softmax"], None, 0.0)
    assert l.total.item() == pytest.approx(F.cross_entropy(logits.flatten(0, 1), labels.flatten()).item(), rel=1e-5)


# -- optimisers --------------------------------------------------------------------------------------------------------


def test_adam_atan2_by_hand():
    """Two steps of the formula in plain numbers; the decay does not go through the gradient."""
    p = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimizer = AdamATan2([p], lr=0.1, betas=(0.9, 0.95), weight_decay=0.5)
    w, m, v = np.array([1.0, -2.0]), np.zeros(2), np.zeros(2)
    for t, g in enumerate((np.array([0.3, -4.0]), np.array([-0.2, 1e-9])), start=1):
        p.grad = torch.from_numpy(g.copy())
        optimizer.step()
        m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g * g
        w = w * (1 - 0.1 * 0.5) - 0.1 * np.arctan2(m / (1 - 0.9**t), np.sqrt(v / (1 - 0.95**t)))
        np.testing.assert_allclose(p.detach().numpy(), w, rtol=1e-9)


def test_adam_atan2_does_not_see_the_scale_of_the_loss():
    def after(scale):
        p = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
        optimizer = AdamATan2([p], lr=0.1)
        for _ in range(5):
            p.grad = scale * torch.tensor([1.0, -2.0, 1e-3], dtype=torch.float64) * p.detach()
            optimizer.step()
        return p.detach()

    torch.testing.assert_close(after(1.0), after(1e-12))
    assert (after(1.0) - 1).abs().min() > 0.1


def test_rate():
    kw = {"lr": 2.0, "warmup": 4, "steps": 14, "final": 0.1}
    assert [learning_rate(s, **kw) for s in (0, 3)] == [0.5, 2.0]
    assert learning_rate(9, **kw) == pytest.approx((2 + 0.2) / 2)
    assert learning_rate(14, **kw) == learning_rate(99, **kw) == pytest.approx(0.2)
    assert learning_rate(999, **{**kw, "final": 1.0}) == 2.0


def test_average():
    model = torch.nn.Linear(1, 1, bias=False)
    average = Average(model, 0.9)
    with torch.no_grad():
        start = model.weight.item()
        model.weight.fill_(start + 1)
    average.update(model)
    assert average.model.weight.item() == pytest.approx(start + 0.1)


# -- halting -----------------------------------------------------------------------------------------------------------


def slots_of(segments, least):
    n = len(segments)
    zero = torch.zeros(n, dtype=torch.long)
    return Slots((), torch.tensor(segments), torch.tensor(least), zero > 0, zero, zero, zero, zero)


def test_when_a_slot_is_done():
    out = Output(torch.zeros(4, 1, 1), torch.tensor([1.0, 1.0, -1.0, -1.0]), torch.zeros(4))
    new = act.advance(slots_of([0, 0, 0, 3], [1, 2, 1, 1]), (), out, Halting(4))
    assert new.segments.tolist() == [1, 1, 1, 4]
    # wants to and may; wants to, M_min says no; does not want to; M_max is reached
    assert new.done.tolist() == [True, False, False, True]
    fixed = act.advance(slots_of([0, 0, 0, 3], [1, 2, 1, 1]), (), out, Halting(4, learned=False))
    assert fixed.done.tolist() == [False, False, False, True]
    right = torch.tensor([True, True, False, False])  # and may; M_min says no; is not; M_max is reached
    known = act.advance(slots_of([0, 0, 0, 3], [1, 2, 1, 1]), (), out, Halting(4, learned=False), right)
    assert known.done.tolist() == [True, False, False, True]


def test_a_right_answer_makes_room():
    """Of a puzzle whose answer is right, no segment is left to learn from but those of exploration."""
    waits = {}
    for until_right in (False, True):
        halting = Halting(4, exploration=0.0, learned=False)
        t = trainer(halting=halting, until_right=until_right, lr=1e-2)
        t.fit(60)
        drawn = t.slots.drawn.clone()
        rows = [t.step() for _ in range(8)]
        assert rows[-1]["exact"] > 0.9
        waits[until_right] = (t.slots.drawn - drawn).float().mean().item()
    assert waits[False] == 2
    assert waits[True] > 7


def test_value_of_going_on():
    following = Output(torch.zeros(2, 1, 1), torch.tensor([-1.0, -1.0]), torch.tensor([2.0, 2.0]))
    target = act.continue_value(torch.tensor([False, True]), following)
    torch.testing.assert_close(target, torch.sigmoid(torch.tensor([2.0, -1.0])))


def test_exploration():
    """With probability ε one of 2 … M_max, evenly; else 1."""
    draws = np.array([act.minimum(Halting(5, 0.4), act.stream(0, 3, i)) for i in range(4000)])
    share = np.bincount(draws, minlength=6)[1:] / 4000
    np.testing.assert_allclose(share, [0.6, 0.1, 0.1, 0.1, 0.1], atol=0.02)
    assert {act.minimum(Halting(1, 1.0), act.stream(0, 0, i)) for i in range(20)} == {1}


def test_halting_at_evaluation_keeps_the_answer():
    """A row that has halted answers what it answered then, and uses no further segment."""
    torch.manual_seed(0)
    model = HRM(Config(vocabulary=5, length=6, d=16, heads=2, H_layers=1, L_layers=1, multiple=8))
    with torch.no_grad():
        model.q_head.weight.normal_(0, 3)
        model.q_head.bias.zero_()
    x = torch.randint(5, (40, 6))
    free = [out.logits for out, *_ in act.solve(model, x, None, 4)]
    wants = [act.wants_to_halt(out, Halting(4)) for out, *_ in act.solve(model, x, None, 4)]
    first = torch.stack([*wants[:3], torch.ones(40, dtype=torch.bool)]).int().argmax(0)
    *_, (out, used, _) = act.solve(model, x, None, 4, Halting(4))
    assert used.tolist() == (first + 1).tolist()
    assert len(set(used.tolist())) > 2
    torch.testing.assert_close(out.logits, torch.stack(free)[first, torch.arange(40)])


# -- slots -------------------------------------------------------------------------------------------------------------


def test_each_slot_shows_every_row_once_a_pass():
    t = trainer(halting=Halting(1), batch=2)
    seen = [[], []]
    for _ in range(20):
        t.slots = t.refill(t.slots)._replace(done=torch.ones(2, dtype=torch.bool))
        for slot in (0, 1):
            seen[slot].append(tuple(sorted(t.slots.x[slot].tolist())))
            assert t.slots.y[slot].tolist() == (t.slots.x[slot] + 1).tolist()
    expected = sorted(tuple(sorted(row.tolist())) for row in t.task.train.x)
    assert sorted(seen[0]) == sorted(seen[1]) == expected
    assert seen[0] != seen[1]


def test_slots_that_are_not_done_go_on():
    """Prevents: a puzzle that is exchanged before it has halted; a carry that outlives its puzzle."""
    t = trainer()
    t.step()
    before = t.slots._replace(done=torch.arange(8) < 3)
    after = t.refill(before)
    assert torch.equal(after.x[3:], before.x[3:])
    assert not torch.equal(after.x[:3], before.x[:3])
    assert torch.equal(after.carry.L[3:], before.carry.L[3:])
    assert torch.equal(after.carry.L[:3], t.model.initial(3).L)
    assert after.segments[:3].tolist() == [0, 0, 0]
    assert (after.segments[3:] == 1).all()


@pytest.mark.parametrize(("refill", "drawn"), [("keep", [1, 0, 1]), ("drop", [1, 1, 1])])
def test_refilling_loses_rows_only_where_asked(refill, drawn):
    t = trainer(batch=3, refill=refill)
    after = t.refill(t.slots._replace(done=torch.tensor([True, False, True])))
    assert after.drawn.tolist() == drawn


# -- learning ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"halting": Halting(3, q_continue=False)},
        {"halting": Halting(2, learned=False), "loss": "stablemax"},
        {"optimizer": "adamw", "clip": 1.0, "average": 0.9},
        {"gradient": "neumann 2"},
        {"bf16": True},
    ],
)
def test_learns(changes):
    t = trainer(batch=16, lr=1e-2, **changes)
    first = np.mean([t.step()["loss"] for _ in range(3)])
    for _ in range(90):
        log = t.step()
    assert log["loss"] < 0.7 * first
    result = t.evaluate(t.task.test)
    assert len(result["curve"]["exact"]) == t.o.halting.halt_max_steps
    assert np.mean(result["rows"]["exact"][-1]) == pytest.approx(result["curve"]["exact"][-1])


def losses_of(t, n):
    return [t.step()["loss"] for _ in range(n)]


STEADIED = {"noise": 0.1, "sizes": {"z0": "random", "damping": 0.9}}
OF_NEURONS = {
    "sizes": {"modules": "gle", "mixer": "mlp", "tau_H": 2.0, "z0": "random"},
    "gradient": "local", "epsilon": 1.0, "noise": 0.1,
}  # fmt: skip


@pytest.mark.parametrize(
    "changes", [{}, {"average": 0.9, "optimizer": "adamw"}, {"refill": "drop"}, STEADIED, OF_NEURONS]
)
def test_resumed_is_uninterrupted(changes, tmp_path):
    whole = trainer(**changes)
    expected = losses_of(whole, 12)
    cut = trainer(**changes)
    losses_of(cut, 5)
    torch.save(cut.state_dict(), tmp_path / "state.pt")
    again = trainer(seed=0, **changes)
    losses_of(again, 1)  # whatever it has been doing
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert losses_of(again, 7) == expected[5:]
    for p, q in zip(again.evaluated.parameters(), whole.evaluated.parameters()):
        assert torch.equal(p, q)


OF_ALL_KINDS = {"autograd": {}, "local errors, noise, random beginnings": OF_NEURONS}


def process(number, processes, folder, kind):
    os.environ.update(MASTER_ADDR="127.0.0.1", GLOO_SOCKET_IFNAME="lo")
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=number, world_size=processes)
    torch.set_num_threads(1)
    t = trainer(**OF_ALL_KINDS[kind])
    curve = losses_of(t, 8)
    state = t.state_dict()
    if number == 0:
        torch.save({"curve": curve, "state": state}, f"{folder}/{processes}.pt")
    dist.destroy_process_group()
    # a thread that outlives its group may abort the process when the interpreter ends
    threads = {(task / "comm").read_text().strip() for task in Path("/proc/self/task").glob("*")}
    assert not any("gloo" in thread for thread in threads), threads


@pytest.mark.slow
@pytest.mark.parametrize("kind", OF_ALL_KINDS)
def test_two_processes_are_one(kind, tmp_path):
    """The same loss curve at the same global batch, and a checkpoint that one process continues."""
    side_by_side(process, 2, str(tmp_path), kind)
    two = torch.load(tmp_path / "2.pt", weights_only=True)
    one = trainer(**OF_ALL_KINDS[kind])
    np.testing.assert_allclose(losses_of(one, 8), two["curve"], rtol=1e-4)
    again = trainer(**OF_ALL_KINDS[kind])
    again.load_state_dict(two["state"])
    np.testing.assert_allclose(losses_of(again, 3), losses_of(one, 3), rtol=1e-3)


def bits(t):
    """All that a trainer has, as bytes."""
    leaves = tree_leaves([t.model.state_dict(), t.evaluated.state_dict(), t.optimizer.state_dict(), t.slots, t.steps])
    return [x.numpy().tobytes() if isinstance(x, torch.Tensor) else x for x in leaves]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_kept_state_is_a_snapshot(optimizer):
    """Prevents: a kept state that follows later training, of the trainer it is of, or of one that took it."""
    t = trainer(average=0.9, optimizer=optimizer)
    losses_of(t, 5)
    state = t.state_dict()
    frozen = copy.deepcopy(state)
    expected = losses_of(t, 5)
    for other in (t, trainer(average=0.9, optimizer=optimizer)):
        other.load_state_dict(state)
        assert losses_of(other, 5) == expected
    for kept, before in zip(tree_leaves(state), tree_leaves(frozen), strict=True):
        assert torch.equal(kept, before) if isinstance(kept, torch.Tensor) else kept == before


def edited(change):
    def damaged(state):
        change(state)
        return state

    return damaged


DAMAGES = {
    "entries: no slots": edited(lambda s: s.pop("slots")),
    "entries: unknown colour": edited(lambda s: s.update(colour=1)),
    "entries: a list, not a dict": lambda s: [s],
    "entries: a NoneType, not a dict": lambda s: None,
    "steps = '3' is no number of steps": edited(lambda s: s.update(steps="3")),
    "steps = -1 is no": edited(lambda s: s.update(steps=-1)),
    "weights: no q_head.bias": edited(lambda s: s["model"].pop("q_head.bias")),
    "weights: unknown extra": edited(lambda s: s["model"].update(extra=torch.zeros(1))),
    r"weights: q_head.bias is \[3\] of float32, not \[2\] of float32": edited(
        lambda s: s["model"].update({"q_head.bias": torch.zeros(3)})
    ),
    r"weights: q_head.bias is \[2\] of int64": edited(
        lambda s: s["model"].update({"q_head.bias": torch.zeros(2, dtype=torch.long)})
    ),
    "weights: q_head.bias is a list": edited(lambda s: s["model"].update({"q_head.bias": [0.0, 0.0]})),
    "weights: a NoneType": edited(lambda s: s.update(model=None)),
    "averaged weights on one side only": edited(lambda s: s.update(average=None)),
    "averaged weights: no q_head.bias": edited(lambda s: s["average"].pop("q_head.bias")),
    "optimizer: a str, not a dict": edited(lambda s: s.update(optimizer="adamw")),
    "it is of optimizer 'adamw', not 'adam_atan2'": edited(lambda s: s["optimizer"].update(kind="adamw")),
    "optimizer: no state": edited(lambda s: s["optimizer"].pop("state")),
    "moments of parameters: no 0": edited(lambda s: s["optimizer"]["state"].pop(0)),
    "moments of parameters: unknown 99": edited(lambda s: s["optimizer"]["state"].update({99: {}})),
    "moments of parameter 1: no v": edited(lambda s: s["optimizer"]["state"][1].pop("v")),
    r"moments of parameter 1: m is \[7\]": edited(
        lambda s: s["optimizer"]["state"][1].update(m=torch.zeros(7))
    ),
    "moments of parameter 0: step is a float": edited(lambda s: s["optimizer"]["state"][0].update(step=3.0)),
    "carries of another kind": edited(lambda s: s["slots"].pop()),
    "5 slots, not 8": edited(lambda s: s["slots"].__setitem__(2, s["slots"][2][:5])),
    "0 slots, not 8": edited(lambda s: s["slots"].__setitem__(2, torch.tensor(1))),
    "slots: part is .* of float32, not .* of int64": edited(
        lambda s: s["slots"].__setitem__(2, s["slots"][2].float())
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def whole():
    t = trainer(average=0.9)
    losses_of(t, 3)
    return t.state_dict()


@pytest.mark.parametrize("message", DAMAGES)
def test_a_refused_checkpoint_changes_nothing(message, whole):
    """Prevents: weights of one model beside the moments, slots or averages of another, after a caught error."""
    t = trainer(seed=1, average=0.9)
    losses_of(t, 2)
    before = bits(t)
    with pytest.raises(ValueError, match="does not fit this model or training: " + message) as caught:
        t.load_state_dict(DAMAGES[message](copy.deepcopy(whole)))
    assert "\n" not in str(caught.value)
    assert bits(t) == before
    t.load_state_dict(whole)
    assert bits(t) != before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 16}, "8 slots, not 16"),
        ({"average": 0.0}, "averaged weights on one side only"),
        ({"optimizer": "adamw"}, "it is of optimizer 'adam_atan2', not 'adamw'"),
    ],
)
def test_a_checkpoint_of_another_training(changes, message, whole):
    t = trainer(**{"average": 0.9, **changes})
    losses_of(t, 1)
    before = bits(t)
    with pytest.raises(ValueError, match=message):
        t.load_state_dict(whole)
    assert bits(t) == before


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_options_are_the_trainer_s_own(optimizer):
    """Prevents: rates and decay of the training that was saved, in silence, in place of those asked for now. The
    oracle: a trainer that had the first options until then, and the others from then on."""
    new = {"weight_decay": 50.0, "beta1": 0.5, "beta2": 0.6, "lr": 1e-2, "clip": 0.1}
    old = trainer(optimizer=optimizer)
    losses_of(old, 4)
    now = trainer(optimizer=optimizer, **new)
    now.load_state_dict(old.state_dict())
    (group,) = now.optimizer.param_groups
    assert (group["weight_decay"], group["betas"]) == (50.0, (0.5, 0.6))
    old.o = now.o
    (group,) = old.optimizer.param_groups
    group.update(weight_decay=50.0, betas=(0.5, 0.6))
    assert losses_of(now, 4) == losses_of(old, 4)


# -- model and task ----------------------------------------------------------------------------------------------------


class Lines(Task):
    """Grids of 2 × 6 with identities, where asked for."""

    def __init__(self, puzzles=0):
        super().__init__("lines", 2, 6, 5)
        x = np.random.default_rng(0).integers(0, 5, (12, 12))
        self.puzzles = puzzles
        self.train = self.validation = self.test = Grids(x, x, puzzle=np.arange(12) % max(puzzles, 1))


@pytest.mark.parametrize(
    ("config", "puzzles", "message"),
    [
        ({"length": 10}, 0, "the model has 10 positions, but lines has 12 cells: set length = 12 in its Config"),
        ({"positions": "learned", "length": 10}, 0, "has 10 positions, but lines has 12 cells"),
        ({"mixer": "mlp", "length": 13}, 0, "has 13 positions, but lines has 12 cells"),
        ({"length": 11, "puzzles": 3}, 3, "has 11 positions, but lines has 12 cells"),
        ({"vocabulary": 4}, 0, "has vocabulary = 4, but lines has 5: set vocabulary = 5"),
        ({"mixer": "conv", "columns": 3}, 0, "see rows of 3 cells, but lines has rows of 6: set columns = 6"),
        ({}, 3, "has puzzles = 0, but lines has 3: set puzzles = 3"),
        ({"puzzles": 2}, 3, "has puzzles = 2, but lines has 3: set puzzles = 3"),
        ({"puzzles": 3}, 0, "has puzzles = 3, but lines has 0: set puzzles = 0"),
    ],
)
def test_a_model_of_another_task(config, puzzles, message):
    """Prevents: convolutions over rows that are none, identities that are dropped, errors from inside of PyTorch."""
    sizes = dict(vocabulary=5, length=12, d=16, heads=2, H_layers=1, L_layers=1, multiple=8)
    model, task = HRM(Config(**{**sizes, **config})), Lines(puzzles)
    with pytest.raises(ValueError, match=message):
        Trainer(model, task, Training(batch=4))
    with pytest.raises(ValueError, match=message):
        evaluate(model, task, task.test, Halting(2))
    fitting = HRM(Config(**{**sizes, "columns": 6, "puzzles": puzzles}))
    assert 0 <= evaluate(fitting, task, task.test, Halting(2))["curve"]["exact"][-1] < 1


def ones(*shape, **changes):
    return Grids(np.ones(shape, dtype=int), np.ones(shape, dtype=int), **changes)


@pytest.mark.parametrize(
    ("grids", "message"),
    [
        (ones(1, 9), "has 12 positions, but a grid has 9 cells"),
        (Grids(7 * ones(1, 12).x, ones(1, 12).y), "row 0 has symbol 7 in cell 0, but the model's are 0 … 4"),
        (Grids(-ones(1, 12).x, ones(1, 12).y), "row 0 has symbol -1 in cell 0"),
        (ones(2, 12, puzzle=np.array([0, 4])), "row 1 is of puzzle 4, but the model has puzzles = 3"),
    ],
)
def test_grids_that_a_model_cannot_take(grids, message):
    model = HRM(Config(vocabulary=5, length=12, puzzles=3, d=16, heads=2, H_layers=1, L_layers=1, multiple=8))
    with pytest.raises(ValueError, match=message):
        answer(model, grids, 2)


def test_modules_of_one_s_own_are_asked_themselves():
    """What the Config says of positions is nothing to modules that do not read it: their carries are compared."""

    class Own(torch.nn.Module):
        def __init__(self, positions):
            super().__init__()
            self.positions, self.W = positions, torch.nn.Linear(16, 16)

        def initial(self, batch):
            return torch.zeros(batch, self.positions, 16)

        def forward(self, carry, injection):
            return torch.tanh(self.W(injection))

        def read(self, carry):
            return carry

    sizes = dict(vocabulary=5, d=16, heads=2, length=81)
    task = Lines()
    for positions in (1, 12):  # one is all of them, broadcast
        t = Trainer(HRM(Config(**sizes), L=Own(positions), H=Own(12)), task, Training(batch=4, halting=Halting(2)))
        assert math.isfinite(t.step()["loss"])
    with pytest.raises(ValueError, match="has 9 positions, but lines has 12 cells"):
        Trainer(HRM(Config(**sizes), L=Own(9), H=Own(12)), task, Training(batch=4))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"loss": "hinge"}, "unknown loss 'hinge'; choose one of softmax, stablemax"),
        ({"optimizer": "sgd"}, "unknown optimizer 'sgd'"),
        ({"refill": "lose"}, "unknown refill 'lose'"),
        ({"average": 1.0}, r"average must lie in \[0, 1\), got 1"),
        ({"lr": float("nan")}, "lr must be ≥ 0, got nan"),
        ({"gradient": "last x"}, "last takes whole numbers, got 'x'"),
        ({"halting": Halting(0)}, "halt_max_steps must be at least 1, got 0"),
        ({"halting": Halting(3, 2.0)}, "exploration is a probability, got 2"),
    ],
)
def test_bad_input(changes, message):
    with pytest.raises(ValueError, match=message):
        trainer(**changes)


def test_symbols_are_whole_numbers():
    """Prevents: 1.7 that is learned as 1."""
    assert Grids(np.array([[1.0, 2.0]]), [[1, 2]]).x.tolist() == [[1, 2]]
    assert Grids(np.array([[1.0, 2.0]]), [[1, 2]]).x.dtype == np.int64
    for bad in (1.7, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"x must be of whole numbers, got {bad} in row 1, cell 0"):
            Grids(np.array([[1, 1], [bad, 1]]), np.ones((2, 2)))
    with pytest.raises(ValueError, match="y must be of whole numbers, got <U1"):
        Grids(np.ones((1, 2)), np.array([["a", "b"]]))
    with pytest.raises(ValueError, match=r"puzzle must be of whole numbers, got 0.5 in row 0"):
        Grids(np.ones((1, 2)), np.ones((1, 2)), puzzle=np.array([0.5]))
    task = Increment()
    task.train.x = task.train.x + 0.5
    with pytest.raises(ValueError, match="increment: train x must be of whole numbers"):
        trainer(task=task)


def test_bad_grids():
    task = Increment()
    task.test = Grids(task.test.x + 3, task.test.y)
    with pytest.raises(ValueError, match=r"increment: test row \d+ has x = [56] in cell \d"):
        trainer(task=task)
    task = Increment()
    task.validation = task.validation[:0]
    with pytest.raises(ValueError, match="the validation split is empty"):
        trainer(task=task)
    with pytest.raises(ValueError, match=r"x and y must both be \[puzzles, cells\]"):
        Grids(np.zeros((3, 4)), np.zeros((3, 5)))


def test_a_task_of_one_s_own():
    """The example of the docstring, learned from start to end."""
    from hrm.tasks import task as module

    source = module.__doc__.split("three splits.\n")[1].split("A task of one's own")[0]
    names = {"Task": Task, "Grids": Grids, "np": np}
    exec("\n".join(line[4:] for line in source.strip("\n").split("\n")), names)
    task = names["Copy"]()
    torch.manual_seed(0)
    model = HRM(Config(vocabulary=4, length=9, d=16, heads=2, H_layers=1, L_layers=1, multiple=8))
    t = Trainer(model, task, Training(batch=16, lr=1e-2, warmup=1, steps=60, halting=Halting(2)))
    for _ in range(60):
        t.step()
    assert t.evaluate(task.test)["curve"]["exact"][-1] > 0.9
    assert task.show(task.test.x[0])[0] == "".join(str(d) for d in task.test.x[0, :3])


def test_fit_is_steps_until_the_end():
    """Prevents: a loop that forgets where a resumed training stands, or its last row."""
    by_hand, fitted = trainer(steps=6), trainer(steps=6)
    rows = [by_hand.step() for _ in range(by_hand.o.steps)]
    seen = []
    assert fitted.fit(3, callback=lambda t, row: seen.append((t.steps, row["loss"]))) == rows[2]
    assert fitted.fit(callback=lambda t, row: seen.append((t.steps, row["loss"]))) == rows[-1]
    assert seen == [(i + 1, row["loss"]) for i, row in enumerate(rows)]
    with pytest.raises(ValueError, match=f"no step is left: {len(rows)} of {len(rows)} are done"):
        fitted.fit()
    stopped = trainer()
    stopped.fit(callback=lambda t, row: t.steps == 2)
    assert stopped.steps == 2
