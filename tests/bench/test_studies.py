"""Every study: its smoke run from the command line, going on after an interruption, and bad input."""

import copy
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from studies import comparable, finished, hardly_drawn, heed_interrupts, launch, numbers, run_folder, smoke_flags

from bench import registry
from bench.kit import figures
from bench.kit.folder import Run
from bench.teacher_student import small

ROOT = Path(__file__).parents[2]
FIGURES = {  # of each benchmark but mnist1d and gsc, whose rows have tests of their own
    "frequency_response": {"operators", "ratios", "adaptation", "steps"},
    "receptive_fields": {"chains", "centres", "dense", "spatiotemporal"},
    "teacher_student chain": {"chain"},
    "teacher_student small": {"small"},
    "gradient_map": {"one_tone", "several_tones", "gradient_steps"},
    "recurrent": {"recurrent"},
    "credit": {"credit"},
    "error_timing": {"error_timing"},
    "speed": {"speed"},
    "device": {"device"},
    "mackey_glass": {"mackey_glass"},
    "sudoku": {"sudoku"},
    "maze": {"maze"},
    "arc": {"arc"},
    "gradients": {"gradients", "costs"},
    "hrm_dynamics": {"hrm_dynamics"},
    "depth_width": {"depth_width"},
    "hrm_speed": {"hrm_speed"},
    "compare": {"compare"},
}
TABLES = {  # parts of what is printed
    "frequency_response": ["largest phase difference of e and λ", "exponential"],
    "receptive_fields": ["Σ(τm − τr) + delay", "dense"],
    "teacher_student chain": ["students within 1 %", "bptt 4"],
    "teacher_student small": ["within 5 % from", "phase of e λ*: all"],
    "gradient_map": ["several tones, instantaneous, over ωτm", "exponential delayed"],
    "recurrent": ["errors         radius", "τr = 20 dt"],
    "mackey_glass": ["valid for (Lyapunov times)", "best epoch (chosen on the test half)"],
    "sudoku": ["test %, 6 segments", "best     exact"],
    "maze": ["last     optimal", "difficulty"],
    "arc": ["1 try, %", "2 tries, %"],
    "gradients": ["neumann 4", "MiB, N·T = 2"],
    "hrm_dynamics": ["participation ratio, 6 puzzles", "feed-forward"],
    "depth_width": ["validation exact %, half-way", "recurrent"],
    "hrm_speed": ["as published, ms", "rests below"],
    "compare": ["updates a second", "settled: cosine L / H", "MiB, N·T = 4"],
    "error_timing": ["cos(ΔWᵀe, r)", "late, sent e"],
    "speed": ["floor ms", "evaluate 1000"],
    "device": ["memory of a step, one-step gradient", "per seed"],
    "credit": ["cosines before", "carried ~ N (T = 4)", "bptt"],
}
TRAINING = {"checkpoint.pt", "metrics.jsonl"}
BESIDES = {  # what else lies in the run folder
    "mackey_glass": TRAINING,
    "sudoku": {*TRAINING, "weights"},
    "maze": {*TRAINING, "weights"},
    "arc": {*TRAINING, "weights", "submissions", "tasks.html"},
    "gradients": {"sudoku"},
    "hrm_dynamics": {"sudoku", "steps.html"},
    "hrm_speed": {"sudoku"},
}
slow = {"credit": pytest.mark.slow}
studies = pytest.mark.parametrize("study", [pytest.param(s, marks=slow.get(s, ())) for s in FIGURES])


def test_every_benchmark_is_here():
    assert {*FIGURES, "mnist1d", "gsc", "sweep"} == set(registry.MODULES)


# -- smoke runs --------------------------------------------------------------------------------------------------------


