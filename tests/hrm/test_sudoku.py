"""Sudoku: solver, generators, symmetries, splits that cannot leak, and the public file format."""

from itertools import permutations

import numpy as np
import pytest

from hrm.tasks import sudoku
from hrm.tasks.sudoku import BLANK, Sudoku

# Wikipedia's example, and its solution
EXAMPLE = "530070000600195000098000060800060003400803001700020006060000280000419005000080079"
ANSWER = "534678912672195348198342567859761423426853791713924856961537284287419635345286179"
# Arto Inkala's puzzle of 2010, which singles do not solve
HARD = "005300000800000020070010500400005300010070006003200080060500009004000030000009700"


def grid(text):
    return np.array([int(c) for c in text], dtype=np.int8)


def is_solved(g):
    n = round(len(g) ** 0.5)
    return all(sorted(g[list(unit)]) == list(range(1, n + 1)) for unit in sudoku.units(n))


# -- solver ------------------------------------------------------------------------------------------------------------


def test_solver_on_known_puzzles():
    found = sudoku.solve(grid(EXAMPLE))
    assert found.grid.tolist() == grid(ANSWER).tolist()
    assert found.guesses == 0
    hard = sudoku.solve(grid(HARD))
    assert is_solved(hard.grid)
    assert (hard.grid[grid(HARD) > 0] == grid(HARD)[grid(HARD) > 0]).all()
    assert hard.guesses > 5


def test_solver_finds_every_solution():
    """The empty 4 × 4 board has 288 solutions, as is known; they are all different and right."""
    found = [s.grid for s in sudoku.solutions(np.zeros(16, dtype=np.int8))]
    assert len(found) == 288
    assert len({g.tobytes() for g in found}) == 288
    assert all(is_solved(g) for g in found)


def test_guesses_are_counted_by_hand():
    """An empty 4 × 4 board: nothing follows by singles. The first guess leaves three cells of its units to guess …"""
    counts = [s.guesses for s in sudoku.solutions(np.zeros(16, dtype=np.int8))]
    assert counts[0] >= 3
    assert counts == sorted(counts)
    one_missing = grid("1234341221434320"[:16])
    one_missing[0] = 0
    assert next(sudoku.solutions(one_missing)).guesses == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("11" + "0" * 14, "has no solution"),
        ("0" * 16, "has several solutions"),
        ("1230" + "0004" + "0" * 8, "has no solution"),
    ],
)
def test_broken_puzzles(text, message):
    with pytest.raises(ValueError, match=message):
        sudoku.solve(grid(text))


# -- generators --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "blanks"), [(4, 8), (6, 18), (9, 45), (9, None)])
def test_puzzles_have_one_solution_and_as_many_blanks(n, blanks):
    rng = np.random.default_rng(0)
    solution = sudoku.full_grid(n, rng)
    assert is_solved(solution)
    puzzle = None
    while puzzle is None:
        puzzle = sudoku.puzzle(solution, blanks, rng)
    assert sudoku.solve(puzzle).grid.tolist() == solution.tolist()
    if blanks is not None:
        assert (puzzle == 0).sum() == blanks
        return
    for cell in np.flatnonzero(puzzle):  # as many as possible: no further clue can go
        fewer = puzzle.copy()
        fewer[cell] = 0
        assert not sudoku.is_unique(fewer)


def test_climbing_makes_it_harder():
    rng = np.random.default_rng(1)
    solution = sudoku.full_grid(9, rng)
    puzzle = sudoku.puzzle(solution, None, rng)
    hard = sudoku.climb(puzzle, rng, 15)
    assert sudoku.solve(hard).grid.tolist() == solution.tolist()
    assert sudoku.solve(hard).guesses > sudoku.solve(puzzle).guesses


# -- symmetries --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [4, 6, 9])
def test_symmetries_keep_a_puzzle_a_puzzle(n):
    rng = np.random.default_rng(2)
    solution = sudoku.full_grid(n, rng)
    puzzle = sudoku.puzzle(solution, None, rng)
    guesses = []
    for _ in range(20):
        change = sudoku.symmetry(n, rng)
        assert is_solved(change(solution))
        assert sudoku.solve(change(puzzle)).grid.tolist() == change(solution).tolist()
        guesses.append(change(puzzle).tobytes())
    assert len(set(guesses)) > 15


def test_fingerprints_against_the_whole_group():
    """4 × 4: puzzles share a fingerprint where one of all 3072 symmetries maps them on each other, and (here) only
    there."""
    rng = np.random.default_rng(3)
    puzzles = [sudoku.puzzle(sudoku.full_grid(4, rng), 8, rng) for _ in range(60)]
    puzzles = [p for p in puzzles if p is not None]
    digits = [np.array([0, *p]) for p in permutations(range(1, 5))]

    def smallest(p):
        return min(d[p[a]].tobytes() for a in sudoku.arrangements(4) for d in digits)

    exact = [smallest(p.astype(int)) for p in puzzles]
    marks = sudoku.fingerprints(np.stack(puzzles))
    assert 5 < len(set(exact)) < len(puzzles)
    for i in range(len(puzzles)):
        for j in range(i):
            assert (exact[i] == exact[j]) == (marks[i] == marks[j])


@pytest.mark.parametrize("n", [6, 9])
def test_fingerprints_survive_symmetries(n):
    rng = np.random.default_rng(4)
    puzzles = [sudoku.puzzle(sudoku.full_grid(n, rng), None, rng) for _ in range(12)]
    images = [sudoku.shuffled(p, rng) for p in puzzles]
    marks = sudoku.fingerprints(np.stack(puzzles))
    assert marks.tolist() == sudoku.fingerprints(np.stack(images)).tolist()
    assert len(set(marks.tolist())) == 12


