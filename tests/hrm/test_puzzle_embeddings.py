"""Embeddings of puzzle identities: sign-SGD on the rows at hand, against a literal loop, its dense form, and two
processes against one."""

import copy
import os

import numpy as np
import pytest
import torch
import torch.distributed as dist
from processes import side_by_side

from hrm.act import Halting
from hrm.gradients import strategy
from hrm.losses import LOSSES, losses
from hrm.model import HRM, Config
from hrm.optim import learning_rate, sign_sgd
from hrm.tasks.task import Grids, Task
from hrm.train import Trainer, Training

IDENTITIES = 30


class Shifts(Task):
    """Each cell moved on by as much as the identity says: nothing else tells."""

    def __init__(self, identities=IDENTITIES, rows=120):
        super().__init__("shifts", 1, 4, 5)
        rng = np.random.default_rng(0)
        x, puzzle = rng.integers(0, 5, (rows, 4)), np.arange(rows) % identities
        grids = Grids(x, (x + puzzle[:, None]) % 5, puzzle=puzzle)
        self.train, self.validation, self.test = grids, grids, grids
        self.puzzles = identities


def trainer(task=None, compile=None, **changes):
    task = task or Shifts()
    torch.manual_seed(0)
    model = HRM(Config(vocabulary=5, length=4, d=16, heads=2, H_layers=1, L_layers=1, multiple=8, puzzles=task.puzzles))
    o = Training(**{"batch": 8, "lr": 3e-3, "warmup": 3, "steps": 300, "halting": Halting(2), **changes})
    return Trainer(model, task, o, 0, compile)


def test_sign_sgd_by_hand():
    """Prevents: rows that move though their puzzle is not at hand; of a row that is used twice, one gradient lost."""
    g = torch.Generator().manual_seed(0)
    table, grads = torch.randn(9, 4, generator=g), torch.randn(6, 4, generator=g)
    rows = torch.tensor([3, 0, 3, 8, 3, 0])
    before, expected = table.clone(), table.double().numpy().copy()
    for row in range(9):
        uses = [k for k in range(6) if rows[k] == row]
        for j in range(4):
            if uses:
                total = sum(grads[k, j].item() for k in uses)
                expected[row, j] = expected[row, j] * (1 - 0.1 * 0.5) - 0.1 * np.sign(total)
    assert (grads[[0, 2, 4]].sum(0).sign() != grads[4].sign()).any()
    sign_sgd(table, rows, grads, 0.1, 0.5)
    np.testing.assert_allclose(table.numpy(), expected, rtol=1e-6)
    others = [1, 2, 4, 5, 6, 7]
    assert torch.equal(table[others], before[others])


def test_rows_at_hand_move_as_in_the_dense_form():
    """Where every identity is in the batch, a step is sign-SGD on the whole table, by autograd's own gradient of it;
    the other weights get the gradient that they get beside a table like any other weight."""
    t = trainer(Shifts(identities=3), puzzle_lr=0.02, puzzle_weight_decay=0.3)
    with torch.no_grad():
        t.table.normal_(generator=torch.Generator().manual_seed(1))
    t.slots = t.refill(t.slots)
    assert set(t.slots.puzzle.tolist()) == {0, 1, 2}
    dense = copy.deepcopy(t.model)
    carry, _ = strategy("one_step")(dense, t.slots.carry, dense.embed(t.slots.x, t.slots.puzzle))
    with torch.no_grad():
        ahead, _ = strategy("one_step")(dense, carry, dense.embed(t.slots.x, t.slots.puzzle))
        best = torch.maximum(dense.read_out(ahead).q_halt, dense.read_out(ahead).q_continue).sigmoid()
    losses(dense.read_out(carry), t.slots.y, LOSSES["softmax"], best, 0.5).total.backward()
    grad = dense.puzzle_embedding.weight.grad
    assert grad.norm() > 1e-4
    lr = learning_rate(0, lr=0.02, warmup=3, steps=300, final=0.1)
    expected = t.table.detach() * (1 - lr * 0.3) - lr * grad.sign()
    t.step()
    torch.testing.assert_close(t.table.detach(), expected, rtol=0, atol=1e-6)
    assert t.table.grad is None
    for name, p in t.model.named_parameters():
        if p is not t.table:
            torch.testing.assert_close(p.grad, dict(dense.named_parameters())[name].grad)


def test_only_puzzles_at_hand_move():
    """Prevents: decay, or moments, that move hundreds of thousands of rows at each step."""
    t = trainer()
    with torch.no_grad():
        t.table.fill_(1.0)
    seen = set()
    for _ in range(3):
        t.step()
        seen |= set(t.slots.puzzle.tolist())
    moved = (t.table != 1).any(1).nonzero().flatten().tolist()
    assert set(moved) == seen
    assert len(seen) < IDENTITIES
    assert not any(p is t.table for group in t.optimizer.param_groups for p in group["params"])


