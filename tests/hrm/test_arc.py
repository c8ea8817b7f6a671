"""ARC: files and their faults, augmentations and their inverse, the canvas, leaks, votes."""

import itertools
import json

import numpy as np
import pytest

from hrm.tasks import arc
from hrm.tasks.arc import BLACK, END, PAD, Arc, Change, Pair, Puzzle
from hrm.tasks.task import IGNORE


def grid(*rows):
    return np.array([[int(c) for c in row] for row in rows], dtype=np.int8)


def puzzle(name, seed, pairs=3):
    rng = np.random.default_rng(seed)
    made = [Pair(*(rng.integers(0, 10, (3, 2 + i)).astype(np.int8) for _ in range(2))) for i in range(pairs + 1)]
    return Puzzle(name, made[:pairs], made[pairs:])


TRAINING, EVALUATION = [puzzle(f"t{i}", i) for i in range(4)], [puzzle(f"e{i}", 10 + i) for i in range(2)]


def test_changes_and_their_inverse():
    """All eight symmetries are different, keep black, and are undone by `back`."""
    cells = grid("0120", "3456")
    rng = np.random.default_rng(0)
    for change in [*(Change(turn=t) for t in range(8)), *arc.changes(20, rng)]:
        assert np.array_equal(change.back(change(cells)), cells)
        assert (change(cells) == 0).sum() == 2
    assert len({Change(turn=t)(cells).tobytes() + bytes(Change(turn=t)(cells).shape) for t in range(8)}) == 8
    drawn = arc.changes(50, rng)
    assert len(set(drawn)) == 50
    assert drawn[0] == Change()


def test_canonical_form():
    """Prevents: a test pair that is a training pair turned, reflected or recoloured."""
    rng = np.random.default_rng(1)
    pair = Pair(grid("0123", "4516"), grid("11", "07"))
    marks = {arc.canonical(change.of(pair)) for change in arc.changes(40, rng)}
    assert len(marks) == 1
    others = [
        Pair(grid("0123", "4515"), pair.output),
        Pair(pair.input, grid("11", "70")),
        Pair(pair.output, pair.input),
    ]
    assert not marks & {arc.canonical(other) for other in others}


def test_canvas():
    cells = grid("012", "345")
    canvas = arc.to_canvas(cells, 4).reshape(4, 4)
    assert canvas.tolist() == [
        [BLACK, BLACK + 1, BLACK + 2, END],
        [BLACK + 3, BLACK + 4, BLACK + 5, END],
        [END, END, END, END],
        [PAD] * 4,
    ]
    for size in (3, 4, 9):
        assert np.array_equal(arc.from_canvas(arc.to_canvas(cells, size), size), cells)
    assert arc.from_canvas(np.full(9, PAD), 3).size == 0
    moved = arc.to_canvas(cells, 4, 1, 1).reshape(4, 4)
    assert np.array_equal(moved[1:3, 1:4] - BLACK, cells)
    assert (moved[0] == PAD).all()


def test_task():
    """Every task under every augmentation has an identity; demonstrations are learned, test pairs of evaluation and of
    held-out tasks are asked, and of them nothing is learned."""
    task = Arc(TRAINING, EVALUATION, size=6, augmentations=3, held_out=1)
    task.check()
    assert task.puzzles == 6 * 3
    assert len(task.train) == 3 * (
        3 * 4 + 3 + 2 * 3
    )  # kept tasks with their test pair, held-out and evaluation without
    assert (len(task.validation), len(task.test)) == (3 * 1, 3 * 2)
    assert set(task.train.puzzle.tolist()) == set(range(18))
    seen = {
        arc.canonical(Pair(*(arc.from_canvas(np.maximum(s, 0), 6) for s in row)))
        for row in zip(task.train.x, task.train.y)
    }
    for p in (TRAINING[-1], *EVALUATION):
        assert all(arc.canonical(pair) not in seen for pair in p.test)
        assert all(arc.canonical(pair) in seen for pair in p.train)
    assert (task.train.y[task.train.x == PAD] != PAD).all()
    assert (task.test.y == IGNORE).any()


def test_leaks_are_left_out():
    """The evaluation folder given as training folder, too: nothing that is asked is learned."""
    task = Arc([*EVALUATION, TRAINING[0]], EVALUATION, size=6, augmentations=2, held_out=1)
    assert task.leaks == 2
    turned = Puzzle("turned", [Change(turn=5).of(EVALUATION[0].test[0])], TRAINING[1].test)
    assert Arc([turned, TRAINING[0]], EVALUATION, size=6, augmentations=2, held_out=1).leaks == 1


