"""Units: a model in which digits, and the places that Sudoku's symmetries exchange, are alike."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hrm import act, controls, layers, weights
from hrm.act import Halting
from hrm.gradients import STRATEGIES, strategy
from hrm.model import HRM, Config
from hrm.tasks import sudoku
from hrm.tasks.task import Grids, Task
from hrm.train import Trainer, Training
from hrm.train import answer as train_answer

SIZES = dict(d=8, heads=1, H_layers=1, L_layers=2, multiple=8, mixer="units")


def tiny(n, seed=0, **changes):
    torch.manual_seed(seed)
    model = HRM(Config(**{**SIZES, "vocabulary": n + 2, "length": n * n, "columns": n, **changes})).double()
    with torch.no_grad():
        model.q_head.weight.normal_()
    return model


def puzzles(n, number=3, seed=0):
    """Grids without rules, [number, cells] of digits: equivariance is of the model, not of what it is shown."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random((number, n * n)) < 0.5, 0, rng.integers(1, n + 1, (number, n * n)))


def answered(model, grids, segments=2):
    *_, (out, *_) = act.solve(model, torch.from_numpy(sudoku.to_symbols(grids)), None, segments)
    return out


@pytest.mark.parametrize("n", sudoku.BOXES)
def test_units_of_the_task(n):
    """Prevents: boxes that lie across, units in another order than the embedding's and the head's. The arbiter is the
    solver's list of units."""
    torch.manual_seed(0)
    mix = layers.Units(4, n, 4.0, 8).double()
    z = torch.randn(2, n * n, n, 4, dtype=torch.float64)
    expected = torch.zeros_like(z)
    rows, columns, boxes = np.array(sudoku.units(n)).reshape(3, n, n)
    for net, groups in ((mix.line, rows), (mix.line, columns), (mix.box, boxes)):
        for cells in groups.tolist():
            expected[:, cells] += net(z[:, cells].sum(1) / n**0.5).unsqueeze(1)
    expected += mix.cell(z.sum(2) / n**0.5).unsqueeze(2)
    torch.testing.assert_close(mix(z.flatten(1, 2)), expected.flatten(1, 2))


@pytest.mark.parametrize("digits_only", [True, False])
@pytest.mark.parametrize("n", sudoku.BOXES)
def test_a_changed_puzzle_has_the_changed_answer(n, digits_only):
    """Prevents: weights, a beginning or a Q-head that know digits or places."""
    model, rng, grids = tiny(n), np.random.default_rng(n), puzzles(n)
    before = answered(model, grids)
    turned = 0
    for _ in range(6):
        change = sudoku.symmetry(n, rng, digits_only)
        after = answered(model, change(grids))
        symbols = np.concatenate([[0], change.digits + sudoku.BLANK])  # what each symbol becomes
        moved = before.logits[:, change.cells]
        torch.testing.assert_close(after.logits[..., symbols], moved, rtol=0, atol=1e-12)
        torch.testing.assert_close(after.q_halt, before.q_halt, rtol=0, atol=1e-12)
        turned += (moved - before.logits).abs().max() > 1e-3 or digits_only
    assert turned > 3
    # what is no symmetry is noticed
    swapped = np.arange(n * n).reshape(n, n)
    swapped[[0, n - 1]] = swapped[[n - 1, 0]]  # rows of different bands
    other = answered(model, grids[:, swapped.reshape(-1)]).logits
    assert (other - before.logits[:, swapped.reshape(-1)]).abs().max() > 1e-3


def test_what_is_embedded_and_read():
    """Of each candidate: which symbol without a digit is there, another digit, or this one. Logits of a digit are read
    from its own state; those of other symbols from all states of the cell."""
    model = tiny(4)
    x = torch.full((1, 16), sudoku.BLANK)
    x[0, 5], x[0, 6] = 3 + sudoku.BLANK, 0
    kinds = torch.ones(16, 4, dtype=torch.long)
    kinds[5], kinds[6] = torch.tensor([2, 2, 3, 2]), 0
    expected = F.embedding(kinds.flatten(), model.embedding.weight) * 8**0.5
    torch.testing.assert_close(model.embed(x)[0], expected)
    carry = model.initial(1)._replace(H=torch.randn(1, 64, 8, dtype=torch.float64))
    z, (empty, blank, digit) = carry.H[0].reshape(16, 4, 8), model.output_head.weight
    others = [z.mean(1) @ empty, z.mean(1) @ blank]
    out = model.read_out(carry)
    torch.testing.assert_close(out.logits[0], torch.stack([*others, *(z @ digit).unbind(1)], 1))
    torch.testing.assert_close(out.q_halt, model.q_head(carry.H.mean(1))[:, 0])