def test_what_only_the_identity_tells_is_learned():
    """Prevents: embeddings that move, but not to where the answers are. With embeddings that stay, one of three answers
    is right at most."""
    task = Shifts(identities=3, rows=60)
    exact = {}
    for puzzle_lr in (3e-2, 0.0):
        t = trainer(task, batch=16, lr=1e-2, puzzle_lr=puzzle_lr, halting=Halting(1, learned=False))
        for _ in range(120):
            t.step()
        exact[puzzle_lr] = t.evaluate(task.test)["curve"]["exact"][-1]
    assert exact[3e-2] > 0.9
    assert exact[0.0] < 0.4


@pytest.mark.parametrize("changes", [{}, {"average": 0.9, "clip": 1.0}, {"gradient": "bptt", "refill": "drop"}])
def test_resumed_is_uninterrupted(changes, tmp_path):
    whole = trainer(**changes)
    expected = [whole.step()["loss"] for _ in range(10)]
    cut = trainer(**changes)
    for _ in range(4):
        cut.step()
    torch.save(cut.state_dict(), tmp_path / "state.pt")
    again = trainer(**changes)
    again.step()  # whatever it has been doing
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert [again.step()["loss"] for _ in range(6)] == expected[4:]
    assert torch.equal(again.table, whole.table)
    assert whole.table.abs().max() > 0
    for p, q in zip(again.evaluated.parameters(), whole.evaluated.parameters(), strict=True):
        assert torch.equal(p, q)


def test_averaged_weights_share_the_embeddings(tmp_path):
    """Prevents: a second table of hundreds of thousands of rows, in memory or in the checkpoint, and an average over
    all of it at each step. The other weights are averaged as ever."""
    t = trainer(Shifts(identities=20_000, rows=20_000), average=0.9)
    before = t.model.output_head.weight.detach().clone()
    t.step()
    assert t.evaluated is not t.model
    assert t.evaluated.puzzle_embedding.weight is t.table
    expected = 0.9 * before + 0.1 * t.model.output_head.weight
    torch.testing.assert_close(t.evaluated.output_head.weight.detach(), expected.detach())
    assert all(not p.requires_grad for p in t.evaluated.parameters() if p is not t.table)
    t.step()  # the table still learns
    assert (t.table[t.slots.puzzle] != 0).any(1).all()
    torch.save(t.state_dict(), tmp_path / "state.pt")
    assert (tmp_path / "state.pt").stat().st_size < 1.5 * t.table.numel() * 4


@pytest.mark.slow
def test_compiled_is_eager():
    def compile(function, device):
        return torch.compile(function, backend="aot_eager")

    eager, compiled = trainer(), trainer(compile=compile)
    for _ in range(6):
        assert compiled.step()["loss"] == pytest.approx(eager.step()["loss"], rel=1e-5)
    torch.testing.assert_close(compiled.table, eager.table)
    assert eager.table.abs().max() > 0


def process(number, folder):
    os.environ.update(MASTER_ADDR="127.0.0.1", GLOO_SOCKET_IFNAME="lo")
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=number, world_size=2)
    torch.set_num_threads(1)
    t = trainer(average=0.9)
    curve = [t.step()["loss"] for _ in range(6)]
    torch.save({"curve": curve, "table": t.table.detach(), "state": t.state_dict()}, f"{folder}/{number}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_are_one(tmp_path):
    """Prevents: rows that only the process moves whose puzzle it is, so that tables part; a checkpoint that does not go
    on in one process."""
    side_by_side(process, str(tmp_path))
    two = [torch.load(tmp_path / f"{n}.pt", weights_only=True) for n in (0, 1)]
    one = trainer(average=0.9)
    np.testing.assert_allclose([one.step()["loss"] for _ in range(6)], two[0]["curve"], rtol=1e-4)
    assert torch.equal(two[0]["table"], two[1]["table"])
    torch.testing.assert_close(one.table.detach(), two[0]["table"])
    again = trainer(average=0.9)
    again.load_state_dict(two[1]["state"])
    np.testing.assert_allclose(again.step()["loss"], one.step()["loss"], rtol=1e-3)


@pytest.mark.parametrize("name", ["puzzle_lr", "puzzle_weight_decay"])
def test_bad_input(name):
    with pytest.raises(ValueError, match=f"{name} must be ≥ 0, got -1"):
        trainer(**{name: -1.0})
