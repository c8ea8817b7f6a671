"""How puzzles are written and judged, by hand."""

import numpy as np
import pytest

from hrm.tasks import maze, notation, sudoku
from hrm.tasks.task import Task

FOUR = "1.3. ..1. .1.3 ...."  # one a symbol, in groups
ANSWER = [[1, 2, 3, 4], [3, 4, 1, 2], [2, 1, 4, 3], [4, 3, 2, 1]]


def sudokus(n):
    return notation.of(sudoku.Sudoku(n, None, None, None))


def mazes(size):
    return notation.of(maze.Maze(size, "open", None, None, None))


def test_a_sudoku_in_any_notation():
    """Prevents: digits that are shifted, rows that are columns, a blank that is a digit."""
    grid = np.array([[1, 0, 3, 0], [0, 0, 1, 0], [0, 1, 0, 3], [0, 0, 0, 0]])
    expected = sudoku.to_symbols(grid.reshape(-1))
    lines = ["1.3.", "..1.", ".1.3", "...."]
    for puzzle in (
        FOUR, FOUR.replace(".", "0"), "\n".join(lines), "\r\n".join(lines) + "\r\n", lines,
        [list(line) for line in lines], list("".join(lines)), grid, grid.tolist(), grid.reshape(-1), grid * 1.0,
        grid.astype(np.uint8), "1 . | 3 .\n. . | 1 .\n----+----\n. 1 | . 3\n. . | . .\n",
    ):  # fmt: skip
        assert np.array_equal(sudokus(4).read(puzzle), expected)
    written = sudokus(4).write(grid)
    assert written == "1 . | 3 .\n. . | 1 .\n----+----\n. 1 | . 3\n. . | . ."
    assert np.array_equal(sudokus(4).numbers(expected), grid)
    six = sudokus(6).write(np.arange(36).reshape(6, 6) % 7).splitlines()
    assert six[:3] == [". 1 2 | 3 4 5", "6 . 1 | 2 3 4", "------+------"]
    assert len(six) == 8


NINE = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"


def test_the_puzzle_of_the_textbooks():
    x = sudokus(9).read(NINE)
    solved = sudoku.to_symbols(sudoku.solve(x - sudoku.BLANK).grid)
    assert sudokus(9).judge(x, solved) == {"valid": True, "keeps the givens": True}
    assert "".join(map(str, sudokus(9).numbers(solved)[0])) == "534678912"


@pytest.mark.parametrize(
    ("puzzle", "message"),
    [
        ("1.3.", "has 4 cells, but sudoku 4x4 has 4 rows of 4 cells"),
        ("", "has 0 cells, but sudoku 4x4"),
        ("1.3.\n..1\n.1.3\n....", "has 3 cells in row 2, but"),
        ("1.3.\n..1.", "has 2 rows, but"),
        (NINE.replace("5", "."), "'7' in row 1, column 5; write digits 1 … 4, and 0 or . for a blank"),
        ("1.5. ..1. .1.3 ....", "has '5' in row 1, column 3; write digits 1 … 4, and 0 or . for a blank"),
        ([[0] * 4, [0, 0, 5, 0], [0] * 4, [0] * 4], "has 5 in row 2, column 3; write digits 1 … 4"),
        ([[-1] * 4] * 4, "has -1 in row 1, column 1"),
        ([[1.7] + [0] * 3] * 4, "has 1.7 in row 1, column 1"),
        ([[float("nan")] * 4] * 4, "has nan in row 1, column 1"),
        ([[None] * 4] * 4, "has None in row 1, column 1"),
        ([[1, 2], [3]], "has rows of different lengths"),
        ([[1, 2], [3, 4]], "has the shape 2 × 2, but"),
        (None, "is no grid, but"),
        ("11.. .... .... ....", "the puzzle contradicts itself: 1 stands 2 times in row 1"),
        ("1... 1... .... ....", "1 stands 2 times in column 1"),
        ("1... .1.. .... ....", "1 stands 2 times in box 1"),
        (".... .... ..3. ...3", "3 stands 2 times in box 4"),
    ],
)
def test_no_sudoku(puzzle, message):
    with pytest.raises(ValueError, match=message) as caught:
        sudokus(4).read(puzzle)
    assert "\n" not in str(caught.value)