def test_beginnings_have_no_places():
    """A fixed z0 is the same for all candidates; a random one has a number for each."""
    carry = tiny(6).initial(2)
    assert carry.L.shape == (2, 6**3, 8)
    assert torch.equal(carry.L, carry.L[:1, :1].expand_as(carry.L))
    assert len(tiny(6, z0="random").initial(2).L[0].unique()) == 6**3 * 8


@pytest.mark.parametrize("name", [f"{name} 2" if name == "last" else name for name in STRATEGIES])
def test_every_gradient(name):
    """Each parameter learns under each strategy; what bptt finds is the slope of the loss."""
    model = tiny(4)
    x = torch.from_numpy(sudoku.to_symbols(puzzles(4)))

    def loss():
        new, _ = strategy(name)(model, model.initial(3), model.embed(x))
        out = model.read_out(new)
        return out.logits.log_softmax(-1)[..., 2].mean() + out.q_halt.mean() + out.q_continue.mean()

    loss().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())
    if name == "bptt":
        p = model.L.blocks[0].mixer.line.down.weight
        with torch.no_grad():
            p[0, 0] += 1e-6
            above = loss()
            p[0, 0] -= 2e-6
            slope = (above - loss()) / 2e-6
        assert abs(slope - p.grad[0, 0]) < 1e-6 * max(1, abs(slope))


def of_fours():
    """Puzzles of 4 × 4 with four blanks, 20 to learn."""
    rng = np.random.default_rng(0)
    y = np.stack([sudoku.full_grid(4, rng) for _ in range(24)])
    x = np.where(rng.random(y.shape).argsort(1) < 4, 0, y)
    parts = (slice(20), slice(20, 22), slice(22, None))
    return sudoku.Sudoku(4, *(Grids(sudoku.to_symbols(x[part]), sudoku.to_symbols(y[part])) for part in parts))


def test_learns_is_saved_and_solves(tmp_path):
    """From training with random beginnings, averages and halting, which finds more cells than chance (a quarter), to
    the same answer from the file; the checkpoint goes on as if there had been no interruption."""
    options = Training(
        batch=16, steps=70, gradient="bptt", lr=0.005, warmup=1, noise=0.001, average=0.9,
        halting=Halting(3, q_continue=False),
    )  # fmt: skip

    def trainer():
        torch.manual_seed(0)
        config = Config(**{**SIZES, "d": 16, "L_layers": 1}, vocabulary=6, length=16, columns=4, z0="random")
        return Trainer(HRM(config), of_fours(), options)

    one = trainer()
    for _ in range(60):
        one.step()
    saved = one.state_dict()
    rows = [one.step() for _ in range(10)]
    assert np.mean([row["cells"] for row in rows]) > 0.4
    again = trainer()
    again.load_state_dict(saved)
    assert again.fit() == rows[-1]
    one.save(tmp_path / "units.pt")
    test = one.task.test
    answer = weights.load(tmp_path / "units.pt").solve(test.x[0].reshape(4, 4) - sudoku.BLANK)
    own = train_answer(one.evaluated, test[:1], 3).symbols[:, 0]
    assert (answer.steps.reshape(3, 16) + sudoku.BLANK == own.clip(sudoku.BLANK)).all()


def test_recurrent_control():
    """In place of L and H: the same states, and equivariant too."""
    model = controls.recurrent(tiny(4).config, 1, 2).double()
    grids, digits = puzzles(4), np.array([0, 1, 3, 4, 5, 2])
    after = answered(model, (digits - 1).clip(0)[1:][grids]).logits
    torch.testing.assert_close(after[..., digits], answered(model, grids).logits, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"columns": 5}, "no sudoku of 5 × 5"),
        ({"length": 15}, "of 4 columns it has 16 cells and 4 digits after at least one other symbol, got 15 cells"),
        ({"vocabulary": 4}, "a vocabulary of 4"),
        ({"puzzles": 2}, "mixer = 'units' has no puzzles = 2"),
        ({"positions": "learned"}, "mixer = 'units' has no positions = 'learned'"),
        ({"modules": "gle"}, "mixer = 'units' has no modules = 'gle'"),
        ({"inner_tau": 2.0, "modules": "gle"}, "mixer = 'units' has no modules = 'gle'"),
    ],
)
def test_bad_configuration(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny(4, **changes)


def test_what_does_not_fit():
    model = HRM(tiny(4).config)
    with pytest.raises(ValueError, match=r"local errors do not go through mixer = 'units'"):
        Trainer(model, of_fours(), Training(gradient="local"))
    other = Task("others", 3, 4, 6)
    other.train = other.validation = other.test = Grids(np.ones((1, 12)), np.ones((1, 12)))
    with pytest.raises(ValueError, match="the model has 16 positions, but others has 12 cells: set length = 12"):
        Trainer(model, other, Training())
    assert dataclasses.replace(model.config, mixer="mlp").states == 16
    assert model.config.states == 64
