"""Puzzles from files: from the command line through the checks into training."""

import numpy as np
import pytest
import torch
from studies import finished, launch, smoke_flags

from bench import maze, sudoku
from bench.puzzles import reasoning
from hrm.model import Output

EXAMPLE = "530070000600195000098000060800060003400803001700020006060000280000419005000080079"
ANSWER = "534678912672195348198342567859761423426853791713924856961537284287419635345286179"


def easier(number, seed=0, blanks=25):
    """The example with some of its blanks filled, which leaves one solution; of different classes under symmetries."""
    rng = np.random.default_rng(seed)
    question, answer = (np.array(list(text)) for text in (EXAMPLE, ANSWER))
    out = []
    for _ in range(number):
        filled = rng.permutation(np.flatnonzero(question == "0"))[blanks:]
        easy = question.copy()
        easy[filled] = answer[filled]
        out.append("".join(easy))
    return out


def csv(path, puzzles, answers=None):
    rows = [f"s,{q},{a}" for q, a in zip(puzzles, answers or [ANSWER] * len(puzzles))]
    path.write_text("\n".join(["source,question,answer", *rows]).replace("0", "."))
    return path


def listed(path, puzzles):
    path.write_text("\n".join(["# some", *puzzles]))
    return path


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_splits_of_files(tmp_path):
    """Prevents: training puzzles that are test puzzles under a symmetry, validation puzzles that are either."""
    rng = np.random.default_rng(0)
    puzzles = easier(7)
    x = np.array([list(map(int, p)) for p in puzzles])
    change = sudoku.sudoku.symmetry(9, rng)
    turned = ["".join(map(str, change(np.array(list(map(int, p)))))) for p in (puzzles[0], ANSWER)]
    o = sudoku.Sudoku(
        size=9, puzzles=(4, 3, 2), train_csv=csv(tmp_path / "train.csv", [*puzzles[:6], puzzles[2]]),
        test_csv=csv(tmp_path / "test.csv", [turned[0], puzzles[6]], [turned[1], ANSWER]),
    )  # fmt: skip
    met = set()
    for seed in range(12):
        o.data_seed = seed
        task = sudoku.task(o)
        learned, validated, tested = (
            set(sudoku.sudoku.fingerprints(s.x - 1).tolist()) for s in (task.train, task.validation, task.test)
        )
        assert not learned & validated
        assert not (learned | validated) & tested
        assert len(task.test) == 2
        met |= learned
    assert met == set(sudoku.sudoku.fingerprints(x[1:6]).tolist())  # each row may be drawn; the test's never is


def test_one_file_for_all(tmp_path):
    """Prevents: test puzzles that are the training puzzles, where both are said to be in one file."""
    path = listed(tmp_path / "list", easier(20))
    task = sudoku.task(sudoku.Sudoku(size=9, puzzles=(10, 6, 4), train_csv=path, test_csv=tmp_path / "." / "list"))
    rows = [row.tobytes() for split in (task.train, task.validation, task.test) for row in split.x]
    assert len(rows) == len(set(rows)) == 20


def test_several_files(tmp_path):
    """Equally many rows of each; a file that is for both is divided; each test file has results of its own. Prevents:
    rows that are learned and tested, and results under another file's name."""
    rng = np.random.default_rng(0)
    a, b, c = (listed(tmp_path / name, easier(12, seed, 20 + seed)) for seed, name in enumerate("abc"))
    of = {path.name: {row.question for row in sudoku.sudoku.read_rows(path)} for path in (a, b, c)}
    o = sudoku.Sudoku(size=9, puzzles=(7, 2, 8), train_csv=[a, b], test_csv=[c, a, b])
    task = sudoku.task(o)

    def written(x):
        return ["".join(map(str, row - 1)) for row in x]

    for split, names in ((task.train, "aaabbbb"), (task.validation, "ab"), (task.test, "ccaaabbb")):
        assert all(text in of[name] for text, name in zip(written(split.x), names, strict=True))
    assert len({*written(task.train.x), *written(task.validation.x), *written(task.test.x)}) == 17
    assert task.sets == {"c": 2, "a": 3, "b": 3}
    model = reasoning.build(o, task, 0)
    right = rng.random((4, 8)) < 0.5  # made up: after each of four segments
    task.scores = lambda grids, answers: {"exact": right[answers[0, 0]], "valid": right[answers[0, 0]]}
    stated = iter(range(4))
    model.read_out = lambda carry: Output(one_hot(next(stated)).expand(8, 81, 11), torch.zeros(8), torch.zeros(8))
    o.segments = 4
    sets = reasoning.answer(o, task, model)["sets"]
    assert {name: (s["puzzles"], s["curve"]["valid"]) for name, s in sets.items()} == {
        "c": (2, right[:, :2].mean(1).tolist()), "a": (3, right[:, 2:5].mean(1).tolist()),
        "b": (3, right[:, 5:].mean(1).tolist()),
    }  # fmt: skip