def test_known_numbers_of_classes():
    """4 × 4: 288 grids, twelve classes under digits and two under all; 6 × 6: 49, not all of which need be met."""
    all_4 = np.stack([s.grid for s in sudoku.solutions(np.zeros(16, dtype=np.int8))])
    assert len(set(sudoku.classes(all_4, "digits"))) == 12
    assert len(set(sudoku.classes(all_4, "all"))) == 2
    assert len(set(sudoku.classes(all_4, "none"))) == 288
    rng = np.random.default_rng(5)
    some = np.stack([sudoku.full_grid(6, rng) for _ in range(400)])
    assert 20 < len(set(sudoku.classes(some, "all"))) <= 49


# -- splits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "blanks", "augmentation"), [(4, 8, "digits"), (6, 18, "all"), (6, 18, "digits"), (9, 40, "all")]
)
def test_splits_share_nothing(n, blanks, augmentation):
    """Prevents: a test puzzle, or on small boards a solved grid, that training can show in another guise."""
    splits = sudoku.generate(n, blanks, (40, 20, 20), 0, augmentation)
    assert [len(s) for s in splits] == [40, 20, 20]
    marks = [set(sudoku.fingerprints(s.x - 1).tolist()) for s in splits]
    solved = [set(sudoku.classes(s.y - 1, augmentation).tolist()) for s in splits]
    for sets in (marks, solved):
        for a, b in ((0, 1), (0, 2), (1, 2)):
            assert not sets[a] & sets[b]
    task = Sudoku(n, *splits, augmentation)
    task.check()
    rng = np.random.default_rng(0)
    for row in range(10):  # what training shows stays within the classes of its split
        x, y = task.augment(task.train.x[row], task.train.y[row], rng)
        assert int(sudoku.classes((y - 1)[None], augmentation)[0]) in solved[0] or n == 9
        assert int(sudoku.fingerprints((x - 1)[None])[0]) in marks[0]
        sudoku.check_puzzles((x - 1)[None], (y - 1)[None])


def test_same_seed_same_puzzles():
    a, b, c = (sudoku.generate(4, 8, (10, 5, 5), seed, "digits") for seed in (0, 0, 1))
    assert all(np.array_equal(p.x, q.x) for p, q in zip(a, b))
    assert not np.array_equal(a[0].x, c[0].x)


def test_too_few_classes():
    with pytest.raises(ValueError, match="has only 2 classes of grids under 'all': too few"):
        sudoku.generate(4, 8, (10, 5, 5), 0, "all")


# -- files -------------------------------------------------------------------------------------------------------------


def test_hints():
    """With hints a training puzzle keeps its clues and its answer, and some of its blanks are filled rightly."""
    splits = sudoku.generate(4, 8, (20, 5, 5), 0, "digits")
    task = Sudoku(4, *splits, augmentation="none", hints=1.0)
    rng = np.random.default_rng(0)
    numbers = []
    for x, y in list(zip(task.train.x, task.train.y)) * 5:
        given, answer = task.augment(x, y, rng)
        assert np.array_equal(answer, y)
        assert np.array_equal(given[x != BLANK], x[x != BLANK])
        assert np.array_equal(given[given != BLANK], y[given != BLANK])
        numbers.append(int((given == BLANK).sum()))
    assert set(numbers) == set(range(1, 9))
    assert (task.train.x == BLANK).sum(1).tolist() == [8] * 20  # themselves as they were
    with pytest.raises(ValueError, match="hints is a probability, got 2"):
        Sudoku(4, *splits, hints=2)


def test_csv(tmp_path):
    path = tmp_path / "test.csv"
    dotted = EXAMPLE.replace("0", ".")
    path.write_text(f"source,question,answer,rating\nw,{dotted},{ANSWER},0\nw,{EXAMPLE},{ANSWER},7\n")
    grids = sudoku.load_csv(path, verify=True)
    assert grids.difficulty.tolist() == [0, 7]
    assert (grids.x[0] - 1).tolist() == (grids.x[1] - 1).tolist() == grid(EXAMPLE).tolist()
    assert (grids.y[0] - 1).tolist() == grid(ANSWER).tolist()
    assert len(sudoku.load_csv(path, rows=1)) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("question\n1\n", "has no column answer"),
        ("question,answer\n", "holds no puzzles"),
        (f"question,answer\n{EXAMPLE},{ANSWER}\n{EXAMPLE[:-1]},{ANSWER}\n", "line 3: question must be 81 digits"),
        (f"question,answer\n{EXAMPLE},{ANSWER[:-1]}x\n", "line 2: answer must be 81 digits"),
        (f"question,answer,rating\n{EXAMPLE},{ANSWER},much\n", "line 2: rating 'much' is no number"),
        (f"question,answer\n{'0' * 81},{ANSWER}\n", "row 1: the puzzle has several solutions"),
        (f"question,answer\n55{EXAMPLE[2:]},{ANSWER}\n", "row 1: the puzzle has no solution"),
        (f"question,answer\n{EXAMPLE},{ANSWER[::-1]}\n", "row 1: the answer is not the puzzle's solution"),
    ],
)
def test_broken_csv(tmp_path, text, message):
    path = tmp_path / "broken.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        sudoku.load_csv(path, verify=True)
    assert str(path) in str(error.value)
