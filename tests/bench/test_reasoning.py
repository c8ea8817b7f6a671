"""Training on grids: buckets, tables, weights on disk; what is measured of a model at work, by hand and by numpy."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from studies import comparable, finished, hardly_drawn, launch, run_folder, smoke_flags

import hrm
from bench import arc, hrm_dynamics, maze, sudoku
from bench.kit import divided
from bench.kit.figures import plt
from bench.kit.folder import Run
from bench.kit.options import plain
from bench.puzzles import reasoning
from hrm import act, controls, train
from hrm.model import Config
from hrm.tasks.task import Grids, Task

ROOT = Path(__file__).parents[2]
TINY = Config(vocabulary=4, length=4, d=16, heads=2, H_layers=1, L_layers=1, H_cycles=2, L_cycles=3, multiple=8)


class Copy(Task):
    def __init__(self):
        super().__init__("copy", height=2, width=2, vocabulary=4)
        x = np.random.default_rng(0).integers(1, 4, (30, 4))
        self.train, self.validation, self.test = (Grids(x[i::3], x[i::3], x[i::3, 0] * 1.0) for i in range(3))


@pytest.fixture
def model():
    return reasoning.build(reasoning.Reasoning(model=TINY), Copy(), 0)


def test_controls_of_a_model_that_learned_by_errors_that_go_round(model):
    """Prevents: a look at a model that ends where its controls would be taught so."""
    training = train.Training(gradient="local", epsilon=1.0, control="shuffled", batch=4, steps=3)
    options = reasoning.Reasoning(model=TINY, training=training, compile=False)
    subject = SimpleNamespace(options=options, task=Copy(), model=lambda when: model)
    found = hrm_dynamics.control(hrm_dynamics.Dynamics(), subject, 1, 16, 2, 2)
    assert found.config.steps == 2


def test_what_is_seen_at_work(model):
    """How far z moves is that of its trajectory, and errors are those of the target; as shares of the largest."""
    options = reasoning.Reasoning(model=TINY, training=train.Training(halting=act.Halting(2)))
    task = Copy()
    subject = SimpleNamespace(options=options, task=task)
    o, rows = hrm_dynamics.Dynamics(segments=2), task.test[:3]
    found = hrm_dynamics.at_work(o, subject, model, rows)
    L, _, updates = hrm_dynamics.trajectory(model, task, rows, 2, "cpu")
    moved = L.diff(dim=0).square().mean(-1).sqrt().numpy()
    assert found["z_L"]["largest"] == pytest.approx(moved.max(), rel=1e-5)
    np.testing.assert_allclose(found["z_L"]["share"], moved / moved.max(), atol=1e-4)
    e_H = np.array(found["e_H"]["share"])
    assert e_H.shape == (12, 3, 4)
    assert [step + 1 for step in range(12) if e_H[step].any()] == updates
    assert all(p.grad is None for p in model.parameters())


def test_buckets():
    """Each puzzle is in one range, and in the one its label names."""
    difficulty = np.random.default_rng(0).geometric(0.3, 500) - 1.0
    found = reasoning.buckets(difficulty)
    assert np.array_equal(np.sum([rows for _, rows in found], 0), np.ones(500))
    for label, rows in found:
        low, _, high = label.partition(" – ")
        assert difficulty[rows].min() == float(low)
        assert difficulty[rows].max() == float(high or low)
    assert len(found) > 2
    ((label, rows),) = reasoning.buckets(np.zeros(3))
    assert (label, rows.tolist()) == ("0", [True] * 3)
    assert [label for label, _ in reasoning.buckets(np.array([1.0, 5.0]))] == ["1 – 5"]


def test_same_seed_same_weights():
    o = reasoning.Reasoning(model=TINY)
    a, b, c = (reasoning.build(o, Copy(), seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not torch.equal(a["output_head.weight"], c["output_head.weight"])


def test_weights_on_disk(model, tmp_path):
    o = reasoning.Reasoning(model=TINY)
    path = reasoning.weights_file(tmp_path, 1, "best")
    reasoning.keep(o, model, path, Copy())
    again = reasoning.load(path, Copy())
    assert again.config == model.config
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in model.state_dict().items())
    found = hrm.load(path)  # the same file, without the task
    assert (found.halting, found.bf16, found.notation.name) == (o.training.halting, o.training.bf16, "copy")
    other = Copy()
    other.name = "other"
    with pytest.raises(ValueError, match=r"1-best.pt was trained on copy, not on other"):
        reasoning.load(path, other)
    other = Copy()
    other.vocabulary = 5
    with pytest.raises(ValueError, match=r"1-best.pt: the model has vocabulary = 4, but copy has 5"):
        reasoning.load(path, other)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"1-best.pt holds no weights of this version"):
        reasoning.load(path, Copy())
    with pytest.raises(ValueError, match=r"1-last.pt holds no weights"):
        reasoning.load(reasoning.weights_file(tmp_path, 1, "last"), Copy())


# -- a puzzle of one's own ---------------------------------------------------------------------------------------------

FOUR = "1.3. ..1. .1.3 ...."


@pytest.fixture(scope="module")
def sudoku_weights(tmp_path_factory):
    path, task = tmp_path_factory.mktemp("weights") / "0-best.pt", sudoku.sudoku.Sudoku(4, None, None, None)
    o = reasoning.small(sudoku.Sudoku())
    reasoning.keep(o, reasoning.build(o, task, 0), path, task)
    return str(path)


def test_solving_from_the_command_line(sudoku_weights, tmp_path, monkeypatch):
    """Every segment is shown, as the library answers; nothing is trained or written."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "puzzle.txt").write_text(FOUR.replace(" ", "\n") + "\n")
    text, file = (
        launch("sudoku", "--solve", given, "--weights", sudoku_weights, "--segments", "4")
        for given in (FOUR, "puzzle.txt")
    )
    assert text == file
    assert [p.name for p in tmp_path.iterdir()] == ["puzzle.txt"]
    answer = hrm.load(sudoku_weights).solve(FOUR, 4)
    assert text.startswith("puzzle\n1 . | 3 .\n. . | 1 .\n----+----\n. 1 | . 3\n. . | . .\n\nafter 1 segment: ")
    for number, grid in enumerate(answer.steps, 1):
        part = text.partition(f"after {number} segment")[2].partition("\n\n")[0]
        before = answer.steps[number - 2] if number > 1 else answer.puzzle
        changed = (grid != before).sum()
        assert (f"{changed} cell" if changed else "nothing changed") in part
        assert (answer.notation.write(grid) in part) == bool(changed)
    assert text.endswith(f"\n\n{answer.summary()}\n")
    assert "\033" not in text