@studies
def test_smoke(study, smoke):
    """Prevents: figures without a result file, tables without figures, and NaN in either."""
    folder, result, printed = smoke(study)
    always = {"config.yaml", "env.json", "result.json", "parts"}
    figures = {f"{name}.png" for name in FIGURES[study]}
    assert {p.name for p in folder.iterdir()} == always | figures | BESIDES.get(study, set())
    for path in folder.glob("*.png"):
        assert path.stat().st_size > 10_000, path
    assert result["name"] == study.split()[-1]
    assert result["options"]["smoke"] is True
    assert all(math.isfinite(n) for n in numbers(result))
    for part in TABLES[study]:
        assert part in printed
    assert f"results: {folder}" in printed
    assert "nan" not in printed


def test_shapes_of_the_frequency_response(smoke):
    result = smoke("frequency_response").result
    assert set(result["operators"]) == {"I⁻", "D⁺", "I⁺", "D⁻", "D⁻, Algorithm 2", "r", "e", "λ", "λ, Algorithm 2"}
    for row in result["operators"].values():
        for what in ("sine", "chirp", "discrete", "continuous"):
            assert len(row[what]["gain"]) == len(row[what]["phase"]) == len(result["omega"]) == 5
    assert len(result["ratio"]) == 3
    assert {(r["integrator"], r["dt"]) for r in result["steps"]} == {("euler", 0.1), ("exponential", 0.1)}


def test_shapes_of_the_receptive_fields(smoke):
    result = smoke("receptive_fields").result
    assert [(r["features"], r["phi"]) for r in result["dense"]] == [(n, p) for n in (1, 2) for p in ("linear", "tanh")]
    assert np.shape(result["dense"][-1]["kernels"]) == (2, 2, 100)  # neurons, inputs, lags
    for row in result["chains"].values():
        assert np.shape(row["kernels"]) == (2, 2, 100)  # layers, chains, lags


def test_shapes_of_the_chain(smoke):
    """Two layers, two students, the losses before learning and after each of two periods."""
    result = smoke("teacher_student chain").result
    assert [r["row"] for r in result["rows"]] == ["gle", "instantaneous", "bptt 4"]
    for row in result["rows"]:
        assert row["time"] == [0, 4, 8]
        assert np.shape(row["w"]) == np.shape(row["tau_m"]) == (3, 2, 2)
        assert (np.array(row["loss"]) > 0).all()
        assert np.shape(row["loss"]) == (3, 2)
        for when in ("before", "after"):
            assert np.shape(row[when]["errors"]) == (2, 200)
        assert row["w"][0] == result["rows"][0]["w"][0]  # all rules start alike
        assert row["w"][-1] != row["w"][0]
    assert len({json.dumps(r["w"][-1]) for r in result["rows"]}) == 3  # and differ in the end


def test_phase_of_all_students_weighs_them_by_amplitude(smoke):
    """Prevents: a student without signal, whose phase is noise, counting as much as one with it; a shift hidden behind
    an absolute value of the mean."""
    result = copy.deepcopy(smoke("teacher_student small").result)
    spectrum = result["rules"]["gle"]["spectra"]["during"]
    for name, phases in (("e", [-0.1, 2.0]), ("lambda", [0.2, 0.0])):
        spectrum[name] |= {"phase": [[phases] * 3] * 2, "amplitude": [[[1.0, 1e-3]] * 3] * 2}
    header, *_, row = small.tables(result)[1].rows
    found = dict(zip(header, row))
    assert (found["phase of e λ*: all"], found["largest"]) == ("-0.300", "2.000")


def test_shapes_of_the_small_network(smoke):
    result = smoke("teacher_student small").result
    assert set(result["rules"]) == {"gle", "adjoint"}
    for row in result["rules"].values():
        assert np.shape(row["weights"]) == (len(row["time"]), 2, 2)
        assert row["weights"][-1] != row["weights"][0]
        assert row["loss"][-1] < row["loss"][0]
        assert set(row["spectra"]) == {"before", "during"}
        for found in row["spectra"].values():
            for name in ("e", "lambda"):
                assert np.shape(found[name]["phase"]) == np.shape(found[name]["amplitude"]) == (2, 3, 2)


