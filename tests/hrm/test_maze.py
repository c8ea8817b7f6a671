"""Mazes: distances against scipy, the measure of optimality against all paths, generators, splits."""

import itertools

import numpy as np
import pytest
from scipy.sparse import lil_matrix
from scipy.sparse.csgraph import dijkstra

from hrm.tasks import maze
from hrm.tasks.maze import FAR, FREE, GOAL, PATH, START, WALL, Maze


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


def test_bad_input():
    with pytest.raises(ValueError, match="unknown kind of maze 'round'; choose one of open, carved"):
        maze.generate(6, "round", (1, 1, 1), 0)
    with pytest.raises(ValueError, match="a size of at least 3, got 2"):
        maze.generate(2, "open", (1, 1, 1), 0)
    with pytest.raises(ValueError, match="found only 0 of 3 open mazes of 5 × 5 with 24 moves or more"):
        maze.generate(5, "open", (1, 1, 1), 0, least=24)
