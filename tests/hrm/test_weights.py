"""Files of weights, and puzzles of one's own answered with them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import hrm
from hrm import act, weights
from hrm.act import Halting
from hrm.model import HRM, Config
from hrm.tasks import maze, sudoku
from hrm.tasks.task import Grids, Task
from hrm.train import Trainer, Training

SIZES = dict(d=16, heads=2, H_layers=1, L_layers=1, multiple=8)
HALTING = Halting(3, q_continue=False)


def model_for(task, **changes):
    torch.manual_seed(0)
    sizes = dict(vocabulary=task.vocabulary, length=task.length, columns=task.width, puzzles=task.puzzles)
    model = HRM(Config(**{**SIZES, **sizes, **changes}))
    with torch.no_grad():
        model.q_head.weight.normal_()
        model.q_head.bias.zero_()
    return model


def four():
    return sudoku.Sudoku(4, None, None, None)


@pytest.fixture
def path(tmp_path):
    weights.save(tmp_path / "some.pt", model_for(four()), four(), HALTING)
    return tmp_path / "some.pt"


GRID = np.array([[1, 0, 3, 0], [0, 0, 1, 0], [0, 1, 0, 3], [0, 0, 0, 0]])


def test_answer_is_that_of_the_model(path):
    """Prevents: digits read or written shifted, steps of another loop than that of evaluation. By hand: symbols in,
    the segments of `act.solve`, symbols back."""
    answer = hrm.load(path).solve(GRID)
    x = torch.from_numpy(GRID.reshape(1, -1) + 1)
    outs = [out for out, *_ in act.solve(model_for(four()), x, None, 3)]
    digits = [out.logits.argmax(-1)[0].numpy() - 1 for out in outs]
    assert len(answer.steps) == 3
    for grid, expected in zip(answer.steps, digits):
        assert np.array_equal(grid.reshape(-1), np.maximum(expected, 0))
    assert np.array_equal(answer.grid, answer.steps[-1])
    assert np.array_equal(answer.puzzle, GRID)
    assert answer.grid.dtype == np.int64
    np.testing.assert_allclose(answer.sure, [out.q_halt.sigmoid().item() for out in outs], rtol=1e-5)
    assert answer.checks == {"valid": False, "keeps the givens": False}
    sure = f"{100 * answer.sure[-1]:.0f}"
    assert str(answer) == (
        f"{answer.notation.write(answer.grid)}\nvalid: no, keeps the givens: no, the model is {sure} % sure"
    )
    assert len(hrm.load(path).solve(GRID, segments=5).steps) == 5
    with pytest.raises(ValueError, match="segments must be ≥ 0, got -1"):
        hrm.load(path).solve(GRID, segments=-1)


def test_halting_and_precision_are_the_file_s(tmp_path):
    """An answer that halts early has the steps until then; a Q-head that learned nothing tells nothing."""
    task, x = four(), torch.from_numpy(GRID.reshape(1, -1) + 1)
    model = model_for(task)
    with torch.no_grad():
        model.q_head.bias.fill_(100)
    weights.save(tmp_path / "a.pt", model, task, Halting(4, q_continue=False, at_evaluation=True), bf16=True)
    found = hrm.load(tmp_path / "a.pt")
    assert len(found.solve(GRID).steps) == 1
    assert found.bf16
    weights.save(tmp_path / "b.pt", model, task, Halting(4, learned=False))
    answer = hrm.load(tmp_path / "b.pt").solve(GRID)
    assert answer.sure is None
    assert "sure" not in str(answer)
    assert len(answer.steps) == 4
    *_, (out, *_) = act.solve(model, x, None, 4)
    assert np.array_equal(answer.grid.reshape(-1), np.maximum(out.logits.argmax(-1)[0].numpy() - 1, 0))


def test_one_s_own_task_from_training_to_an_answer(tmp_path):
    class Copy(Task):
        def __init__(self):
            super().__init__("copy", height=2, width=3, vocabulary=4)
            x = np.random.default_rng(0).integers(1, 4, (60, 6))
            self.train, self.validation, self.test = (Grids(x[i::3], x[i::3]) for i in range(3))

    task = Copy()
    torch.manual_seed(0)
    model = HRM(Config(vocabulary=4, length=6, **SIZES))
    t = Trainer(model, task, Training(batch=16, lr=1e-2, warmup=1, steps=60, halting=Halting(2)))
    for _ in range(60):
        t.step()
    weights.save(tmp_path / "copy.pt", t.evaluated, task, t.o.halting)
    assert str(hrm.load(str(tmp_path / "copy.pt")).solve("123\n321")).startswith("123\n321\n")


def test_a_maze(tmp_path):
    task = maze.Maze(4, "open", None, None, None)
    weights.save(tmp_path / "maze.pt", model_for(task, mixer="conv"), task, Halting(2, learned=False))
    answer = hrm.load(tmp_path / "maze.pt").solve("S...\n....\n.##.\n...G")
    assert answer.puzzle.tolist() == [[3, 2, 2, 2], [2, 2, 2, 2], [2, 1, 1, 2], [2, 2, 2, 4]]
    assert answer.steps.shape == (2, 4, 4)
    assert answer.checks.keys() == {"keeps the maze", "the path leads to the goal", "a shortest one"}


def test_puzzles_with_identities(tmp_path):
    task = four()
    task.puzzles = 3
    weights.save(tmp_path / "ids.pt", model_for(task), task, HALTING)
    with pytest.raises(ValueError, match="a model of sudoku 4x4 knows its 3 puzzles by their identities"):
        hrm.load(tmp_path / "ids.pt").solve(GRID)


# -- files -------------------------------------------------------------------------------------------------------------


def without(*names):
    def change(saved):
        for name in names[:-1]:
            saved = saved[name]
        saved.pop(names[-1])

    return change


def changed(value, *names):
    def change(saved):
        for name in names[:-1]:
            saved = saved[name]
        saved[names[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("halting"), "entries: no halting"),
        (without("config"), "entries: no config"),
        (changed(1, "colour"), "entries: unknown colour"),
        (changed("sudoku 4x4", "task"), "task: a str, not a dict"),  # as it was once
        (without("task", "symbols"), "task: no symbols"),
        (changed("chess", "task", "kind"), "task: kind = 'chess' is none of grid, sudoku, maze"),
        (changed("4", "task", "height"), "task: height = '4' is no int"),
        (changed(7, "task", "vocabulary"), "no sudoku has 4 × 4 cells of 7 symbols"),
        (changed(5, "task", "height"), "there is no sudoku of 5 × 5"),
        (without("config", "mixer"), "config: no mixer"),
        (changed(1, "config", "depth"), "config: unknown depth"),
        (changed(None, "config", "d"), "config: d = None is no int"),
        (changed(0, "config", "H_cycles"), "H_cycles must be at least 1, got 0"),
        (changed(15, "config", "length"), "the model has 15 positions, but sudoku 4x4 has 16 cells"),
        (without("model", "q_head.bias"), "weights: no q_head.bias"),
        (changed(torch.zeros(3), "model", "q_head.bias"), r"weights: q_head.bias is \[3\] of float32, not \[2\]"),
        (changed(32, "config", "d"), "weights: .* is .*, not"),
        (without("halting", "learned"), "halting: no learned"),
        (changed(0, "halting", "halt_max_steps"), "halt_max_steps must be at least 1, got 0"),
        (changed("no", "bf16"), "bf16 = 'no' is no bool"),
    ],
)
def test_files_of_another_version(change, message, path):
    """Prevents: weights that are read with other sizes, halting or digits than they were learned with."""
    saved = torch.load(path, weights_only=True)
    change(saved)
    torch.save(saved, path)
    with pytest.raises(ValueError, match="some.pt holds no weights of this version: .*" + message) as caught:
        hrm.load(path)
    assert "\n" not in str(caught.value)


def test_damaged_files(path):
    """Prevents: weights of which a bit has changed, which torch.load does not see."""
    whole = path.read_bytes()
    data = torch.load(path, weights_only=True)["model"]["output_head.weight"].numpy().tobytes()
    place = whole.index(data)
    flipped = bytearray(whole)
    flipped[place + 5] ^= 1
    for broken in (b"", b"weights", whole[:200], whole[:-1], whole[: len(whole) // 2], bytes(flipped)):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"some.pt holds no weights of this version: it.* is damaged") as caught:
            hrm.load(path)
        assert "\n" not in str(caught.value)
    path.unlink()
    with pytest.raises(ValueError, match=r"some.pt holds no weights of this version: No such file"):
        hrm.load(path)
    for thing in (None, [1], torch.zeros(2)):
        torch.save(thing, path)
        with pytest.raises(ValueError, match=r"entries: a \w+, not a dict"):
            hrm.load(path)


def test_what_cannot_be_saved(tmp_path):
    """Prevents: a file found out to be unreadable after the training."""

    class Own(torch.nn.Linear):
        def initial(self, batch):
            return torch.zeros(batch, 16, 16)

        def read(self, carry):
            return carry

    own = HRM(Config(vocabulary=6, length=16, **SIZES), L=Own(16, 16))
    odd = model_for(four())
    odd.config.d = np.int64(16)
    for model, message in (
        (own, "for a model of its own blocks"),
        (model_for(four(), vocabulary=7), "has vocabulary = 7, but sudoku 4x4 has 6"),
        (odd, "Config: d = .*16.* is no int"),
    ):
        with pytest.raises(ValueError, match=message):
            weights.save(tmp_path / "x.pt", model, four(), HALTING)
    assert not list(tmp_path.iterdir())


def test_loading_draws_nothing(path):
    """Prevents: random numbers of the user's that depend on whether weights were loaded."""
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    hrm.load(path)
    assert torch.equal(torch.rand(1), expected)