def one_hot(symbol):
    return torch.nn.functional.one_hot(torch.tensor(symbol), 11).float()


def test_what_was_solved_is_remembered(tmp_path, monkeypatch):
    """Known by its content: the same puzzles are not solved again, others are."""
    files = {"train_csv": csv(tmp_path / "a.csv", easier(8)), "test_csv": listed(tmp_path / "b", easier(3, 1))}
    o = sudoku.Sudoku(size=9, puzzles=(4, 3, 2), **files)
    first = sudoku.task(o)
    solver = sudoku.sudoku.solve
    monkeypatch.setattr(sudoku.sudoku, "solve", None)
    again = sudoku.task(o)
    assert np.array_equal(first.test.y, again.test.y)
    assert np.array_equal(first.train.x, again.train.x)
    monkeypatch.setattr(sudoku.sudoku, "solve", solver)
    listed(tmp_path / "b", [EXAMPLE, "0" * 81])
    with pytest.raises(ValueError, match=r"b, line 3: the puzzle has several solutions"):
        sudoku.task(o)


@pytest.mark.parametrize("write", [csv, listed])
def test_training_on_files(tmp_path, write):
    """A list is learned as a CSV is, and both measures are told."""
    train, test = write(tmp_path / "train", easier(70)), write(tmp_path / "test", easier(30, 1))
    runs = tmp_path / "runs"
    flags = ["--size", "9", "--train_csv", str(train), "--test_csv", str(test), "--seeds", "1"]
    found = finished(runs, launch("sudoku", *smoke_flags("sudoku", runs), *flags))
    assert found.result["puzzles"] == {"train": 40, "validation": 20, "test": 20}
    assert found.result["seeds"][0]["test"]["last"]["curve"].keys() == {"exact", "valid"}
    assert found.result["seeds"][0]["curve"][0]["validation"].keys() == {"exact", "valid"}
    assert "best     valid" in found.printed


def test_files_are_looked_at_first(tmp_path, capsys):
    """Prevents: a fault in a file that is told after an hour of training, or as a traceback."""
    train = csv(tmp_path / "train.csv", [*easier(59), "0" * 81])
    test = csv(tmp_path / "test.csv", easier(30, 1))
    flags = ["--size", "9", "--train_csv", str(train), "--test_csv", str(test), "--runs", str(tmp_path / "runs")]
    for more, message in (
        ([], "train.csv holds 60 puzzles, fewer than the 5000 asked for: lower puzzles"),
        (["--puzzles", "[50, 10, 20]"], "train.csv, line 61: the puzzle has several solutions"),
        (["--puzzles", "[50, 10, 20]", "--size", "6"], "use --size 9 with them, not 6"),
    ):
        with pytest.raises(SystemExit, match=message):
            launch("sudoku", *flags, *more)
    with pytest.raises(SystemExit, match=r"there is no .*mazes/train/all__inputs.npy"):
        launch("maze", "--folder", str(tmp_path / "mazes"), "--runs", str(tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()
    sudoku.task(sudoku.Sudoku(size=9, puzzles=(50, 10, 20), train_csv=train, test_csv=test, verify=False))


def folder_of_mazes(folder, height, width):
    """60 mazes for training and validation, 20 for the test."""
    rng, found = np.random.default_rng(0), {}
    while len(found) < 80:
        cells = maze.maze.open_walls(max(height, width), rng, 0.25)[:height, :width]
        if (cells := maze.maze.with_ends(cells, 4, rng)) is not None:
            found[maze.maze.canonical(cells)] = cells, maze.maze.solve(cells)[0]
    for name, rows in (("train", slice(60)), ("test", slice(60, None))):
        (folder / name).mkdir(parents=True)
        for file, part in (("inputs", 0), ("labels", 1)):
            np.save(folder / name / f"all__{file}.npy", np.stack([pair[part] for pair in found.values()][rows]))
    return folder


def test_training_on_a_folder_of_mazes(tmp_path, monkeypatch):
    """Also where they are not square. Prevents: a run that finds its mazes only from the folder it was started in."""
    folder, runs = folder_of_mazes(tmp_path / "mazes", 5, 7), tmp_path / "runs"
    monkeypatch.chdir(tmp_path)
    found = finished(runs, launch("maze", *smoke_flags("maze", runs), "--folder", "mazes", "--seeds", "1"))
    assert found.result["puzzles"] == {"train": 40, "validation": 20, "test": 20}
    assert found.result["task"] == "stored maze 5x7"
    assert found.result["options"]["folder"] == str(folder)
    # larger ones are larger than those learned, whatever the option for generated ones says
    o = maze.tiny(maze.Maze(folder=folder, walls=0.2))
    other, _ = maze.larger(o, reasoning.build(o, maze.task(o), 0), 2, 5)
    assert (other.width, other.height) == (14, 14)