def test_changes_are_bold_in_a_terminal(sudoku_weights, capsys, monkeypatch):
    answer = hrm.load(sudoku_weights).solve(FOUR, 2)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    reasoning.show(answer)
    first = capsys.readouterr().out.partition("after 1 segment")[2].partition("\n\n")[0]
    assert first.count("\033[1m") == (answer.steps[0] != answer.puzzle).sum() > 0


@pytest.mark.parametrize(
    ("study", "flags", "message"),
    [
        ("sudoku", ["--solve", FOUR], "--solve needs trained weights: give --weights"),
        ("sudoku", ["--weights", "@"], "--weights is for --solve: give a puzzle, too"),
        ("sudoku", ["--solve", FOUR, "--weights", "@", "--size", "4", "--model.d=3"], "drop --size, --model.d"),
        ("sudoku", ["--solve", "", "--weights", "@"], "the puzzle has 0 cells"),
        ("sudoku", ["--solve", "a.txt", "--weights", "@"], r"'a' in row 1, .* \(and there is no file a.txt\)"),
        ("sudoku", ["--solve", FOUR, "--weights", "no.pt"], "no.pt holds no weights of this version: No such file"),
        ("sudoku", ["--solve", FOUR, "--weights", "@", "--segments", "-1"], "segments must be ≥ 0, got -1"),
        ("maze", ["--solve", "#S..", "--weights", "@"], "was trained on sudoku 4x4: use bench.sudoku in"),
        ("sudoku", ["--resume", "runs", "--solve", FOUR], "drop --resume"),
    ],
)
def test_what_cannot_be_solved(study, flags, message, sudoku_weights):
    """Prevents: options without effect, and a training that begins where an answer was asked for."""
    with pytest.raises(SystemExit, match=message) as caught:
        launch(study, *(sudoku_weights if f == "@" else f for f in flags))
    assert str(caught.value).startswith("error: ")
    assert "\n" not in str(caught.value)


