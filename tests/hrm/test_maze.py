"""Mazes: distances against scipy, the measure of optimality against all paths, generators, splits."""

import itertools

import numpy as np
import pytest
from scipy.sparse import lil_matrix
from scipy.sparse.csgraph import dijkstra

from hrm.tasks import maze
from hrm.tasks.maze import FAR, FREE, GOAL, PATH, START, WALL, Maze
from hrm.tasks.task import Grids, turned


def grid(*lines):
    symbols = {"#": WALL, " ": FREE, "S": START, "G": GOAL, "o": PATH}
    return np.array([[symbols[c] for c in line] for line in lines])


def graph(free):
    """Adjacency of free cells, by index."""
    h, w = free.shape
    edges = lil_matrix((h * w, h * w))
    for r, c in itertools.product(range(h), range(w)):
        for r2, c2 in ((r + 1, c), (r, c + 1)):
            if r2 < h and c2 < w and free[r, c] and free[r2, c2]:
                edges[r * w + c, r2 * w + c2] = edges[r2 * w + c2, r * w + c] = 1
    return edges.tocsr()


@pytest.mark.parametrize("kind", maze.GENERATORS)
def test_distances_against_scipy(kind):
    rng = np.random.default_rng(0)
    for _ in range(20):
        cells = maze.GENERATORS[kind](7, rng, 0.35)
        to = tuple(np.argwhere(cells == FREE)[0].tolist())
        expected = dijkstra(graph(cells == FREE), unweighted=True, indices=to[0] * 7 + to[1]).reshape(7, 7)
        found = maze.distances(cells, to)
        assert np.array_equal(found, np.where(np.isfinite(expected), expected, FAR))


def paths(cells, start, goal):
    """All simple paths, by trying everything."""
    if start == goal:
        yield [start]
        return
    blocked = cells.copy()
    blocked[start] = WALL
    for dr, dc in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        at = (start[0] + dr, start[1] + dc)
        if 0 <= at[0] < len(cells) and 0 <= at[1] < len(cells) and cells[at] != WALL:
            yield from ([start, *rest] for rest in paths(blocked, at, goal))


def test_shortest_paths_are_those_of_all_paths():
    """Every simple path of small mazes: those of least length are optimal, no other is, whichever is stored."""
    rng = np.random.default_rng(1)
    several = 0
    for _ in range(25):
        cells = None
        while cells is None:
            cells = maze.with_ends(maze.open_walls(4, rng, 0.2), 2, rng)
        start, goal = maze.ends(cells)
        found = list(paths(cells, start, goal))
        least = min(map(len, found))
        several += sum(len(p) == least for p in found) > 1
        answer, moves = maze.solve(cells)
        assert moves == least - 1
        assert maze.is_shortest(cells, answer)
        for path in found:
            marked = cells.copy()
            for at in path[1:-1]:
                marked[at] = PATH
            assert maze.is_shortest(cells, marked) == (len(path) == least)
    assert several > 5  # else this shows nothing


def test_wrong_answers():
    cells = grid("S #", "  #", "  G")
    assert maze.is_shortest(cells, grid("S #", "o #", "ooG"))
    assert maze.is_shortest(cells, grid("So#", " o#", " oG"))
    for wrong in (
        grid("S #", "  #", "  G"),  # no path
        grid("S #", "o #", "o G"),  # a gap
        grid("So#", "oo#", "ooG"),  # more than a path
        grid("S #", "oo#", " oG")[::-1],  # another maze
        grid("S  ", "o #", "ooG"),  # a wall has gone
        grid("o #", "o #", "ooG"),  # the start has gone
    ):
        assert not maze.is_shortest(cells, wrong)


def test_carved_mazes_are_trees():
    """As many passages as rooms less one, and all connected: one path between any two."""
    rng = np.random.default_rng(2)
    for size in (5, 8, 11):
        cells = maze.carved(size, rng)
        rooms = len(range(0, size, 2)) ** 2
        assert (cells == FREE).sum() == rooms + rooms - 1
        assert (maze.distances(cells, (0, 0)) != FAR).sum() == rooms + rooms - 1


def test_first_of_several_paths():
    assert np.array_equal(maze.solve(grid("S  ", "   ", "  G"))[0], grid("Soo", "  o", "  G"))
    with pytest.raises(ValueError, match="the goal cannot be reached"):
        maze.solve(grid("S#G", " # ", " # "))
    with pytest.raises(ValueError, match="one start and one goal, this one 2 and 0"):
        maze.solve(grid("S S", "   ", "   "))