def test_shapes_of_the_gradient_map(smoke):
    result = smoke("gradient_map").result
    cosines = [result["coupling"]["gle"]]
    assert set(result["maps"]) == {"one tone", "several tones"}
    assert all(set(by_depth) == {"1", "2"} for by_depth in result["maps"].values())
    for found in (f for by_depth in result["maps"].values() for f in by_depth.values()):
        assert set(found) == {"gle", "instantaneous", "rflo", "rflo, transposed"}
        for rule in found.values():
            assert np.shape(rule["all"]) == np.shape(rule["bottom"]) == (3, 2)  # ωτm and ratios, seeds
        cosines += found.values()
    assert len(result["step"]) == 5
    cosines += [rule for by_dt in result["step"].values() for rule in by_dt["0.1"].values()]
    for rule in cosines:
        assert (np.abs([*rule["all"], *rule["bottom"]]) <= 1 + 1e-9).all()
        assert (np.array(rule["norm"]) > 0).all()
    # τm = τr: instantaneous credit is right, but for the delays between layers
    assert min(result["maps"]["one tone"]["1"]["instantaneous"]["all"][1]) > 0.9


@pytest.mark.slow
def test_shapes_of_credit(smoke):
    result = smoke("credit").result
    rows = result["training"]
    assert [r["row"] for r in rows] == result["options"]["rows"]
    for row in rows:
        assert np.shape(row["accuracy"]) == (2, 2)  # before and after one epoch, seeds
        assert np.shape(row["test"]) == (2,)
        assert np.shape(row["alignment"]) == (2, 3, 2)  # epochs, layers, seeds
        assert 0 <= np.min(row["accuracy"]) <= np.max(row["accuracy"]) <= 100
        assert row["stretch"] == (1 if row["row"] == "gle 1" else 90)
    for exact in (r for r in rows if r["row"] == "bptt"):
        np.testing.assert_allclose(exact["alignment"], 1, atol=1e-5)
    growth = result["growth"]
    assert set(growth["N"]) == set(growth["T"])
    assert len(growth["N"]) == 7
    for found in (f for over in ("N", "T") for f in growth[over].values()):
        assert len(found["cost"]) == len(found["at"]) == 2
        assert all(c["ms"] > 0 and c["bytes"] > 0 for c in found["cost"])


# -- going on after an interruption ------------------------------------------------------------------------------------


@studies
def test_interrupted(study, tmp_path, monkeypatch, capsys):
    """Ctrl-C says in one line how to go on, and leaves no result behind."""

    def stopped(self, name, compute):
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "part", stopped)
    with pytest.raises(SystemExit) as stop:
        launch(study, *smoke_flags(study, tmp_path))
    assert stop.value.code == 130
    folder = run_folder(tmp_path)
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"stopped (interrupted); go on with: python -m bench.{study} --resume {folder}"
    assert not (folder / "result.json").exists()


@studies
def test_resumed_equals_uninterrupted(study, smoke, tmp_path, monkeypatch):
    """A run without its first and its last part, as an interruption leaves one: they are computed, and no others.

    Prevents: a part that depends on another having run before it, or on its random numbers; a stream that fails while
    tables are printed taking the figures with it, which are drawn first.
    """
    whole = smoke(study)
    names = [p.stem for p in sorted((whole.folder / "parts").iterdir(), key=lambda p: p.stat().st_mtime_ns)]
    folder = shutil.copytree(whole.folder, tmp_path / "run", ignore=shutil.ignore_patterns("*.png", "result.json"))
    missing = list(dict.fromkeys((names[0], names[-1])))
    for name in missing:
        (folder / "parts" / f"{name}.json").unlink()
    part, computed, save = Run.part, [], figures.save

    def before_tables(*drawn):
        assert not any(table in sys.stdout.getvalue() for table in TABLES[study])
        save(*drawn)

    monkeypatch.setattr(figures, "save", before_tables)
    monkeypatch.setattr(figures.plt.Figure, "savefig", hardly_drawn)

    def counted(self, name, compute):
        def count():
            computed.append(name.replace(" ", "_"))
            return compute()

        return part(self, name, count)

    monkeypatch.setattr(Run, "part", counted)
    again = finished(tmp_path, launch(study, "--resume", str(folder)))
    assert computed == missing
    assert comparable(again.result) == comparable(whole.result)
    assert {p.name for p in folder.iterdir()} == {p.name for p in whole.folder.iterdir()}