def test_an_answer_to_a_sudoku():
    """Prevents: an answer that is called valid because it repeats the givens, or the other way round."""
    x = sudokus(4).read(FOUR)
    right = sudoku.to_symbols(np.array(ANSWER).reshape(-1))
    other = sudoku.to_symbols(sudoku.full_grid(4, np.random.default_rng(1)))
    swapped = right.copy()
    swapped[[14, 15]] = swapped[[15, 14]]
    assert sudokus(4).judge(x, right) == {"valid": True, "keeps the givens": True}
    assert sudokus(4).judge(x, other) == {"valid": True, "keeps the givens": False}
    assert sudokus(4).judge(x, swapped) == {"valid": False, "keeps the givens": True}
    boxless = np.array([[1, 2, 3, 4], [2, 3, 4, 1], [3, 4, 1, 2], [4, 1, 2, 3]])  # rows and columns are fine
    assert not sudokus(4).judge(x, sudoku.to_symbols(boxless.reshape(-1)))["valid"]
    assert not sudokus(4).judge(x, np.zeros(16, dtype=int))["valid"]
    assert sudokus(4).numbers(np.zeros(16, dtype=int)).max() == 0  # a symbol that is no digit


MAZE = ["S.#.", "#...", "#.#.", "..#G"]
WALKED = ["So# ", "#ooo", "# #o", "  #G"]


def test_a_maze_in_any_notation():
    expected = [3, 2, 1, 2, 1, 2, 2, 2, 1, 2, 1, 2, 2, 2, 1, 4]
    grid = np.reshape(expected, (4, 4))
    text = "\n".join(MAZE)
    for puzzle in (MAZE, text, text.replace(".", " "), text.replace("\n", ""), grid, grid.tolist(), expected):
        assert mazes(4).read(puzzle).tolist() == expected
    assert mazes(4).write(grid).splitlines() == MAZE
    assert mazes(4).numbers(np.array(expected)).tolist() == grid.tolist()
    free = mazes(4).read("S..G\n    \n    \n    ")  # rows of blanks are rows
    assert (free[4:] == maze.FREE).all()


@pytest.mark.parametrize(
    ("puzzle", "message"),
    [
        (["S.#.", "#...", "#.#.", "..#."], "one start and one goal, this one 1 and 0"),
        (["S#..", "##..", "#.#.", "..#G"], "the goal cannot be reached from the start"),
        (WALKED, "has 'o' in row 1, column 2; write # or 1 for a wall, .* G or 4 for the goal"),
        (np.full((4, 4), 5), "has 5 in row 1, column 1; write # or 1"),
        (np.zeros((4, 4)), "has 0.0 in row 1, column 1"),
        (["S.#", "#..", "#.G"], "has 3 rows, but open maze 4x4 has 4 rows of 4 cells"),
    ],
)
def test_no_maze(puzzle, message):
    with pytest.raises(ValueError, match=message):
        mazes(4).read(puzzle)


def test_an_answer_to_a_maze():
    n = mazes(4)
    x = n.read(MAZE)

    def judged(rows):
        return list(n.judge(x, np.array([n.symbols.index(c) for c in "".join(rows)])).values())

    assert list(n.judge(x, x)) == ["keeps the maze", "the path leads to the goal", "a shortest one"]
    assert judged(WALKED) == [True, True, True]
    assert judged(["So# ", "#ooo", "#o#o", "  #G"]) == [True, True, False]  # one cell too many
    assert judged(["So# ", "#oo ", "# #o", "  #G"]) == [True, False, False]  # a gap
    assert judged(["So# ", "#ooo", "# #o", "   G"]) == [False, True, False]  # a wall has gone
    assert judged(["Soo ", "# oo", "# #o", "  #G"])[:2] == [False, False]  # through a wall


def test_a_task_of_one_s_own():
    task = Task("colours", 2, 3, 5)
    n = notation.of(task)
    assert n.read("012\n340").tolist() == n.read([[0, 1, 2], [3, 4, 0]]).tolist() == [0, 1, 2, 3, 4, 0]
    assert n.write(np.array([[0, 1, 2], [3, 4, 0]])) == "012\n340"
    assert n.judge(np.zeros(6), np.zeros(6)) == {}
    with pytest.raises(ValueError, match="has '7' in row 1, column 2; write numbers 0 … 4, or '01234'"):
        n.read("071340")
    many = notation.of(Task("many", 1, 3, 50))
    assert many.read([0, 49, 7]).tolist() == [0, 49, 7]
    assert many.write(np.array([[0, 49, 7]])).split() == ["0", "49", "7"]
    with pytest.raises(ValueError, match=r"has 50 in row 1, column 3; write numbers 0 … 49$"):
        many.read([0, 49, 50])


def test_what_changed_is_marked():
    grid = np.array(ANSWER)
    written = sudokus(4).write(grid, grid == 4)
    assert written.count("\033[1m4\033[0m") == 4
    assert written.replace("\033[1m", "").replace("\033[0m", "") == sudokus(4).write(grid)
