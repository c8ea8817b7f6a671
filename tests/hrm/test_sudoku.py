"""Sudoku: solver, generators, symmetries, splits that cannot leak, and the public file format."""

from itertools import permutations, product

import numpy as np
import pytest

from hrm.tasks import sudoku
from hrm.tasks.sudoku import BLANK, Sudoku
from hrm.tasks.task import Grids

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


class Slow:
    """The stated solver again, from its statement: sets, one single after the other."""

    def __init__(self, puzzle):
        self.n = round(len(puzzle) ** 0.5)
        self.units = [set(u) for u in sudoku.units(self.n)]
        self.guesses = 0
        everything = set(range(1, self.n + 1))
        cells = [{d} if d else set(everything) for d in puzzle.tolist()]
        self.solutions = [(found, guesses) for found, guesses in self.search(cells)]

    def singles(self, cells):
        """Until nothing changes; False for a contradiction."""
        while True:
            before = [set(c) for c in cells]
            for i, c in enumerate(cells):
                if len(c) == 1:
                    for unit in self.units:
                        if i in unit:
                            for j in unit - {i}:
                                cells[j] -= c
            for unit, d in product(self.units, range(1, self.n + 1)):
                places = [i for i in unit if d in cells[i]]
                if not places:
                    return False
                if len(places) == 1:
                    cells[places[0]] &= {d}
            if not all(cells):
                return False
            if cells == before:
                return True

    def search(self, cells):
        if not self.singles(cells):
            return
        if all(len(c) == 1 for c in cells):
            yield [min(c) for c in cells], self.guesses
            return
        _, cell = min((len(c), i) for i, c in enumerate(cells) if len(c) > 1)
        for digit in sorted(cells[cell]):
            self.guesses += 1
            tried = [set(c) for c in cells]
            tried[cell] = {digit}
            yield from self.search(tried)


# two hidden singles that are all of a cell's candidates turn up on the way
CROWDED = ".................1..2..3........4.5..1...5.3..67.........27...6.8..1...74........".replace(".", "0")


@pytest.mark.parametrize("text", [EXAMPLE, HARD, CROWDED])
def test_guesses_are_those_of_the_statement(text):
    """Prevents: a difficulty that is not what the stated solver counts."""
    found = [(s.grid.tolist(), s.guesses) for s in sudoku.solutions(grid(text))]
    assert found == Slow(grid(text)).solutions


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
        assert sudoku.solve(x - 1).grid.tolist() == (y - 1).tolist()


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
    grids = sudoku.load_csv(path)
    assert grids.difficulty.tolist() == [0, 7]
    assert (grids.x[0] - 1).tolist() == (grids.x[1] - 1).tolist() == grid(EXAMPLE).tolist()
    assert (grids.y[0] - 1).tolist() == grid(ANSWER).tolist()
    assert len(sudoku.load_csv(path, rows=1)) == 1


