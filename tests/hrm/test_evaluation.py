"""Evaluation that begins again and again, and stops where nothing moves any more."""

import itertools

import numpy as np
import pytest
import torch

from hrm import act, train
from hrm.act import Halting
from hrm.gradients import run
from hrm.model import HRM, Config
from hrm.tasks.task import Grids, Task
from hrm.train import answer, evaluate

SIZES = dict(vocabulary=5, length=6, d=8, heads=1, H_layers=1, L_layers=1, multiple=8, mixer="mlp", damping=0.7)


def model(**changes):
    torch.manual_seed(0)
    return HRM(Config(**{**SIZES, "z0": "random", **changes})).double()


def symbols(rows=12):
    return torch.randint(5, (rows, 6), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def by_hand(m, x, segments, draw=0):
    """Logits and residuals after each segment, no row ever stopping."""
    carry, embedded, logits, residuals = m.initial(len(x), draw=draw), m.embed(x), [], []
    for _ in range(segments):
        before, carry = carry, run(m, carry, embedded, 0, m.config.steps)
        old, new = (torch.stack([c.L, c.H]) for c in (before, carry))
        change, size = ((z**2).sum((0, 2, 3)).sqrt() for z in (new - old, new))
        residuals.append(change / size)
        logits.append(m.read_out(carry).logits)
    return torch.stack(logits), torch.stack(residuals)


def test_settled_rows_keep_their_answer():
    """Prevents: a row that stops too early or never, takes another's answer when others have left the batch, or is
    computed on."""
    m, x = model(), symbols()
    logits, residuals = by_hand(m, x, 6)
    threshold = residuals[3].median().item()
    settled = residuals < threshold
    settled[-1] = True
    first = settled.int().argmax(0)
    assert len(first.unique()) > 2
    sizes, step = [], m.step
    m.step = lambda carry, *more: sizes.append(len(carry.H)) or step(carry, *more)
    *_, (out, used, residual) = act.solve(m, x, None, 6, settled=threshold)
    assert used.tolist() == (first + 1).tolist()
    torch.testing.assert_close(out.logits, logits[first, torch.arange(12)])
    torch.testing.assert_close(residual, residuals[first, torch.arange(12)])
    assert sizes[:: m.config.steps] == [n for i in range(6) if (n := int((first >= i).sum()))]


def test_nothing_goes_on_when_all_have_settled():
    m = model()
    alike = [out.logits for out, *_ in act.solve(m, symbols(), None, 3, settled=1e9)]
    assert len(alike) == 3
    torch.testing.assert_close(alike[2], by_hand(m, symbols(), 1)[0][0])


def test_least_residual_is_taken():
    """After each segment anew, of carries that differ; one restart is evaluation as ever."""
    m, x = model(), symbols()
    grids = Grids(x.numpy(), x.numpy())
    tried = [by_hand(m, x, 4, draw) for draw in range(3)]
    each = torch.stack([logits.argmax(-1) for logits, _ in tried])
    least = torch.stack([residuals for _, residuals in tried]).argmin(0)
    found = answer(m, grids, 4, batch=5, restarts=3)
    expected = each.gather(0, least[None, ..., None].expand(1, -1, -1, 6))[0]
    assert np.array_equal(found.symbols, expected.numpy())
    assert np.array_equal(found.each, each.numpy())
    assert (found.used == 12).all()
    assert len(least.unique()) == 3
    assert (each[0] != each[1]).any()
    assert np.array_equal(answer(m, grids, 4).symbols, each[0].numpy())


def test_vote():
    """By hand: the answer as a whole, not cell by cell; of equals the first."""
    a, b, c = [0, 0, 0], [0, 1, 1], [1, 0, 1]  # cell by cell, a, b and c would make 0 0 1
    each = np.array([[b, a, c], [c, b, b], [c, c, a]])  # [restarts, puzzles, cells]
    assert train.voted(each).tolist() == [c, a, c]


def test_ways_to_an_answer(monkeypatch):
    """By hand, of made-up answers to three puzzles from three carries: shares of right ones."""
    answers = np.array([[[1, 1], [2, 2], [1, 2]], [[2, 2], [1, 1], [2, 1]], [[1, 1], [2, 2], [2, 1]]])
    x, y = np.zeros((3, 2), dtype=int), np.array([[2, 2], [1, 2], [2, 1]])
    task = Task("pairs", 1, 2, 3)
    residuals = [[1.0, 2.0, 2.0], [0.5, 1.0, 1.0], [2.0, 3.0, 0.5]]

    def solve(m, x, puzzle, segments, halting, task, settled, draw):
        rows = torch.arange(len(x))
        logits = torch.nn.functional.one_hot(torch.from_numpy(answers[draw]), 3).float()
        yield act.Reached(act.Output(logits, rows.float(), rows), rows + 1, torch.tensor(residuals[draw]))

    monkeypatch.setattr(act, "solve", solve)
    small = HRM(Config(**{**SIZES, "z0": "random", "length": 2, "vocabulary": 3}))
    found = evaluate(small, task, Grids(x, y), Halting(1), 1, restarts=3)
    assert found["restarts"]["exact"] == pytest.approx(
        {"one carry": 3 / 9, "least residual": 2 / 3, "vote": 1 / 3, "verifier": 2 / 3}
    )
    assert found["curve"]["exact"] == pytest.approx([2 / 3])


class Mirrored(Task):
    """Rows that can be read from both ends; what is said against an answer is its first symbol."""

    views = 2

    def view(self, x, which):
        return x[:, ::-1] if which else x

    back = view

    def faults(self, x, answers):
        return answers[:, 0]


def test_the_answer_with_fewest_faults_is_taken():
    """By hand, puzzle by puzzle, of all segments so far and both views, whose answers are mirrored back; of equal
    answers the first view's latest."""
    m, x = model(z0="fixed"), symbols(20)
    task, grids = Mirrored("rows", 1, 6, 5), Grids(x.numpy(), x.numpy())
    first, second = by_hand(m, x, 3)[0].argmax(-1), by_hand(m, x.flip(1), 3)[0].argmax(-1).flip(-1)
    each = torch.stack([first, second])
    for views in (1, 2):
        expected = first.clone()
        for segment, row in itertools.product(range(3), range(20)):
            tried = [(view, s) for view in range(views) for s in reversed(range(segment + 1))]
            expected[segment, row] = each[min(tried, key=lambda t: each[t][row, 0])][row]
        assert (expected != first).any(-1).any(-1)[2]
        found = [a for _, a in train.answers(m, grids, 3, batch=7, task=task, by_faults=True, views=views)]
        assert np.array_equal(np.concatenate([a.symbols for a in found], 1), expected.numpy())
        assert np.array_equal(np.concatenate([a.each for a in found], 2), each[:views].numpy())
        result = evaluate(m, task, grids, Halting(3), by_faults=True, views=views)
        shares = [(a == x).all(-1).double().mean(-1).tolist() for a in (first, expected)]
        assert result["alone"]["exact"] == pytest.approx(shares[0])
        assert result["curve"]["exact"] == pytest.approx(shares[1])
        either = (each[:views] == x).all(-1).any(0).any(0).double().mean().item()
        assert result["faults"]["exact"] == pytest.approx(
            {"as it stands": shares[0][-1], "fewest faults": shares[1][-1], "vote": shares[0][-1], "verifier": either}
        )
    with pytest.raises(ValueError, match="by_faults: faults are what a task knows: give task, too"):
        next(train.answers(m, grids, 3, by_faults=True))
    with pytest.raises(ValueError, match="by_faults: rows knows no faults of an answer: leave it out"):
        evaluate(m, Task("rows", 1, 6, 5), grids, Halting(3), by_faults=True)
    with pytest.raises(ValueError, match="views = 3, but rows has 2: lower views"):
        evaluate(m, task, grids, Halting(3), by_faults=True, views=3)


def test_faults_decide_among_restarts_in_several_views():
    """Each view from each restart; residuals have no say then."""
    m, x = model(z0="random"), symbols(20)
    task, grids = Mirrored("rows", 1, 6, 5), Grids(x.numpy(), x.numpy())
    found = answers_of(m, task, grids, by_faults=True, views=2, restarts=3)
    each = [answers_of(m, task, of, restarts=3).each for of in (grids, Grids(grids.x[:, ::-1], grids.y))]
    assert np.array_equal(found.each, np.concatenate([each[0], each[1][..., ::-1]]))
    assert np.array_equal(found.symbols[-1, :, 0], found.each[..., 0].min((0, 1)))
    result = evaluate(m, task, grids, Halting(3), by_faults=True, views=2, restarts=3)
    assert "restarts" not in result
    assert result["faults"]["exact"]["as it stands"] == (found.each[0, -1] == grids.y).all(-1).mean()


def answers_of(m, task, grids, **how):
    ((_, found),) = train.answers(m, grids, 3, task=task, **how)
    return found


@pytest.mark.parametrize(
    ("changes", "how", "message"),
    [
        (
            {"z0": "fixed"},
            {"restarts": 2},
            "restarts = 2 needs a model that begins elsewhere each time: set z0 = random",
        ),
        ({}, {"restarts": 0}, "restarts must be at least 1, got 0"),
        ({}, {"settled": -1.0}, "settled must be ≥ 0, got -1"),
        ({}, {"settled": float("nan")}, "settled must be ≥ 0, got nan"),
    ],
)
def test_bad_evaluation(changes, how, message):
    with pytest.raises(ValueError, match=message):
        answer(model(**changes), Grids(symbols().numpy(), symbols().numpy()), 2, **how)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"views": 0}, "views must be at least 1, got 0"),
        ({"views": 2}, "views = 2: among their answers faults decide: set by_faults, too"),
    ],
)
def test_bad_views(how, message):
    with pytest.raises(ValueError, match=message):
        evaluate(model(), Mirrored("rows", 1, 6, 5), Grids(symbols().numpy(), symbols().numpy()), Halting(2), **how)