def test_preference_among_shortest_paths():
    """The path is the first of all shortest ones, compared move by move in the order given; and from mazes and their
    paths that order is found again, or that there is none.

    Prevents: a stored path that augmented mazes contradict, so that no model can find the stored answers."""
    rng, cells = np.random.default_rng(5), []
    while len(cells) < 30:
        made = maze.with_ends(maze.open_walls(4, rng, 0.2), 3, rng)
        cells += [] if made is None else [made]
    mazes = np.stack(cells)
    for moves in itertools.islice(itertools.permutations(maze.MOVES), 0, None, 5):

        def place(path, moves=moves):
            return [moves.index((b[0] - a[0], b[1] - a[1])) for a, b in itertools.pairwise(path)]

        answers = []
        for one in mazes:
            found = list(paths(one, *maze.ends(one)))
            shortest = [p for p in found if len(p) == min(map(len, found))]
            marked = one.copy()
            for at in min(shortest, key=place)[1:-1]:
                marked[at] = PATH
            answers.append(marked)
            assert np.array_equal(maze.solve(one, moves)[0], marked)
        again = maze.preference(mazes, np.stack(answers))
        assert all(np.array_equal(maze.solve(one, again)[0], a) for one, a in zip(mazes, answers))
    mixed = np.stack([maze.solve(one, maze.MOVES[:: 1 if i % 2 else -1])[0] for i, one in enumerate(mazes)])
    assert maze.preference(mazes, mixed) is None


def test_views_are_turned_back():
    """Each view once, the maze itself first; what was found there is where it belongs. Of a rectangle, those that keep
    its shape."""
    for shape, number in (((4, 4), 8), ((3, 5), 4)):
        cells = np.arange(2 * shape[0] * shape[1]).reshape(2, -1)
        grids = Grids(cells, cells)
        task = maze.Maze(shape, "own", grids, grids, grids)
        assert task.views == number
        seen = [task.view(grids.x, k) for k in range(number)]
        assert np.array_equal(seen[0], grids.x)
        assert len({v.tobytes() for v in seen}) == number
        for k, view in enumerate(seen):
            assert np.array_equal(task.back(view, k), grids.x)


def test_faults_of_a_path():
    """By hand: the shortest path, a detour, a cell to spare, a gap, and a wall that is gone."""
    cells = grid("S  ", "   ", "#G ")
    task = maze.Maze(3, "own", *[Grids(cells.reshape(1, 9), cells.reshape(1, 9))] * 3)
    answers = [
        grid("So ", " o ", "#G "), grid("Soo", " oo", "#Go"), grid("Soo", "  o", "#Go"), grid("So ", "   ", "#G "),
        grid("So ", " o ", " G "),
    ]  # fmt: skip
    found = task.faults(np.stack([cells.ravel()] * 5), np.stack([a.ravel() for a in answers]))
    assert found.tolist() == [3, np.inf, 5, np.inf, np.inf]


@pytest.mark.parametrize("moves", [maze.MOVES[::-1], None])
def test_augmentation_of_stored_paths(moves):
    """Of a maze turned and reversed, the path is the one that the order of moves gives; without one, the stored path
    turned along."""
    train, validation, test = maze.generate(6, "open", (20, 5, 5), seed=1, least=4, walls=0.2)
    own = np.stack([maze.solve(x.reshape(6, 6), moves or maze.MOVES)[0].ravel() for x in train.x])
    task = Maze(6, "stored", Grids(train.x, own), validation, test, moves=moves)
    rng, differ = np.random.default_rng(0), 0
    for x, y in zip(task.train.x, own):
        a, b = (g.reshape(6, 6) for g in task.augment(x, y, rng))
        images = [turned((y == PATH).reshape(6, 6), k) for k in range(8)]
        along = any(np.array_equal(image, b == PATH) for image in images)
        if moves is None:
            assert along
            assert np.array_equal(np.where(b == PATH, FREE, b), a)
        else:
            assert np.array_equal(maze.solve(a, moves)[0], b)
            differ += not along
    assert moves is None or differ