SEVERAL = (
    EXAMPLE[:70].replace("5", "0").replace("8", "0").replace("3", "0") + EXAMPLE[70:]
)  # answered by ANSWER, and more
TWICE = ANSWER[:7] + "11" + ANSWER[9:]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("question\n1\n", "has no column answer"),
        ("answer,question,answer\n", "has two columns answer"),
        ("question,answer\n", "holds no puzzles"),
        ("", "holds no puzzles"),
        ("# nothing\n\n", "holds no puzzles"),
        (f"question,answer\n{EXAMPLE},{ANSWER}\n{EXAMPLE[:-1]},{ANSWER}\n", "line 3: question must be 81 digits"),
        (f"question,answer\n{EXAMPLE},{ANSWER[:-1]}x\n", "line 2: answer must be 81 digits"),
        (f"question,answer\n{EXAMPLE}\n", "line 2: answer must be 81 digits or dots, got ''"),
        (f"question,answer,rating\n{EXAMPLE},{ANSWER},much\n", "line 2: rating 'much' is no number"),
        (f"question,answer,rating\n{EXAMPLE},{ANSWER},1\n\n{EXAMPLE},{ANSWER},NaN\n", "line 4: rating 'NaN' is no num"),
        (f"question,answer,rating\n{EXAMPLE},{ANSWER},inf\n", "line 2: rating 'inf' is no number"),
        (f"question,answer,rating\n{EXAMPLE},{ANSWER},1\n{EXAMPLE},{ANSWER},\n", "line 3: some puzzles have a rating"),
        (f"question,answer\n{SEVERAL},{ANSWER}\n", "line 2: the puzzle has several solutions"),
        (
            f"question,answer\n{EXAMPLE},{ANSWER}\n{EXAMPLE},{ANSWER[::-1]}\n",
            "line 3: the answer changes a given digit",
        ),
        (f"question,answer\n{EXAMPLE},{TWICE}\n", "line 2: the answer has a digit twice in a row"),
        (f"question,answer\n{EXAMPLE},{ANSWER[:2]}.{ANSWER[3:]}\n", "line 2: the answer has blanks"),
        (f"question,answer\n{EXAMPLE},{ANSWER[:2]}0{ANSWER[3:]}\n", "line 2: the answer has blanks"),
        (f"question,answer\n{ANSWER},{EXAMPLE}\n", "line 2: the answer has blanks: are question and answer exchanged"),
        (f"question,answer\n{ANSWER},{ANSWER}\n", "line 2: the question has no blanks"),
        (f"w,{EXAMPLE},{ANSWER},0\n", "line 1: neither a puzzle of 81 digits or dots nor a header"),
        (f"{EXAMPLE},{ANSWER}\n", "line 1: two grids in a line need a header"),
        (
            f'question,answer\n{EXAMPLE},{ANSWER}\n{EXAMPLE},"{ANSWER}\n{EXAMPLE},{ANSWER}\n',
            "line 3: .*a quote that is",
        ),
        (
            f'question,answer\n"{EXAMPLE},{ANSWER}\n' + f"{EXAMPLE},{ANSWER}\n" * 900,
            "line 2: .*a quote that is not closed",
        ),
        (f"question,answer\n{'1' * 5000},{ANSWER}\n", "line 2: question must be .* got 5000 characters, '1"),
        (f"{EXAMPLE}\n{EXAMPLE[:-1]}\n", "line 2: a puzzle must be 81 digits or dots"),
        (f"{EXAMPLE}\n{EXAMPLE}3\n", "line 2: a puzzle must be 81 digits or dots"),
        (f"{EXAMPLE}\n{EXAMPLE}x\n", "line 2: a puzzle must be 81 digits or dots"),
        (f"# a list\n{EXAMPLE}\n\n{SEVERAL}\n", "line 4: the puzzle has several solutions"),
        (f"{EXAMPLE}\n55{EXAMPLE[2:]}\n", "line 2: the puzzle has no solution"),
        (f"{EXAMPLE}\n{ANSWER}\n", "line 2: the question has no blanks"),
    ],
)
def test_broken_files(tmp_path, text, message):
    """Prevents: puzzles without one solution, wrong answers, half a file, difficulties of NaN that train unseen."""
    path = tmp_path / "broken.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        sudoku.load_csv(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_without_verification(tmp_path):
    """Several solutions pass where one knows it, wrong answers never do; and without the solver nothing is rated."""
    path = tmp_path / "several.csv"
    path.write_text(f"question,answer\n{SEVERAL},{ANSWER}\n")
    grids = sudoku.load_csv(path, verify=False)
    assert (grids.x[0] - 1).tolist() == grid(SEVERAL).tolist()
    assert grids.difficulty.tolist() == [0]
    path.write_text(f"question,answer\n{EXAMPLE},{ANSWER[::-1]}\n")
    with pytest.raises(ValueError, match="line 2: the answer changes"):
        sudoku.load_csv(path, verify=False)


ONE_CSV = f"source,question,answer,rating\nune énigme,{EXAMPLE},{ANSWER},3\n"


@pytest.mark.parametrize(
    "content",
    [
        ONE_CSV.encode(),
        ONE_CSV.encode("utf-8-sig"),
        ONE_CSV.encode("latin-1"),
        ONE_CSV.encode("utf-16"),
        b"\xfe\xff" + ONE_CSV.encode("utf-16-be"),
        ONE_CSV.replace("\n", "\r\n").encode(),
        ONE_CSV.replace("\n", "\r").encode(),
        ONE_CSV.replace("\n", "\n\n , ,\n").encode("utf-8-sig"),
        f'# one\n Rating ,"Question",more,ANSWER\n3, {EXAMPLE} ,"a, ""b"",\nc",{ANSWER},and,more'.encode(),
    ],
)  # fmt: skip
def test_encodings_and_lines(tmp_path, content):
    """Prevents: a file from another system that is refused, or read with its first column under another name."""
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    grids = sudoku.load_csv(path)
    assert (grids.x - 1).tolist() == [grid(EXAMPLE).tolist()]
    assert (grids.y - 1).tolist() == [grid(ANSWER).tolist()]
    assert grids.difficulty.tolist() == [3]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (ONE_CSV.encode("utf-16-le"), "is no text in UTF-8, latin-1, or UTF-16 with its byte order mark"),
        (ONE_CSV.encode("utf-16")[:-1], "cannot be read"),
        (bytes(range(256)) * 3, "is no text|neither a puzzle"),
    ],
)
def test_no_text(tmp_path, content, message):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        sudoku.load_csv(path)
    assert str(path) in str(error.value)
    with pytest.raises(ValueError, match="is no file"):
        sudoku.load_csv(tmp_path)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_list(tmp_path, end):
    """Answers and difficulty are the solver's, whatever stands beside the puzzles."""
    path = tmp_path / "hard"
    dotted = EXAMPLE.replace("0", ".")
    lines = [
        "# hard ones",
        "#",
        "",
        f"{HARD} # Inkala, 11.9",
        f" {dotted}",
        f"{dotted}\tED=1.2/1.2/1.2",
        f"{EXAMPLE},5",
        "",
    ]
    path.write_bytes(end.join(lines).encode("latin-1"))
    grids = sudoku.load_csv(path)
    assert (grids.x - 1).tolist() == [grid(HARD).tolist(), *[grid(EXAMPLE).tolist()] * 3]
    assert (grids.y - 1)[1:].tolist() == [grid(ANSWER).tolist()] * 3
    assert is_solved(grids.y[0] - 1)
    assert grids.difficulty.tolist() == [sudoku.solve(grid(HARD)).guesses, 0, 0, 0]