def test_a_maze_on_the_command_line(tmp_path):
    """Its characters get through the parser of options: '#' begins a comment in YAML."""
    task = maze.maze.Maze(4, "open", None, None, None)
    o = maze.tiny(maze.Maze())
    reasoning.keep(o, reasoning.build(o, task, 0), tmp_path / "maze.pt", task)
    text = launch("maze", "--solve", "# SG............", "--weights", str(tmp_path / "maze.pt"))
    assert text.startswith("puzzle\n#.SG\n....\n....\n....\n\nafter 1 segment: ")
    assert "the path leads to the goal: " in text


def test_a_run_with_other_weights(sudoku_weights, tmp_path):
    """Prevents: weights of another version that are found after the analysis has made its folder, and run for hours."""
    files = tmp_path / "run" / "weights"
    files.mkdir(parents=True)
    for when in ("init", "half", "last"):
        shutil.copy(sudoku_weights, files / f"0-{when}.pt")
    saved = torch.load(files / "0-half.pt", weights_only=True)
    torch.save({**saved, "task": "sudoku 4x4"}, files / "0-half.pt")
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(plain(sudoku.Sudoku())))
    (tmp_path / "run" / "env.json").write_text(json.dumps({"options": plain(sudoku.Sudoku())}))
    (tmp_path / "run" / "result.json").write_text('{"name": "sudoku"}')
    for study in ("gradients", "hrm_dynamics"):
        with pytest.raises(SystemExit, match=r"0-half.pt holds no weights of this version: task: a str, not a dict"):
            launch(study, "--run", str(tmp_path / "run"), "--runs", str(tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


def test_a_run_folder_knows_nothing_of_solving():
    """Prevents: options of one call in config.yaml, on which a resumed run would be refused."""
    assert not {"solve", "weights", "resume"} & plain(sudoku.Sudoku()).keys()


def toys(tmp_path):
    """Folders of four training and four evaluation tasks."""
    return [arc.toy(tmp_path / name, 4, seed) for seed, name in enumerate(("training", "evaluation"))]


def test_a_right_model_solves_arc(tmp_path, monkeypatch):
    """Prevents: votes, shares or a submission of other rows than those answered; the last batch lost; the answers of
    all segments held until the vote. What answers here knows the solutions."""
    o = reasoning.small(arc.Arc(), augmentations=300, held_out=1, canvas=5)
    made = arc.task(o, *toys(tmp_path))

    def perfect(model, grids, segments, halting=None, batch=512, bf16=False):
        for i in range(0, len(grids), 7):
            part = grids[i : i + 7]
            symbols = np.zeros((50, *part.x.shape), dtype=np.uint8)
            symbols[-1] = np.maximum(part.y, 0)
            rows = np.zeros(symbols.shape[:2], dtype=int)
            yield part, train.Answers(symbols, rows, np.full(len(part), 50), symbols[None], np.stack([rows, rows]))

    monkeypatch.setattr(arc, "answers", perfect)
    tracemalloc.start()
    found = arc.votes(o, made, None, tmp_path / "submissions" / "0-last.json")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.3 * 50 * len(made.asked) * made.length  # bytes: far from all segments
    assert found["votes"] == {"1 try": 1.0, "2 tries": 1.0}
    assert found["inputs"] == len(found["answers"]["asked"]) == 4
    submission = json.loads((tmp_path / "submissions" / "0-last.json").read_text())
    for name, (answer,) in submission.items():
        (pair,) = json.loads((tmp_path / "evaluation" / f"{name}.json").read_text())["test"]
        assert answer == {"attempt_1": pair["output"], "attempt_2": pair["output"]}
    assert len(submission) == 4
    for ask in found["answers"]["asked"]:
        content = json.loads((tmp_path / "evaluation" / f"{ask['task']}.json").read_text())
        shown = [[pair["input"], pair["output"]] for pair in content["train"]]
        assert in_digits(shown) == found["answers"]["demonstrations"][ask["task"]]
        assert in_digits(content["test"][ask["pair"]]["input"]) == ask["input"]
        assert ask["tries"] == [ask["solution"]] == in_digits([content["test"][ask["pair"]]["output"]])
    (title, text), *_ = arc.report({"seeds": [{"test": {"last": found}}]}).items()
    assert title == "tasks.html"
    assert json.dumps(found["answers"]) in text


def in_digits(grid):
    """Its rows as texts, of lists of grids, too."""
    return "".join(map(str, grid)) if isinstance(grid[0], int) else [in_digits(part) for part in grid]


def test_arc_without_solutions(tmp_path):
    """Prevents: a run that ends in an error, or in shares of nothing, where a competition keeps the solutions."""
    folders = toys(tmp_path)
    for file in folders[1].glob("*.json"):
        content = json.loads(file.read_text())
        content["test"] = [{"input": pair["input"]} for pair in content["test"]]
        file.write_text(json.dumps(content))
    flags = ["--training_folder", str(folders[0]), "--evaluation_folder", str(folders[1]), "--threads", "1"]
    _, result, printed = finished(tmp_path / "runs", launch("arc", *flags, *smoke_flags("arc", tmp_path / "runs")))
    assert "validation %" in printed
    assert "test" not in printed.split("results:")[0]
    assert result["puzzles"]["test"] == 0
    (folder,) = (tmp_path / "runs" / "arc").iterdir()
    names = {f"{seed}-{when}.json" for seed in (0, 1) for when in ("best", "last")}
    assert {f.name for f in (folder / "submissions").iterdir()} == names
    for name in names:
        submission = json.loads((folder / "submissions" / name).read_text())
        assert submission.keys() == {f.stem for f in folders[1].glob("*.json")}
        assert all(attempt.keys() == {"attempt_1", "attempt_2"} for (attempt,) in submission.values())


def test_evaluation_by_batches(model):
    """Prevents: rows lost, or scored beside the wrong puzzle, where a batch ends."""

    class ByCell(Copy):
        def scores(self, grids, answers):
            return super().scores(grids, answers) | {"first": answers[:, 0] == grids.y[:, 0]}

    task = ByCell()
    with torch.no_grad():
        model.output_head.weight.normal_(generator=torch.Generator().manual_seed(3))
    halting = act.Halting(3)
    whole = train.evaluate(model, task, task.train, halting, 3)
    parts = train.evaluate(model, task, task.train, halting, 3, batch=4)
    assert parts["curve"] == whole["curve"]
    assert np.array_equal(parts["rows"]["first"], whole["rows"]["first"])
    assert 0 < whole["rows"]["first"].mean() < 1
    assert parts["used"] == whole["used"] == 3
    found = train.answer(model, task.train, 3, batch=4)
    assert found.symbols.shape == (3, 10, 4)
    assert found.symbols.dtype == np.uint8
    assert np.array_equal(whole["rows"]["first"], found.symbols[:, :, 0] == task.train.y[:, 0])


def test_tensorboard(tmp_path, monkeypatch):
    """The optional log holds what metrics.jsonl does; without the package that is said first."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    rows = [{"seed": 1, "step": 10 * n, "loss": 1.0 / n, "validation": {"exact": 0.1 * n}} for n in (1, 2)]
    for row in rows:
        reasoning.to_tensorboard(tmp_path, row)
    found = EventAccumulator(str(tmp_path / "tensorboard" / "seed1")).Reload()
    assert [(e.step, e.value) for e in found.Scalars("loss")] == [(10, 1.0), (20, 0.5)]
    assert [e.value for e in found.Scalars("validation_exact")] == pytest.approx([0.1, 0.2])
    monkeypatch.setattr(reasoning.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="tensorboard is not installed"):
        reasoning.check_options(reasoning.Reasoning(tensorboard=True))


@pytest.mark.slow
def test_two_processes_are_one(smoke, tmp_path):
    """`torchrun` with two processes: the losses of one process at the same batch, and one run folder."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]
    flags = ["bench.sudoku", *smoke_flags("sudoku", tmp_path / "two")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *flags], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    two = finished(tmp_path / "two", done.stdout)
    one = smoke("sudoku")
    for a, b in zip(one.result["seeds"], two.result["seeds"]):
        np.testing.assert_allclose([r["loss"] for r in a["curve"]], [r["loss"] for r in b["curve"]], rtol=1e-5)
        assert a["test"]["last"]["curve"].keys() == b["test"]["last"]["curve"].keys()
    assert len(list((tmp_path / "two" / "sudoku").iterdir())) == 1


# -- what is measured of a model at work -------------------------------------------------------------------------------


@pytest.mark.slow
def test_gradients_of_a_shared_network(tmp_path):
    """It has no parameters of H, whose gradient would have to be compared."""
    launch("sudoku", *smoke_flags("sudoku", tmp_path), "--model.shared", "true", "--seeds", "1")
    run = str(run_folder(tmp_path))
    runs = tmp_path / "gradients"
    few = ("--strategies", "[one_step]", "--cycles", "[[1, 1]]")
    result = finished(runs, launch("gradients", "--run", run, *few, *smoke_flags("gradients", runs))).result
    for row in result["checkpoints"]["last"]:
        assert set(row["agreement"]["one_step"]["bptt"]) == {"embedding", "L"}


def test_participation_ratio():
    """As many dimensions as are filled evenly: all of a sphere's, one of a line's."""
    rng = torch.Generator().manual_seed(0)
    sphere = torch.randn(20000, 10, generator=rng)
    assert hrm_dynamics.participation_ratio(sphere) == pytest.approx(10, rel=0.02)
    assert hrm_dynamics.participation_ratio(sphere[:, :1] * torch.arange(1.0, 6)) == pytest.approx(1)
    scaled = sphere * torch.tensor([3.0, 1.0] + [0.0] * 8)
    values = np.linalg.eigvalsh(np.cov(scaled.numpy().T))
    assert hrm_dynamics.participation_ratio(scaled) == pytest.approx(values.sum() ** 2 / (values**2).sum())


def test_principal_components():
    """A trajectory within a plane keeps its distances."""
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(2, 12))
    points = rng.normal(size=(7, 2))
    found = np.array(hrm_dynamics.principal(torch.from_numpy((points @ plane).reshape(7, 3, 4))))
    expected = points @ plane

    def distances(p):
        return np.linalg.norm(p[:, None] - p[None], axis=-1)

    np.testing.assert_allclose(distances(found), distances(expected), atol=1e-9)


def test_trajectory_is_that_of_evaluation(model):
    """Prevents: residuals of another loop than the one that answers: the last z_H is what the heads read there."""
    task = Copy()
    L, H, updates = hrm_dynamics.trajectory(model, task, task.test, 3, "cpu")
    assert updates == [3, 6, 9, 12, 15, 18]
    assert L.shape == H.shape == (19, 10, 4, 16)
    *_, (out, *_) = act.solve(model, torch.from_numpy(task.test.x), None, 3)
    torch.testing.assert_close(model.output_head(H[-1]), out.logits)
    moved = np.array(hrm_dynamics.residuals(H))
    assert (moved[[u - 1 for u in updates]] > 0).all()
    assert (np.delete(moved, [u - 1 for u in updates]) == 0).all()  # between its updates H stands still
    by_hand = np.mean([np.sqrt(np.mean((L[1, p] - L[0, p]).numpy() ** 2)) for p in range(10)])
    assert hrm_dynamics.residuals(L)[0] == pytest.approx(by_hand, rel=1e-5)


def test_revival():
    assert hrm_dynamics.revival([4, 1, 2, 0.5, 1, 9], [2, 4, 6]) == pytest.approx(2)


def test_recurrent_control():
    """z ← blocks(z + x̃) at every step, by hand; what flows from block to block ends in what the heads read."""
    model = controls.recurrent(TINY, layers=2, steps=3)
    task = Copy()
    x = torch.from_numpy(task.test.x)
    z, embedded = model.H.z0.expand(10, 4, 16), model.embed(x)
    for _ in range(3):
        z = model.L.own.blocks(z + embedded)
    (out, *_), *_ = act.solve(model, x, None, 1)
    torch.testing.assert_close(out.logits, model.output_head(z))
    flow = hrm_dynamics.through_blocks(controls.recurrent(TINY, 3, 1), task, task.test, "cpu")
    assert flow.shape == (4, 10, 4, 16)
    deep = controls.recurrent(TINY, layers=5, steps=1)
    few = dataclasses.replace(TINY, heads=4)  # fewer widths to try
    width = controls.width_for(deep.n_parameters(), 2, few)
    assert controls.recurrent(controls.narrowed(few, width), 2, 1).n_parameters() == pytest.approx(
        deep.n_parameters(), rel=0.25
    )


def test_page_is_whole(model):
    """Prevents: a page that lacks a step or a symbol, or that needs a network."""
    task = Copy()
    steps = [{"answer": task.test.x[:1].tolist(), "confidence": [[0.5] * 4], "H": False}] * 6
    thoughts = {"x": task.test.x[:1].tolist(), "y": task.test.y[:1].tolist(), "difficulty": [1.0], "steps": steps}
    grid = {"height": 2, "width": 2, "symbols": list(task.symbols), "blank": task.blank}
    result = {"thoughts": thoughts, "options": {"segments": 2}, "task": task.name, "grid": grid}
    text = hrm_dynamics.page(result)
    assert '"perSegment": 3' in text
    assert "copy, step by step" in text
    assert "http" not in text
    assert "@@" not in text
    named = hrm_dynamics.page({**result, "task": "a<b> SIZE @@DATA@@"})
    assert "<title>a&lt;b&gt; SIZE @@DATA@@, step by step</title>" in named


def test_larger_mazes():
    """Convolutions answer larger mazes with the same weights; and mazes of their own size as they did before."""
    o = maze.tiny(maze.Maze())
    model = reasoning.build(o, maze.task(o), 0)
    same, again = maze.larger(o, model, 1, 5)
    other, grown = maze.larger(o, model, 2, 5)
    assert (same.width, other.width, other.height) == (6, 12, 12)
    assert other.test.x.shape == (5, 144)
    assert grown.n_parameters() == model.n_parameters()
    before, after = (train.answer(m, same.test, 3).symbols for m in (model, again))
    assert np.array_equal(before, after)
    assert train.answer(grown, other.test, 3).symbols.shape == (3, 5, 144)


CURRICULUM = (
    "--size 6 --least 3 --puzzles [16,8,8] --curriculum [[4,4],[5,2]] --seeds 2 --training.steps 4 --evaluate 2 "
    "--training.batch 4 --training.average 0.5 --training.halting.halt_max_steps 2 --model.d 8 --model.H_layers 1 "
    "--model.L_layers 1 --model.multiple 8 --compile false --smoke false --threads 1 --by_faults true --views 2"
)


@pytest.fixture(scope="module")
def learned_in_stages(tmp_path_factory):
    """The result of a run that nothing stopped."""
    runs = tmp_path_factory.mktemp("stages")
    return finished(runs, launch("maze", *CURRICULUM.split(), "--runs", str(runs))).result


def test_answers_by_faults_in_the_results(learned_in_stages):
    """Beside them the last ones as they stand; in the figure, too."""
    table = reasoning.tables(learned_in_stages)[1].rows
    assert table[0][:3] == ("weights", "tries", "measure")
    for when, tries, measure, *shares in table[1:]:
        assert tries == "2"
        tests = [seed["test"][when] for seed in learned_in_stages["seeds"]]
        for place, name in ((0, "alone"), (1, "curve")):
            assert shares[place] == reasoning.percent([t[name][measure][-1] for t in tests])
    _, right = reasoning.draw(learned_in_stages).axes
    assert "all, as they stand" in right.get_legend_handles_labels()[1]


def test_curriculum(learned_in_stages, tmp_path):
    """Smaller mazes first, then the others with the weights learned there."""
    for of_seed in learned_in_stages["seeds"]:
        assert [len(b["curve"]) for b in of_seed["before"]] == [2, 1]
        assert [b["task"] for b in of_seed["before"]] == ["open maze 4x4", "open maze 5x5"]
        assert [row["step"] for row in of_seed["curve"]] == [2, 4]
        seconds = [row["seconds"] for b in (*of_seed["before"], of_seed) for row in b["curve"]]
        assert seconds == sorted(seconds)
    plain = CURRICULUM.replace("[[4,4],[5,2]]", "[]").replace("--seeds 2", "--seeds 1")
    alone = finished(tmp_path, launch("maze", *plain.split(), "--runs", str(tmp_path))).result["seeds"][0]
    after = learned_in_stages["seeds"][0]["curve"]
    assert after[0]["loss"] < alone["curve"][0]["loss"]  # it begins with weights that know something


@pytest.mark.parametrize("kept", [2, 4, 7])  # at the end of the first stage, in the third, in the next seed's second
def test_a_curriculum_is_gone_on_with(kept, learned_in_stages, tmp_path, monkeypatch):
    """Prevents: a stage that is learned twice, or not at all, after an interruption."""
    checkpoint, calls = Run.checkpoint, []

    def stopped(self, state):
        checkpoint(self, state)
        calls.append(state)
        if len(calls) == kept:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Run, "checkpoint", stopped)
        with pytest.raises(SystemExit):
            launch("maze", *CURRICULUM.split(), "--runs", str(tmp_path / "stopped"))
    (folder,) = (tmp_path / "stopped" / "maze").iterdir()
    launch("maze", "--resume", str(folder))
    again = json.loads((folder / "result.json").read_text())
    assert comparable(again["seeds"]) == comparable(learned_in_stages["seeds"])