@pytest.mark.parametrize("kind", maze.GENERATORS)
def test_splits_share_no_maze_under_symmetries(kind):
    """Prevents: a test maze that is a training maze turned round. The check is by brute force over all images."""
    splits = maze.generate(6, kind, (60, 20, 20), seed=0, least=3)
    assert [len(s) for s in splits] == [60, 20, 20]
    images = []
    for split in splits:
        images.append(set())
        for x, moves in zip(split.x, split.difficulty):
            cells = x.reshape(6, 6)
            assert moves >= 3
            swapped = cells.copy()
            swapped[cells == START], swapped[cells == GOAL] = GOAL, START
            for m, flip in itertools.product((cells, swapped), (False, True)):
                for k in range(4):
                    images[-1].add(np.rot90(m.T if flip else m, k).tobytes())
    for a, b in itertools.combinations(images, 2):
        assert not a & b
    again = maze.generate(6, kind, (60, 20, 20), seed=0, least=3)
    assert all(np.array_equal(a.x, b.x) and np.array_equal(a.y, b.y) for a, b in zip(splits, again))


def test_augmentation_and_scores():
    splits = maze.generate(6, "open", (20, 5, 5), seed=1, least=4)
    task = Maze(6, "open", *splits)
    task.check()
    rng = np.random.default_rng(0)
    for x, y in zip(splits[0].x, splits[0].y):
        a, b = task.augment(x, y, rng)
        assert maze.canonical(a.reshape(6, 6)) == maze.canonical(x.reshape(6, 6))
        assert maze.is_shortest(a.reshape(6, 6), b.reshape(6, 6))
    scores = task.scores(task.test, task.test.y)
    assert scores["exact"].all()
    assert scores["optimal"].all()
    other = task.test.y.copy()
    other[0, 0] = WALL if other[0, 0] != WALL else FREE
    assert task.scores(task.test, other)["optimal"].tolist() == [False, True, True, True, True]
    # all that is one shortest path, no more and no less: those of mazes seen upside down are often others
    turned = np.stack([maze.solve(m.reshape(6, 6)[::-1, ::-1])[0][::-1, ::-1].ravel() for m in task.train.x])
    spoiled = turned.copy()
    spoiled[::2, rng.integers(36)] = PATH
    for answers in (turned, spoiled):
        pairs = zip(task.train.x.reshape(-1, 6, 6), answers.reshape(-1, 6, 6), strict=True)
        scores = task.scores(task.train, answers)
        assert scores["optimal"].tolist() == [maze.is_shortest(m, a) for m, a in pairs]
        assert not np.array_equal(scores["exact"], scores["optimal"])
    assert Maze(6, "open", *splits, augmentation=False).augment(x, y, rng)[0] is x


# -- folders -----------------------------------------------------------------------------------------------------------


def write(folder, x, y, name="train", kind="<i8"):
    (folder / name).mkdir(parents=True, exist_ok=True)
    np.save(folder / name / "all__inputs.npy", np.asarray(x).astype(kind))
    np.save(folder / name / "all__labels.npy", np.asarray(y).astype(kind))


def mazes(number, shape=(5, 5), seed=0):
    """Different under all symmetries, with any one of the shortest paths, [number, height, width]."""
    rng, x, y, seen = np.random.default_rng(seed), [], [], set()
    while len(x) < number:
        size = max(shape)
        cells = maze.open_walls(size, rng, 0.25)[: shape[0], : shape[1]]
        cells = maze.with_ends(cells, 3, rng)
        if cells is not None and maze.canonical(cells) not in seen:
            seen.add(maze.canonical(cells))
            x.append(cells)
            y.append(maze.solve(cells[::-1, ::-1])[0][::-1, ::-1])
    return np.stack(x), np.stack(y)


@pytest.mark.parametrize("kind", ["u1", "<i8", ">i2"])
@pytest.mark.parametrize(("shape", "flat"), [((5, 5), True), ((5, 5), False), ((4, 6), False)])
def test_folder(tmp_path, shape, flat, kind):
    """What is stored is what is learned, validation rows drawn from the training rows; also where mazes are not
    square."""
    x, y = mazes(30, shape)
    flattened = (x.reshape(30, -1), y.reshape(30, -1)) if flat else (x, y)
    write(tmp_path, *(a[:20] for a in flattened), kind=kind)
    write(tmp_path, *(a[20:] for a in flattened), "test", kind)
    found, splits = maze.load_folder(tmp_path, (12, 6, 8), 0)
    assert found == shape
    assert [len(s) for s in splits] == [12, 6, 8]
    row = {a.tobytes(): i for i, a in enumerate(x.astype(np.int8))}
    rows = [[row[a.tobytes()] for a in split.x] for split in splits]
    assert len({*rows[0], *rows[1]}) == 18
    assert max(*rows[0], *rows[1]) < 20 <= min(rows[2])
    assert rows[0] != sorted(rows[0])
    for split, drawn in zip(splits, rows):
        assert np.array_equal(split.y.reshape(-1, *shape), y[drawn])
        assert split.difficulty.tolist() == [maze.solve(m)[1] for m in x[drawn]]
    again, other = (maze.load_folder(tmp_path, (12, 6, 8), seed)[1] for seed in (0, 1))
    assert np.array_equal(again[1].x, splits[1].x)
    assert not np.array_equal(other[1].x, splits[1].x)
    task = Maze(found, "stored", *splits)
    task.check()
    assert task.scores(task.test, task.test.y)["optimal"].all()
    rng = np.random.default_rng(0)
    images = set()
    for _ in range(100):
        a, b = task.augment(splits[0].x[0], splits[0].y[0], rng)
        images.add(a.tobytes())
        assert maze.canonical(a.reshape(shape)) == maze.canonical(splits[0].x[0].reshape(shape))
        assert maze.is_shortest(a.reshape(shape), b.reshape(shape))
    assert len(images) == (16 if shape == (5, 5) else 8)