@pytest.mark.slow  # kills: tests/test_kills.py
def test_stopped_from_outside(smoke, tmp_path, monkeypatch):
    """The real signal, at any moment: one line and no traceback for Ctrl-C, and no more lost than a part."""
    study, begun, how = "gradient_map", "parts/*.json", signal.SIGINT
    command = [sys.executable, "-m", f"bench.{study}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(
        [*command, *smoke_flags(study, tmp_path)], cwd=ROOT, env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts,
    )  # fmt: skip
    deadline = time.time() + 60
    while time.time() < deadline and running.poll() is None and not list(tmp_path.rglob(begun)):
        time.sleep(0.01)
    running.send_signal(how)
    _, err = running.communicate(timeout=60)
    folder = run_folder(tmp_path)
    assert not (folder / "result.json").exists(), "it ended before it could be stopped"
    assert "Traceback" not in err
    if how == signal.SIGINT:
        assert running.returncode == 130
        assert err.splitlines()[-1].endswith(f"go on with: python -m bench.{study} --resume {folder}")
    monkeypatch.setattr(figures.plt.Figure, "savefig", hardly_drawn)
    again = finished(tmp_path, launch(study, "--resume", str(folder)))
    assert comparable(again.result) == comparable(smoke(study).result)


# -- bad input ---------------------------------------------------------------------------------------------------------