def test_importing_is_light(path):
    """Prevents: `import hrm` that takes seconds, and benchmarks that come along with a trained model."""
    code = f"""
import sys, hrm
assert "torch" not in sys.modules
hrm.load({str(path)!r}).solve({GRID.tolist()})
assert not {{"bench", "gle", "matplotlib", "scipy"}} & {{name.partition(".")[0] for name in sys.modules}}
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_names_of_the_package():
    """Prevents: a name in `__all__` that its module has given up."""
    assert {*hrm.__all__} == {*hrm._HOMES, "load", "export"}
    for name in hrm.__all__:
        assert getattr(hrm, name).__name__.removeprefix("hrm.") == name
        assert name in dir(hrm)
    with pytest.raises(AttributeError, match="'hrm' has no attribute 'magic'"):
        hrm.magic  # noqa: B018


def test_models_and_trainers_save_what_is_loaded(tmp_path):
    """Prevents: the weights of the last step where averaged ones are evaluated, and another way to halt."""
    task = sudoku.Sudoku(4, *sudoku.generate(4, 8, (8, 4, 4), 0, "digits"))
    halting = Halting(halt_max_steps=3)
    trainer = Trainer(model_for(task), task, Training(steps=2, batch=4, average=0.5, halting=halting))
    trainer.fit()
    trainer.save(tmp_path / "trainer.pt")
    trainer.model.save(tmp_path / "model.pt", task, halting)
    averaged, last = (hrm.load(tmp_path / f"{name}.pt") for name in ("trainer", "model"))
    assert averaged.halting == last.halting == halting
    for found, own in ((averaged, trainer.evaluated), (last, trainer.model)):
        for name, value in own.state_dict().items():
            assert torch.equal(found.model.state_dict()[name], value), name
    assert not torch.equal(averaged.model.embedding.weight, last.model.embedding.weight)
