"""ARC: files and their faults, augmentations and their inverse, the canvas, leaks, votes, submissions."""

import itertools
import json
import math
import tracemalloc

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
    assert len(task.train) == 3 * 4 + 3 + 2 * 3  # kept tasks with their test pair, held-out and evaluation without
    assert (len(task.validation), len(task.test)) == (3 * 1, 3 * 2)
    assert set(task.train.puzzle.tolist()) == set(range(0, 18, 3))
    seen = {
        arc.canonical(Pair(*(arc.from_canvas(np.maximum(s, 0), 6) for s in row)))
        for row in zip(task.train.x, task.train.y)
    }
    for p in (TRAINING[-1], *EVALUATION):
        assert all(arc.canonical(pair) not in seen for pair in p.test)
        assert all(arc.canonical(pair) in seen for pair in p.train)
    assert (task.train.y[task.train.x == PAD] != PAD).all()
    assert (task.test.y == IGNORE).any()


def learned_by(task):
    """Pairs of the training split, as they are, for each task by its place."""
    pairs = [[] for _ in range(task.puzzles // task.augmentations)]
    for x, y, puzzle in zip(task.train.x, task.train.y, task.train.puzzle.tolist()):
        cells = Pair(*(arc.from_canvas(np.maximum(s, 0), task.height) for s in (x, y)))
        pairs[puzzle // task.augmentations].append(arc.canonical(cells))
    return pairs


def test_leaks_are_left_out():
    """The evaluation folder given as training folder, too: nothing that is asked is learned."""
    task = Arc([*EVALUATION, TRAINING[0]], EVALUATION, size=6, augmentations=2, held_out=1)
    assert task.leaks == 2
    turned = Puzzle("turned", [Change(turn=5).of(EVALUATION[0].test[0])], TRAINING[1].test)
    task = Arc([turned, TRAINING[0]], EVALUATION, size=6, augmentations=2, held_out=1)
    assert task.leaks == 1
    assert not any(arc.canonical(EVALUATION[0].test[0]) in pairs for pairs in learned_by(task))
    a, b = ([pair] for pair in TRAINING[0].train[:2])
    with pytest.raises(ValueError, match="nothing is left to learn"):
        Arc([Puzzle("t", a, b), Puzzle("u", a, b)], [Puzzle("v", a, b), Puzzle("w", b, a)], size=6, held_out=1)


def test_a_task_keeps_its_own_demonstrations():
    """Prevents: a task that is asked without its demonstrations, where its test pair is one of them turned and
    recoloured. Of another task, asked as well, the same pair is a leak."""
    change = Change((0, 3, 2, 1, 4, 5, 6, 7, 9, 8), 5)
    pair = EVALUATION[0].train[0]
    own = Puzzle("own", EVALUATION[0].train, [change.of(pair)])
    held = Puzzle("z", TRAINING[1].train, [TRAINING[1].train[1]])
    task = Arc([TRAINING[0], held], [own, EVALUATION[1]], size=6, augmentations=2, held_out=1)
    assert (task.leaks, task.bare) == (0, [])
    assert learned_by(task)[1] == [arc.canonical(p) for p in held.train]
    assert learned_by(task)[2] == [arc.canonical(p) for p in own.train]
    spoiled = Puzzle("spoiled", [pair], EVALUATION[1].test)
    task = Arc([TRAINING[0], held], [own, spoiled], size=6, augmentations=2, held_out=1)
    assert (task.leaks, task.bare) == (1, ["spoiled"])
    assert learned_by(task)[2] == [arc.canonical(p) for p in own.train]


def drawn_from(task, x, y):
    """The pair that stands somewhere on a canvas."""
    size = task.height

    def side(canvas):
        cells = np.pad(np.maximum(canvas, 0).reshape(size, size), ((0, 1), (0, 1)))
        row, column = np.argwhere(cells >= BLACK).min(0)
        return arc.from_canvas(np.roll(cells, (-row, -column), (0, 1)).ravel(), size + 1)

    return Pair(side(x), side(y))


def test_a_row_is_drawn_under_an_augmentation_of_its_task():
    """Prevents: an identity that stands for another augmentation than the one that its grids have, so that votes are
    turned back wrongly; augmentations that are never learned."""
    task = Arc(TRAINING, EVALUATION, size=7, augmentations=3, held_out=1)
    rng = np.random.default_rng(0)
    seen = set()
    for row in range(len(task.train)):
        original = drawn_from(task, task.train.x[row], task.train.y[row])
        for _ in range(30):
            x, y, identity = task.draw(row, rng)
            assert identity // 3 == task.train.puzzle[row] // 3
            assert ((y == IGNORE) | (y > PAD)).all()
            for found, side in zip(drawn_from(task, x, y), original):
                assert np.array_equal(task.change(identity).back(found), side)
            seen.add((row, identity))
    assert len(seen) == 3 * len(task.train)


def test_augmented_grids_are_those_made_one_by_one():
    """Rows taken by slice, index or mask are the test pairs under each augmentation, in order."""
    task = Arc(TRAINING, EVALUATION, size=6, augmentations=4, held_out=1)
    whole = task.test[:]
    rows = [(p.test[0], 4 * (4 + i) + a) for i, p in enumerate(EVALUATION) for a in range(4)]
    for i, (pair, identity) in enumerate(rows):
        changed = task.change(identity).of(pair)
        assert np.array_equal(whole.x[i], arc.to_canvas(changed.input, 6))
        assert np.array_equal(np.maximum(whole.y[i], PAD), arc.to_canvas(changed.output, 6))
        assert task.question("test", i) == (EVALUATION[i // 4].name, 0, task.change(identity))
    assert whole.puzzle.tolist() == [identity for _, identity in rows]
    assert whole.difficulty.tolist() == [pair.output.size for pair, _ in rows]
    for some in (slice(3, 6), [7, 0], np.arange(8) % 3 == 0):
        part = task.test[some]
        for name in ("x", "y", "difficulty", "puzzle"):
            assert np.array_equal(getattr(part, name), getattr(whole, name)[some])
    assert len(task.test[8:]) == 0


def test_a_thousand_augmentations():
    """Prevents: as many grids in memory as there are augmentations; a demonstration lost on the way. Perfect answers
    solve everything."""
    tracemalloc.start()
    task = Arc(TRAINING, EVALUATION, augmentations=1000, held_out=1)
    task.check()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert task.puzzles == 6000
    assert peak < 3e6 < task.puzzles * 3 * 900  # bytes; than three demonstrations for each, in a byte a cell
    assert len({task.change(i) for i in range(3000, 4000)}) == 1000
    assert [len(pairs) for pairs in learned_by(task)] == [4, 4, 4, 3, 3, 3]
    answers = np.maximum(task.test.y, PAD).astype(np.uint8)
    assert all(task.solved("test", task.vote("test", answers, np.zeros(len(answers)))).values())


def test_no_more_augmentations_than_there_are(monkeypatch):
    """Prevents: a search without end."""
    with pytest.raises(ValueError, match="there are 2903040 augmentations, of which 2903041 cannot be drawn"):
        arc.changes(2903041, np.random.default_rng(0))
    monkeypatch.setattr(arc, "COLOURS", 3)
    assert len(set(arc.changes(8 * math.factorial(2), np.random.default_rng(0)))) == 16


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
        wrong = task.question("test", row).change(grid("12", "34"))
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
    with pytest.raises(ValueError, match="test has 8 rows, got 7 answers"):
        task.vote("test", right[1:], sure)


def test_answers_in_small_integers():
    """Prevents: a cell without a colour that wraps round below zero and becomes one."""
    canvas = arc.to_canvas(grid("12", "34"), 4)
    for kind in (np.uint8, np.int16):
        assert np.array_equal(arc.from_canvas(canvas.astype(kind), 4), grid("12", "34"))


def unknown(p):
    return p._replace(test=[Pair(pair.input, None) for pair in p.test])


def test_unknown_outputs_are_asked_and_not_counted():
    """Prevents: an answer that counts as right, or as wrong, where nobody knows; a task without outputs held out."""
    two = Puzzle("two", EVALUATION[0].train, [EVALUATION[0].test[0], Pair(grid("12"), None)])
    hidden = unknown(TRAINING[3])
    task = Arc([*TRAINING[:3], hidden], [two, unknown(EVALUATION[1])], size=6, augmentations=2, held_out=1)
    task.check()
    assert task.inputs == {
        "validation": [("t2", 0)],
        "test": [("two", 0)],
        "asked": [("two", 0), ("two", 1), ("e1", 0)],
    }
    assert [len(getattr(task, split)) for split in task.inputs] == [2, 2, 6]
    assert (task.asked.y[2:] == IGNORE).all()
    assert np.array_equal(task.asked[:2].y, task.test.y)
    answers = np.full((6, 36), arc.to_canvas(grid("7"), 6))
    assert task.solved("asked", task.vote("asked", answers, np.zeros(6))) == {("two", 0): False}
    answers[:2] = np.maximum(task.test.y, PAD)
    assert task.solved("asked", task.vote("asked", answers, np.zeros(6))) == {("two", 0): True}
    task = Arc(TRAINING, [unknown(p) for p in EVALUATION], size=6, augmentations=2, held_out=1)
    task.check()
    assert (len(task.test), len(task.asked)) == (0, 4)
    with pytest.raises(ValueError, match="3 training tasks, of which 3 are held out"):
        Arc([*TRAINING[:3], hidden], EVALUATION, size=6, held_out=3)


def test_submission():
    """Two attempts at each test input of each evaluation task; also where there is one answer, none, or no room."""
    large = Puzzle("large", EVALUATION[0].train, [Pair(np.zeros((9, 9), np.int8), None)] * 2)
    task = Arc(TRAINING, [*EVALUATION, large], size=6, augmentations=2, held_out=1)
    assert task.left_out == ["large"]
    tried = {("e0", 0): [grid("12", "34"), grid("5")], ("e1", 0): [grid("6")]}
    found = task.submission(tried)
    assert found == {
        "e0": [{"attempt_1": [[1, 2], [3, 4]], "attempt_2": [[5]]}],
        "e1": [{"attempt_1": [[6]], "attempt_2": [[6]]}],
        "large": [{"attempt_1": [[0]], "attempt_2": [[0]]}] * 2,
    }
    assert json.loads(json.dumps(found)) == found
    empty = task.vote("test", np.full((4, 36), PAD), np.zeros(4))
    assert task.submission(empty)["e0"] == [{"attempt_1": [[0]], "attempt_2": [[0]]}]


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
        ({"train": [], "test": [GOOD]}, "a.json: train must be a list of pairs, at least one"),
        ({"train": [GOOD, {"input": [[1]]}], "test": [GOOD]}, "a.json: train pair 1 must have an input and an output"),
        ({"train": [GOOD], "test": [{"output": [[1]]}]}, "a.json: test pair 0 must have an input"),
        ({"train": [{**GOOD, "output": None}], "test": [GOOD]}, "output of train pair 0 must be a list of rows"),
        ({"train": [{**GOOD, "output": [[1.0]]}], "test": [GOOD]}, "has 1.0 in row 0, column 0; colours are"),
        ('{"train": [{"input": [[1, 2', "a.json is not a readable JSON file: Expecting"),
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


def test_encodings(tmp_path):
    """Prevents: files of another system that cannot be read, or errors that do not name the file."""
    content = json.dumps({"train": [GOOD], "test": [GOOD], "by": "é"}, ensure_ascii=False)
    file = tmp_path / "a.json"
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"):
        file.write_bytes(content.encode(encoding))
        assert arc.load(file).train[0].input.tolist() == [[0, 1]]
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=r"a\.json is not a readable JSON file: 'utf-8' codec can't decode") as caught:
        arc.load(file)
    assert "\n" not in str(caught.value)


TASK = {"train": [GOOD], "test": [{"input": [[3]]}]}


def test_subfolders_and_hidden_files(tmp_path):
    """Prevents: tasks of subfolders that are not found; the ._ files of another system taken for tasks; of two tasks of
    one name, one that replaces the other."""
    write(tmp_path / "arc", TASK)
    write(tmp_path / "arc" / "more", "{}").joinpath("a.json").rename(tmp_path / "arc" / "more" / "._a.json")
    write(tmp_path / "arc" / ".git", "{}")
    (tmp_path / "arc" / "more" / "0.json").write_text(json.dumps(TASK))
    assert [p.name for p in arc.load_folder(tmp_path / "arc")] == ["0", "a"]
    (tmp_path / "arc" / "more" / "a.json").write_text(json.dumps(TASK))
    with pytest.raises(ValueError, match=r"two tasks have the name a: in .*arc/a.json and in .*more/a.json"):
        arc.load_folder(tmp_path / "arc")
    with pytest.raises(ValueError, match="2 tasks have the name t0"):
        Arc([*TRAINING, TRAINING[0]], EVALUATION, size=6, held_out=1)


def test_a_test_pair_without_output(tmp_path):
    for pair in ({"input": [[3]]}, {"input": [[3]], "output": None}):
        (found,) = arc.load_folder(write(tmp_path / "arc", {**TASK, "test": [pair]}))
        assert found.test[0].input.tolist() == [[3]]
        assert found.test[0].output is None


def combined(folder, sets):
    folder.mkdir(exist_ok=True)
    for name, content in sets.items():
        (folder / f"arc-agi_{name}.json").write_text(json.dumps(content))
    return folder


def test_combined_files(tmp_path):
    """The competitions' layout: each set with its solutions, whichever folder or file names it; the test without."""
    two = {"train": [GOOD, GOOD], "test": [{"input": [[3]]}, {"input": [[4]]}]}
    folder = combined(
        tmp_path / "kaggle",
        {
            "training_challenges": {"b": two, "a": TASK},
            "training_solutions": {"a": [[[5]]], "b": [[[6]], [[7, 8]]]},
            "evaluation_challenges": {"c": TASK},
            "evaluation_solutions": {"c": [[[9]]]},
            "test_challenges": {"d": TASK},
        },
    )
    (folder / "sample_submission.json").write_text("{}")

    def outputs(puzzles):
        return {p.name: [None if t.output is None else t.output.tolist() for t in p.test] for p in puzzles}

    training = {"a": [[[5]]], "b": [[[6]], [[7, 8]]]}
    assert outputs(arc.load_folder(folder, "training")) == training
    assert outputs(arc.load_folder(folder / "arc-agi_training_challenges.json")) == training
    assert outputs(arc.load_folder(folder, "evaluation")) == {"c": [[[9]]]}
    assert outputs(arc.load_folder(folder / "arc-agi_test_challenges.json")) == {"d": [None]}
    assert outputs(arc.load_folder(combined(tmp_path / "one", {"test_challenges": {"d": TASK}}), "x")) == {"d": [None]}
    with pytest.raises(
        ValueError, match=r"holds several sets of tasks: give the file of one, of arc-agi_evaluation_ch"
    ):
        arc.load_folder(folder)


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ({"x_solutions": {"a": [[[1]]]}}, "x_solutions.json holds solutions only: there is no arc-agi_x_challenges"),
        ({"x_challenges": [TASK]}, "x_challenges.json must hold tasks by name"),
        ({"x_challenges": {"a": TASK, "b": {"train": []}}}, "x_challenges.json: task b: train must be a list of pairs"),
        ({"x_challenges": {"a": TASK}, "x_solutions": {}}, "x_solutions.json: task a must have 1 solutions"),
        ({"x_challenges": {"a": TASK}, "x_solutions": {"a": [[[1]]] * 2}}, "task a must have 1 solutions in a list"),
        ({"x_challenges": {"a": TASK}, "x_solutions": {"a": [[[10]]]}}, "task a: solution 0 has 10 in row 0, column 0"),
        ({"x_challenges": {"a": TASK}, "x_solutions": []}, "x_solutions.json must hold tasks by name"),
        ({"x_challenges": {"a": TASK}, "x_solutions": None}, "x_solutions.json must hold tasks by name"),
        ({"x_challenges": {}}, "holds no ARC tasks"),
    ],
)  # fmt: skip
def test_faulty_combined_files(sets, message, tmp_path):
    """Prevents: tasks beside the solutions of others."""
    with pytest.raises(ValueError, match=message):
        arc.load_folder(combined(tmp_path / "arc", sets))


def test_bad_input():
    with pytest.raises(ValueError, match="4 training tasks, of which 4 are held out"):
        Arc(TRAINING, EVALUATION, size=6, augmentations=2, held_out=4)
    with pytest.raises(ValueError, match=r"0 training tasks.*fit a canvas of 2 × 2"):
        Arc(TRAINING, EVALUATION, size=2, augmentations=2, held_out=1)
    with pytest.raises(ValueError, match=r"1 … 30 cells an edge, got 31"):
        Arc(TRAINING, EVALUATION, size=31)
    with pytest.raises(ValueError, match="augmentations must be at least 1"):
        Arc(TRAINING, EVALUATION, size=6, augmentations=0)