FEW = ["--puzzles", "[16, 8, 8]"]
BAD = {
    "sudoku": [
        (["--size", "5"], "5"),
        (["--blanks", "13"], "blanks must lie in 0 … 12, as fewer clues leave several solutions, got 13"),
        (["--train_csv", "none.csv", "--test_csv", "none.csv", "--size", "9"], "none.csv is no file"),
        (["--device", "warp"], "device 'warp' is none that can be used here"),
        (["--threads", "-1"], "threads must be ≥ 0, got -1"),
        (["--data_seed", "-1"], "data_seed must be ≥ 0, got -1"),
        (["--training.beta1", "1.5"], "beta1 must lie in [0, 1), got 1.5"),
        (["--training.gradient", "implicit 5"], "implicit takes no such arguments"),
        (["--training.gradient", ""], "unknown gradient ''"),
        (["--model.expansion", "0", *FEW], "expansion must be positive, got 0"),
        (["--seeds", "0"], "seeds must be at least 1, got 0"),
        (["--augmentation", "all", "--puzzles", "[4, 4, 4]"], "4 × 4 has only 2 classes of grids under 'all'"),
        (["--train_csv", "t.csv"], "give both of train_csv and test_csv, or none"),
        (["--train_csv", "t.csv", "--test_csv", "t.csv"], "use --size 9 with them, not 4"),
        (["--training.lr", "-1"], "lr must be ≥ 0, got -1"),
        (["--training.gradient", "two_step"], "unknown gradient 'two_step'"),
        (["--model.d", "30", *FEW], "d = 30 must divide into 4 heads"),
        (["--views", "2", "--by_faults", "true"], "views = 2, but puzzles of sudoku have 1: lower views"),
    ],
    "maze": [
        (["--views", "9"], "views = 9, but puzzles of maze have 8: lower views"),
        (["--views", "4"], "views = 4: among their answers faults decide: set by_faults, too"),
        (["--kind", "round"], "unknown kind of maze 'round'"),
        (["--walls", "1"], "walls is a probability below 1, got 1"),
        (["--least", "99", "--puzzles", "[2, 1, 1]"], "with 99 moves or more"),
        (["--least", "100"], "least must lie in 0 … 99 moves, got 100"),
    ],
    "arc": [
        ([], "training_folder must be a folder of ARC tasks (*.json), got None"),
        (["--by_faults", "true"], "by_faults: of answers to puzzles of arc no faults are known: leave it out"),
        (["--training_folder", "hrm", "--evaluation_folder", "hrm"], "hrm holds no ARC tasks (*.json)"),
    ],
    "hrm_dynamics": [
        (["--run", "."], " is no finished run of bench.sudoku or bench.maze"),
        (["--segments", "0"], "segments must be at least 1, got 0"),
        (["--seed", "1"], "seed = 1 is of a run's models: give --run"),
        (["--splits", "[0, 4, 4]"], "puzzles must be three numbers of at least 1, got"),
    ],
    "depth_width": [
        (["--depths", "[2, 5]"], "depths must rise, each a multiple of the first, got 5 after 2, of 2"),
        (["--depths", "[]"], "depths must be numbers of at least 1, got []"),
        (["--blanks", "40"], "blanks must lie in 0 … 28, as fewer clues leave several solutions, got 40"),
        (["--evaluate", "1500"], "evaluate must be at most half of training.steps = 2000, got 1500"),
        (["--training.gradient", "one_step"], "training.gradient must be bptt, which goes through all rounds"),
        (["--model.modules", "gle"], "model.modules must be 'blocks', as these networks know no other, got 'gle'"),
        (["--model.mixer", "foo"], "unknown mixer 'foo'"),
    ],
    "hrm_speed": [
        (["--sizes", "[huge]"], "sizes must be some of published, laptop, got 'huge'"),
        (["--modes", "[]"], "modes is empty: give at least one"),
        (["--turns", "0"], "turns must be at least 1, got 0"),
        (["--settled", "[0]"], "settled must be residuals > 0, got 0"),
        (["--sizes", "[laptop, laptop]"], "sizes names laptop twice"),
        (["--settled", "[]", "--run", "nowhere"], "settled is empty: give residuals, or leave out --run"),
        (["--run", "nowhere"], "nowhere is no finished run of bench.sudoku or bench.maze"),
    ],
    "gradients": [
        (["--run", "nowhere"], "nowhere is no finished run of bench.sudoku or bench.maze"),
        (["--strategies", "[three_step]"], "unknown gradient 'three_step'"),
        (["--cycles", "[[0, 1]]"], "cycles must be pairs of numbers of at least 1"),
    ],
    "mackey_glass": [
        (["--dt", "0"], "dt must be positive, got 0"),
        (["--dt", "0.3"], "dt must divide the Lyapunov time of 197, got 0.3"),
        (["--dts", "[0.1,0.2]"], "dts must be steps > 0, the largest first; got [0.1, 0.2]"),
        (["--dts", "[.nan]"], "dts must be steps > 0, the largest first; got [nan]"),
        (["--dts", "[0.8,0.3]"], "dts must divide the first of them, 0.8, got 0.3"),
        (["--delay", "1200"], "the sequence is too short"),
        (["--learned", "0.5"], "learned = 0.5 makes 38 coarse points: raise it, 52 are needed"),
        (["--free", "0.005"], "free = 0.005 makes 0 coarse points"),
        (["--populations", "[[3, 0.5, 0.5]]"], "a time constant of 0.5, below the step of 0.8 that is tried"),
        (["--file", "nowhere.npy"], "nowhere.npy is not a readable .npy file"),
    ],
    "frequency_response": [
        (["--dt", "0"], "dt must be a positive number, got 0"),
        (["--dt", "-0.1"], "dt must be a positive number, got -0.1"),
        (["--dts", "[0.05, 0]"], "dt must be a positive number, got 0"),
        (["--dt", "0.1", "--omega", "[0.1, 40]"], "40 is not below Nyquist's, π/dt = 31.4159 at dt = 0.1"),
        (["--dts", "[0.4]", "--tau_r", "0.5"], "10 is not below Nyquist's"),
        (["--dt", "0.2", "--omega", "[0.1, 10]"], "dt = 0.2 is above the time constant 0.1"),
        (["--ratio_points", "4"], "tau_r = 0, a ratio of 0, is smaller than dt"),
        (["--omega", "[0, 10]"], "frequencies must be positive, got 0"),
        (["--omega", "[10, 1]"], "omega must be the slowest, then the fastest frequency"),
        (["--tau_w", "0"], "tau_w must be positive, got 0"),
        (["--points", "0"], "points must be at least 1, got 0"),
        (["--integrators", "[leapfrog]"], "unknown integrator 'leapfrog'"),
        (["--integrators", "[]"], "integrators is empty"),
        (["--dts", "[]"], "dts is empty"),
    ],
    "receptive_fields": [
        (["--dt", "0"], "dt must be a positive number, got 0"),
        (["--dt", "0.2"], "tau_r = 0.1 in layer 0 is below dt = 0.2"),
        (["--window", "0.1"], "a window of 0.1 is shorter than two steps"),
        (["--layers", "0"], "layers must be at least 1, got 0"),
        (["--batch", "5"], "batch must be at least 10, got 5"),
        (["--noise", "0"], "noise must be positive, got 0"),
        (["--taus", "[]"], "must not be empty"),
        (["--phi", "[]"], "must not be empty"),
        (["--taus", "[[1.0, -0.1]]"], "tau_r must be positive, got -0.1"),
        (["--phi", "[step]"], "unknown activation 'step'"),
    ],
    "teacher_student chain": [
        (["--dt", "0"], "dt must divide the input's period of 4 time units, got 0"),
        (["--dt", "0.03"], "dt must divide the input's period"),
        (["--dt", "0.2"], "dt = 0.2 is above tau_r = 0.1 of the chain"),
        (["--rows", "[magic]"], "unknown row 'magic': choose gle, instantaneous, or bptt"),
        (["--rows", "[bptt]"], "unknown row 'bptt'"),
        (["--rows", "['bptt 5']"], "window of 'bptt 5' is longer than the input's period of 4"),
        (["--rows", "['bptt 0.015']"], "window of 'bptt 0.015' must be a multiple of dt = 0.01"),
        (["--duration", "1"], "duration must be at least one period of 4 time units, got 1"),
        (["--halving", "0"], "halving must be a positive number of time units, got 0"),
        (["--beta2", "1"], "betas must lie in [0, 1)"),
    ],
    "teacher_student small": [
        (["--dt", "0"], "dt must be positive"),
        (["--dt", "0.2"], "not above tau_r = 0.1 of the retrospective neurons, got 0.2"),
        (["--stretch", "10000"], "stretch = 10000 must lie between dt = 0.01 and the 7920 time units of learning"),
        (["--during", "10"], "during = 10 must lie within the time of learning, 80 to 8000"),
    ],
    "compare": [
        (["--rows", "[magic]"], "unknown row 'magic'; choose some of gle, gle, ε = 1"),
        (["--rows", "[]"], "each once; got []"),
        (["--cpu", "0"], "cpu must be positive, got 0"),
        (["--d", "20"], "d must be a multiple of 8, got 20"),
        (["--lengths", "[3]"], "lengths must be even numbers of steps, got 3"),
        (["--settled", "[0,2]"], "settled must be a number of segments and an even number of steps"),
        (["--steps", "-1"], "steps must be ≥ 0, got -1"),
        (["--puzzles", "[0,1,1]"], "puzzles must be three numbers of at least 1"),
        (["--seeds", "0"], "seeds must be at least 1, got 0"),
    ],
    "recurrent": [
        (["--radii", "[]"], "radii is empty: give at least one value"),
        (["--radii", "[-1]"], "radii must be positive, got -1"),
        (["--ratios", "[1]"], "ratios are τm/τr > 1"),
        (["--dt", "0.7"], "tau_r = 1/ratio = 0.5 is below dt = 0.7"),
        (["--omega_tau", "[40]"], "ω = 40 is not below Nyquist's frequency"),
        (["--points", "1"], "width, batch and seeds must be at least 1, points 2, steps 20"),
    ],
    "gradient_map": [
        (["--dt", "0"], "dt must be positive, got 0"),
        (["--dt", "0.03"], "the shortest tau_r, 0.02, is below dt = 0.03"),
        (["--dts", "[0.3]"], "tau_r = 1/ratio = 0.2 is below the largest of dts, 0.3"),
        (["--dts", "[3.2]", "--ratio", "1", "--dt", "0.01"], "below the largest of dts, 3.2"),
        (["--ratios", "[0.5]"], "ratios are τm/τr ≥ 1"),
        (["--omega_tau", "[]"], "omega_tau is empty: give at least one value"),
        (["--gammas", "[]"], "gammas is empty"),
        (["--depths", "[0]"], "depths, width, batch and seeds must be at least 1"),
        (["--duration", "0.1"], "duration = 0.1 holds no two steps of 0.2"),
    ],
    "speed": [
        (["--sizes", "[9k]"], "sizes must be some of 15k, 42k, speech, got '9k'"),
        (["--modes", "[]"], "modes is empty: give at least one"),
        (["--cores", "[0]"], "cores must be at least 1"),
    ],
    "device": [
        (["--sizes", "[9k]"], "unknown size '9k'; choose some of 15k, 42k"),
        (["--timing", "-1"], "timing must be ≥ 0 seconds, got -1"),
        (["--d", "20"], "d must be a multiple of the 8 heads, got 20"),
    ],
    "credit": [
        (["--rows", "[magic]"], "unknown row 'magic': choose of gle, bptt"),
        (["--rows", "[]"], "rows is empty: give at least one"),
        (["--lrs", "[]"], "lrs is empty: give at least one"),
        (["--sizes", "[]"], "sizes is empty"),
        (["--lrs", "[0.0]"], "learning rates must be positive, got 0"),
        (["--stretch", "5000"], "stretch = 5000 must lie between 1 and the"),
        (["--probes", "1001"], "probes = 1001 are more than the 1000 validation samples"),
        (["--epochs", "0"], "must be at least 1"),
    ],
}