def test_windows():
    """Cut out of the training mazes alone, walls as they are, with ends as far apart as was asked for.

    Prevents: a curriculum that shows test mazes."""
    splits = maze.generate(9, "open", (6, 1, 6), seed=2, least=6)
    task = Maze(9, "open", *splits, moves=maze.MOVES[::-1])
    found = maze.windows(task, 5, (20, 3, 2), 0)
    assert [len(s) for s in found] == [20, 3, 2]
    grids = splits[0].x.reshape(-1, 9, 9)
    walls = [g[r : r + 5, c : c + 5] == WALL for g in grids for r in range(5) for c in range(5)]
    for x, y, moves in zip(found[0].x, found[0].y, found[0].difficulty):
        window = x.reshape(5, 5)
        assert any(np.array_equal(window == WALL, w) for w in walls)
        answer, length = maze.solve(window, task.moves)
        assert np.array_equal(answer.ravel(), y)
        assert length == moves >= 10
    with pytest.raises(ValueError, match="a window has an edge of 3 to 9 cells here, got 10"):
        maze.windows(task, 10, (1, 1, 1), 0)
    straight = np.full((1, 9, 9), FREE)
    straight[0, 0, 0], straight[0, 0, 8] = START, GOAL
    y = np.stack([maze.solve(m)[0] for m in straight]).reshape(1, -1)
    easy = Maze(9, "open", *(Grids(straight.reshape(1, -1), y),) * 3)
    with pytest.raises(ValueError, match="found only 0 of 3 windows of 5 × 5 with 10 moves or more"):
        maze.windows(easy, 5, (1, 1, 1), 0)


def test_folder_splits_do_not_overlap(tmp_path, caplog):
    """Prevents: a test maze that is learned turned round, a validation maze that is a training maze."""
    x, y = mazes(8)
    swapped = maze.reversed_ends(np.rot90(x[0].T))
    learned = np.stack([swapped, *x[1:7], x[3][::-1]])
    write(tmp_path, learned, np.stack([maze.solve(m)[0] for m in learned]))
    write(tmp_path, x[[0, 7]], y[[0, 7]], "test")
    for seed in range(20):
        with caplog.at_level("INFO"):
            _, (train, validation, test) = maze.load_folder(tmp_path, (5, 3, 2), seed)
        marks = [{maze.canonical(m.reshape(5, 5)) for m in split.x} for split in (train, validation, test)]
        assert not marks[0] & marks[1]
        assert not (marks[0] | marks[1]) & marks[2]
        assert len(test) == 2
    assert "1 of 5 training puzzles are also in the test, and left out" in caplog.text
    assert "1 of 3 validation puzzles are also in training or the test, and left out" in caplog.text
    write(tmp_path, x[[0, 7]], y[[0, 7]])
    with pytest.raises(ValueError, match="each training puzzle is, turned or renamed, in another split"):
        maze.load_folder(tmp_path, (1, 1, 2), 0)


def spoiled(change):
    x, y = mazes(8)
    x, y = x.astype(np.int64), y.astype(np.int64)
    x, y = change(x, y) or (x, y)
    return x, y


def put(which, row, symbol, value):
    """Writes a value where a maze or answer has a symbol."""

    def change(*arrays):
        array = arrays[which][row]
        array[tuple(np.argwhere(array == symbol)[0])] = value

    return change