def test_shifts_keep_the_grids():
    task = Arc(TRAINING, EVALUATION, size=7, augmentations=1, held_out=1)
    rng = np.random.default_rng(0)
    places = set()
    for _ in range(50):
        x, y = task.augment(task.train.x[0], task.train.y[0], rng)
        found = np.argwhere(x.reshape(7, 7) >= BLACK)
        places.add(tuple(found.min(0).tolist()))
        for before, after in ((task.train.x[0], x), (task.train.y[0], np.where(y == IGNORE, PAD, y))):
            cells = after.reshape(7, 7)[found.min(0)[0] :, found.min(0)[1] :]
            padded = np.full((7, 7), PAD)
            padded[: len(cells), : cells.shape[1]] = cells
            assert np.array_equal(
                arc.from_canvas(padded, 7), arc.from_canvas(np.where(before == IGNORE, PAD, before), 7)
            )
    assert len(places) > 5


def test_votes():
    """Answers are turned back before they are counted; ties go to the surer one; two tries are two answers."""
    task = Arc(TRAINING, EVALUATION, size=6, augmentations=4, held_out=1)
    right = np.where(task.test.y == IGNORE, PAD, task.test.y)
    sure = np.zeros(len(right))
    assert all(task.solved("test", task.vote("test", right, sure, 1)).values())
    answers = right.copy()
    for row in (0, 1):  # two of the first input's four augmentations agree on something else
        wrong = task.questions["test"][row].change(grid("12", "34"))
        answers[row] = arc.to_canvas(wrong, 6)
    first = ("e0", 0)
    assert task.solved("test", task.vote("test", answers, np.array([1.0] * 2 + [0.0] * 6), 1)) == {
        first: False,
        ("e1", 0): True,
    }
    assert task.solved("test", task.vote("test", answers, np.array([0.0] * 2 + [1.0] * 6), 1))[first]
    tried = task.vote("test", answers, np.array([1.0] * 2 + [0.0] * 6), 2)[first]
    assert len(tried) == 2
    assert np.array_equal(tried[0], grid("12", "34"))
    assert all(task.solved("test", task.vote("test", answers, sure, 2)).values())
    for a, b in itertools.combinations(tried, 2):
        assert not np.array_equal(a, b)


def write(folder, content):
    folder.mkdir(exist_ok=True)
    (folder / "a.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


GOOD = {"input": [[0, 1]], "output": [[2]]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "a.json is not a readable JSON file"),
        ([], "a.json: train must be a list of pairs"),
        ({"train": [GOOD]}, "a.json: test must be a list of pairs"),
        ({"train": [GOOD, {"input": [[1]]}], "test": [GOOD]}, "a.json: train pair 1 must have an input and an output"),
        ({"train": [{**GOOD, "output": [[1, 2], [3]]}], "test": [GOOD]}, r"rows of different lengths: \[1, 2\]"),
        ({"train": [{**GOOD, "output": [[1, 10]]}], "test": [GOOD]}, "has 10 in row 0, column 1; colours are 0 … 9"),
        ({"train": [{**GOOD, "output": [[True]]}], "test": [GOOD]}, "has True in row 0, column 0"),
        ({"train": [{**GOOD, "output": []}], "test": [GOOD]}, "output of train pair 0 must be a list of rows"),
        ({"train": [{**GOOD, "input": [[0] * 31]}], "test": [GOOD]}, "has 1 × 31 cells; 30 × 30 are the most"),
    ],
)  # fmt: skip
def test_faulty_files(content, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        arc.load_folder(write(tmp_path / "arc", content))


def test_folders(tmp_path):
    with pytest.raises(ValueError, match="holds no ARC tasks"):
        arc.load_folder(tmp_path)
    (found,) = arc.load_folder(write(tmp_path / "arc", {"train": [GOOD], "test": [GOOD, GOOD]}))
    assert (found.name, len(found.train), len(found.test)) == ("a", 1, 2)
    assert found.train[0].input.tolist() == [[0, 1]]


def test_bad_input():
    with pytest.raises(ValueError, match="4 training tasks, of which 4 are held out"):
        Arc(TRAINING, EVALUATION, size=6, augmentations=2, held_out=4)
    with pytest.raises(ValueError, match=r"0 training tasks.*fit a canvas of 2 × 2"):
        Arc(TRAINING, EVALUATION, size=2, augmentations=2, held_out=1)
    with pytest.raises(ValueError, match=r"1 … 30 cells an edge, got 31"):
        Arc(TRAINING, EVALUATION, size=31)
    with pytest.raises(ValueError, match="augmentations must be at least 1"):
        Arc(TRAINING, EVALUATION, size=6, augmentations=0)