@pytest.mark.parametrize(
    ("study", "flags", "message"),
    [pytest.param(s, *case, id=f"{s} {' '.join(case[0])}") for s, cases in BAD.items() for case in cases],
)
def test_bad_input(study, flags, message, tmp_path):
    """One line that names the value, and nothing is written."""
    with pytest.raises(SystemExit) as stop:
        launch(study, *flags, "--runs", str(tmp_path))
    assert str(stop.value).startswith("error: ")
    assert message in str(stop.value)
    assert "\n" not in str(stop.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("study", ["gradient_map", "credit"])
def test_a_device_that_is_not_there(study, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="PyTorch finds no CUDA device: use --device cpu"):
        launch(study, "--device", "cuda", "--runs", str(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seeds", "3"], "--resume goes on with the run's own options: drop --seeds"),
        (["--seeds=5"], "drop --seeds=5"),  # even at its default: the run may have another
        (["--config", "x.yaml"], "drop --config"),
    ],
)
def test_resume_with_other_flags(flags, message, smoke, tmp_path):
    if "--config" in flags:
        (tmp_path / "x.yaml").write_text("seeds: 3\n")
        flags = ["--config", str(tmp_path / "x.yaml")]
    with pytest.raises(SystemExit, match=message):
        launch("gradient_map", "--resume", str(smoke("gradient_map").folder), *flags)


def test_resume_elsewhere(smoke, tmp_path):
    """A folder that is no run, and one of another study or subcommand, which could look like one that goes on."""
    with pytest.raises(SystemExit, match=r"is no run folder: it has no config\.yaml"):
        launch("credit", "--resume", str(tmp_path))
    for study, other in (
        ("credit", "gradient_map"),
        ("frequency_response", "receptive_fields"),
        ("teacher_student small", "teacher_student chain"),
    ):
        folder = smoke(other).folder
        with pytest.raises(SystemExit, match=f"error: {folder} is a run of another benchmark"):
            launch(study, "--resume", str(folder))


@studies
def test_flags(study, capsys):
    """Prevents: flags that only the module's own main() understands, unknown ones that pass, and public methods of
    options, which would be taken for subcommands."""
    with pytest.raises(SystemExit) as stop:
        launch(study, "--help")
    assert stop.value.code == 0
    with pytest.raises(SystemExit) as stop:
        launch(study, "--step", "1")
    assert stop.value.code == 2
    assert "--step" in capsys.readouterr().err