@pytest.mark.slow
def test_dynamics_of_a_maze_run(smoke, tmp_path):
    """The analyses take any run with weights; of mazes they count larger ones, too."""
    run = str(smoke("maze").folder)
    result = finished(tmp_path, launch("hrm_dynamics", "--run", run, *smoke_flags("hrm_dynamics", tmp_path))).result
    assert result["measure"] == "optimal"
    labels = [b["label"] for b in result["more_segments"]["by_difficulty"]]
    assert [label.partition(",")[0] for label in labels[-2:]] == ["larger: 12 × 12", "larger: 18 × 18"]


def test_smoke_sizes():
    o = reasoning.small(sudoku.Sudoku(), puzzles=(1, 1, 1))
    assert (o.seeds, o.training.steps, o.compile) == (2, 6, False)
    assert dataclasses.asdict(o.model)["d"] == 16


@pytest.mark.slow
def test_seeds_divided_among_workers(tmp_path, monkeypatch):
    """They are those of one process, and all their weights lie in the run folder. Prevents: shares that are joined in
    another order, and models that `--run` cannot find."""

    begin = subprocess.Popen

    def here(command, **options):
        """In place of a process that would import everything."""
        if "bench.sudoku" not in command:
            return begin(command, **options)
        launch("sudoku", *command[3:])
        return SimpleNamespace(wait=lambda: 0)

    monkeypatch.setattr(divided.subprocess, "Popen", here)
    monkeypatch.setattr(plt.Figure, "savefig", hardly_drawn)
    flags = ("--smoke", "true", "--first_seed", "3")
    one, two = (
        finished(tmp_path / n, launch("sudoku", *flags, "--workers", n, "--runs", str(tmp_path / n))) for n in "12"
    )
    assert [seed["seed"] for seed in two.result["seeds"]] == [3, 4]
    assert comparable(two.result["seeds"]) == comparable(one.result["seeds"])
    names = [sorted(f.name for f in (run.folder / "weights").iterdir()) for run in (one, two)]
    assert names[0] == names[1]
    assert len(names[0]) == 8
    with pytest.raises(SystemExit, match="workers must lie between 1 and the 2 seeds, got 3"):
        launch("sudoku", *flags, "--workers", "3", "--runs", str(tmp_path))