def detour(x, y):
    """A path of the right ends, but longer than need be."""
    x[2], y[2] = 2, 2
    x[2, 0, 0] = y[2, 0, 0] = START
    x[2, 0, 2] = y[2, 0, 2] = GOAL
    y[2, 1, :3] = PATH


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put(0, 3, WALL, 257), r"inputs.npy, row 3: symbol 257 in cell \[\d, \d\], must be one of \(1, 2, 3, 4\)"),
        (put(0, 3, WALL, 0), "inputs.npy, row 3: symbol 0 in cell"),
        (put(0, 3, FREE, 5), "inputs.npy, row 3: symbol 5 in cell"),
        (put(1, 7, FREE, 6), "labels.npy, row 7: symbol 6 in cell"),
        (put(0, 1, FREE, START), "inputs.npy, row 1: a maze has one start and one goal, this one 2 and 1"),
        (put(0, 1, GOAL, FREE), "inputs.npy, row 1: a maze has one start and one goal, this one 1 and 0"),
        (
            put(1, 4, PATH, FREE),
            "labels.npy, row 4: no shortest path from the start .* in all__inputs.npy .1 of 8 rows",
        ),
        (put(1, 4, FREE, PATH), "labels.npy, row 4: no shortest path"),
        (put(1, 4, WALL, FREE), "labels.npy, row 4: no shortest path"),
        (put(0, 4, WALL, FREE), "labels.npy, row 4: no shortest path"),
        (detour, "labels.npy, row 2: no shortest path"),
        (lambda x, y: (x, y[::-1]), r"labels.npy, row 0, 1, 2, 3, 4, 5, 6, 7: no shortest path .* \(8 of 8 rows\)"),
        (lambda x, y: (x, y[:-1]), r"labels.npy has the shape \[7, 5, 5\], but .*inputs.npy \[8, 5, 5\]"),
        (lambda x, y: (x.reshape(-1, 10), y), r"inputs.npy must be \[mazes, cells\] of square mazes .* got \[20, 10\]"),
        (lambda x, y: (x[:0], y[:0]), r"inputs.npy must be .* got \[0, 5, 5\]"),
    ],
)
def test_spoiled_folders(tmp_path, change, message):
    """Prevents: mazes that are learned from wrong answers, or symbols that wrap round to right ones."""
    x, y = spoiled(change)
    write(tmp_path, x, y)
    write(tmp_path, *mazes(3, seed=1), "test")
    with pytest.raises(ValueError, match=message) as error:
        maze.load_folder(tmp_path, (2, 1, 2), 0)
    assert str(tmp_path / "train") in str(error.value)


def test_folders_of_another_layout(tmp_path):
    write(tmp_path, *mazes(5))
    with pytest.raises(ValueError, match=r"there is no .*all__inputs.npy: a folder of mazes holds train and test"):
        maze.load_folder(tmp_path, (2, 1, 2), 0)
    write(tmp_path, *mazes(3, seed=1), "test")
    with pytest.raises(ValueError, match=r"train holds 5 puzzles, fewer than the 3 \+ 3 asked for"):
        maze.load_folder(tmp_path, (3, 3, 2), 0)
    with pytest.raises(ValueError, match="test holds 3 puzzles, fewer than the 4 asked for"):
        maze.load_folder(tmp_path, (3, 2, 4), 0)
    write(tmp_path, *mazes(3, (5, 6), seed=1), "test")
    with pytest.raises(ValueError, match=r"mazes of \(5, 5\) for training, but of \(5, 6\) for the test"):
        maze.load_folder(tmp_path, (3, 1, 2), 0)
    for array, message in (
        (np.ones((2, 9)), "must hold integers, got float64"),
        (np.array([{}]), "is no readable .npy file: Object arrays cannot be loaded"),
    ):
        np.save(tmp_path / "train" / "all__inputs.npy", array)
        with pytest.raises(ValueError, match=message):
            maze.load_folder(tmp_path, (3, 1, 2), 0)
    path = tmp_path / "train" / "all__inputs.npy"
    path.write_bytes(b"\x93NUMPY nothing more")
    with pytest.raises(ValueError, match=r"is no readable \.npy file"):
        maze.load_folder(tmp_path, (3, 1, 2), 0)


def test_bad_input():
    with pytest.raises(ValueError, match="unknown kind of maze 'round'; choose one of open, carved"):
        maze.generate(6, "round", (1, 1, 1), 0)
    with pytest.raises(ValueError, match="a size of at least 3, got 2"):
        maze.generate(2, "open", (1, 1, 1), 0)
    with pytest.raises(ValueError, match="found only 0 of 3 open mazes of 5 × 5 with 24 moves or more"):
        maze.generate(5, "open", (1, 1, 1), 0, least=24)