def test_rows_are_drawn(tmp_path):
    """Prevents: a file sorted by difficulty of which only the easy beginning is learned."""
    path = tmp_path / "sorted.csv"
    change = [sudoku.symmetry(9, np.random.default_rng(i)) for i in range(200)]
    pairs = [["".join(map(str, c(grid(text)))) for text in (EXAMPLE, ANSWER)] for c in change]
    path.write_text("\n".join(["question,answer,rating", *(f"{q},{a},{i}" for i, (q, a) in enumerate(pairs))]))
    a, b, c = (sudoku.load_csv(path, 100, verify=False, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(a.x, b.x)
    assert not np.array_equal(a.difficulty, c.difficulty)
    for part in (a[:50], a[50:], c):
        assert 70 < part.difficulty.mean() < 130  # ± 4 standard errors of the smallest part are ± 33 about 99.5
        assert len(set(part.difficulty)) == len(part)
    for grids in (a, c):  # puzzle, answer and rating are still of the same row
        assert all("".join(map(str, x - 1)) == pairs[int(i)][0] for x, i in zip(grids.x, grids.difficulty))
        assert all("".join(map(str, y - 1)) == pairs[int(i)][1] for y, i in zip(grids.y, grids.difficulty))
    with pytest.raises(ValueError, match=r"sorted.csv holds 200 puzzles, fewer than the 201 asked for"):
        sudoku.load_csv(path, 201, verify=False)


def test_valid_answers():
    """A puzzle with several solutions: valid is what keeps the clues and obeys the rules, exact the stored one."""
    puzzle = grid("1234341200000000")
    found = [s.grid for s in sudoku.solutions(puzzle)]
    stored = found[0]
    filled = np.stack([stored] * 4**6)
    filled[:, 8:14] = list(product(range(1, 5), repeat=6))
    answers = np.concatenate([found, filled])
    changed = grid("2134342112434312")  # solved, but not this puzzle
    assert is_solved(changed)
    answers = np.concatenate([answers, [changed, np.full(16, -1), np.full(16, 0)]])
    n = len(answers)
    rows = Grids(np.stack([puzzle + 1] * n), np.stack([stored + 1] * n))
    scores = Sudoku(4, rows, rows, rows).scores(rows, answers + 1)
    assert scores["exact"].tolist() == [np.array_equal(a, stored) for a in answers]
    solves = [is_solved(a) and np.array_equal(a[puzzle > 0], puzzle[puzzle > 0]) for a in answers]
    assert scores["valid"].tolist() == solves
    assert scores["valid"].sum() > scores["exact"].sum() > 1
    assert scores["valid"][: len(found)].all()
    assert not (scores["exact"] & ~scores["valid"]).any()
    faults = Sudoku(4, rows, rows, rows).faults(rows.x, answers + 1)
    assert ((faults == 0) == scores["valid"]).all()


def test_faults_are_clues_lost_and_rules_broken():
    puzzle, solved = grid("1234341200000000"), grid("1234341221434321")
    swapped, other, blank = solved.copy(), solved.copy(), solved.copy()
    swapped[[8, 9]] = solved[[9, 8]]  # within a row and a box: two columns
    other[0] = 2  # a clue, and its row, column and box
    blank[15] = 0
    answers = np.stack([solved, swapped, other, blank]) + 1
    rows = Grids(np.stack([puzzle] * 4) + 1, answers)
    assert Sudoku(4, rows, rows, rows).faults(rows.x, answers).tolist() == [0, 2, 4, 3]
