"""Sweeps of the toy: grids that are refused, runs that are those of the benchmark itself, what fails or is lost, kills
and interruptions, a cluster one of whose machines dies."""

import contextlib
import io
import json
import multiprocessing
import os
import re
import shlex
import signal
import statistics
import time
from pathlib import Path

import fragile
import pytest
import toy
from studies import finished, heed_interrupts
from toy import Picks

from bench import registry, report, sweep
from bench.kit import jobs
from bench.kit.benchmark import begin, complete, main
from bench.kit.folder import read_json
from bench.sweep import Sweep

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "bench" / "results"


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(registry.MODULES, "toy", "toy")
    monkeypatch.setitem(registry.MODULES, "fragile", "fragile")


def swept(*arguments, runs):
    """The sweep that a command line asks for; its run folder, result, and what it prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        main(sweep.benchmark, [*arguments, "--runs", str(runs)])
    return finished(runs / "sweep", printed.getvalue())


def expected(**options):
    """The score of each seed, from the toy's own function."""
    o = Picks(**options)
    return [statistics.mean(seed) for seed in zip(*(toy.right(noise, o) for noise in o.noise))]


# -- grids -------------------------------------------------------------------------------------------------------------

REFUSED = {
    "trails=[1,2]": "toy has no option trails: did you mean trials?",
    "trials.x=[1]": "toy has no option trials.x: ",
    "trials=[1,many]": "toy cannot take trials = many: .*many",
    "trials=[5,0]": "trials = 0, seeds = 1: trials must be at least 1, got 0",
    "trials=5": r"trials = 5 is no list of values: write trials=\[…\]",
    "trials=[]": "trials = .* is no list of values",
    "trials=[5,6,5]": "trials has the value 5 twice",
    "noise=[[1],[1.0]]": r"noise has the value \[1.0\] twice",
    "trials=[1,": "--grid trials=.* cannot be read",
    "threads=[1,2]": "threads cannot be swept",
    "grid.yaml": "--grid takes option=.values. or a YAML file of such lines, and grid.yaml is neither",
}


@pytest.mark.parametrize(("grid", "message"), REFUSED.items(), ids=REFUSED)
def test_grids_that_are_refused(grid, message, tmp_path):
    """In one line that names the value, before there is a run folder."""
    with pytest.raises(SystemExit) as end:
        main(sweep.benchmark, ["toy", "--grid", grid, "--grid", "seeds=[1]", "--runs", str(tmp_path)])
    assert re.match(f"error: ({message})", str(end.value))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--grid trials=[1]", "say what to sweep: python -m bench.sweep <benchmark>"),
        ("sweep --grid trials=[1]", "say what to sweep"),
        ("toys --grid trials=[1]", "there is no benchmark 'toys'"),
        ("toy", "there is nothing to sweep: give --grid"),
        ("toy --grid trials=[1] --grid trials=[2]", "trials is in the grid twice"),
        ("toy --grid trials=[1] --threads 0", "threads must be at least 1, got 0"),
        ("toy --grid trials=[1] --gpus 1", "address and gpus are of Ray"),
        ("toy --grid trials=[1] --processes -1", "processes and gpus must be"),
        ("toy --grid trials=[1] --on ray --processes 2", "ray is not installed|processes is of this machine"),
        ("sudoku --grid seeds=[1] --solve 1...", "--solve asks for something else than a run"),
        ("sudoku --grid seeds=[1] --on ray --gpus 1", "ray is not installed|a device that is no CPU and gpus"),
        ("--resume x --grid trials=[1]", "--resume goes on with the run's own options: drop --runs=.*, --grid="),
    ],
)
def test_calls_that_are_refused(arguments, message, tmp_path):
    with pytest.raises(SystemExit) as end:
        main(sweep.benchmark, [*arguments.split(), "--runs", str(tmp_path)])
    assert re.match(f"error: ({message})", str(end.value))
    assert not list(tmp_path.iterdir())


def test_the_benchmark_s_own_flags_are_its_own(capsys):
    with pytest.raises(SystemExit):
        main(sweep.benchmark, ["toy", "--grid", "seeds=[1]", "--trails", "3"])
    tip, error = capsys.readouterr().err.splitlines()
    assert tip.endswith("python -m bench.toy --help")
    assert "--trails" in error


def test_grids_are_read_as_the_benchmark_reads_its_flags(tmp_path):
    """Prevents: 1e-4, which is a word in YAML; a file that means something else than flags; options that get lost."""
    file = tmp_path / "grid.yaml"
    file.write_text("training.lr: [1e-4, 3e-4]\ntraining.centred: [null, 20]\n")
    flags = ["--grid", "training.lr=[1e-4,3e-4]", "--grid", "training.centred=[null,20]"]
    both = []
    for given in (flags, ["--grid", str(file)]):
        typed = sweep.flags(["mnist1d", *given, "--seeds", "5", "--on=local", "--config", "gle_15k_tuned"])
        o = sweep.read(Sweep, typed)
        both.append(sweep.settled(o))
    assert both[0] == both[1] == sweep.settled(both[0])
    o = both[0]
    assert o.grid == {"training.lr": [1e-4, 3e-4], "training.centred": [None, 20.0]}
    assert (o.options["seeds"], o.options["consolidation"]["epochs"]) == (5, 30)
    each = [sweep.Reader(o)(values) for values in sweep.combinations(o)]
    assert [(e.training.lr, e.training.centred) for e in each] == [
        (1e-4, None),
        (1e-4, 20.0),
        (3e-4, None),
        (3e-4, 20.0),
    ]
    assert {(e.seeds, e.threads, e.name) for e in each} == {(5, 1, "gle_15k_tuned")}
    assert [len(v) for v in sweep.tiny(sweep.Sweep(grid={"a": [1, 2, 3], "b": [1]})).grid.values()] == [2, 1]


# -- tables ------------------------------------------------------------------------------------------------------------


def made(scores, larger=False):
    """A result of two options, by hand; None: that combination failed."""
    grid = {"a": [1, 2], "b": ["x", "y"]}
    every = [{"a": a, "b": b} for a in grid["a"] for b in grid["b"]]
    found = [
        {"values": v, "folder": f"combinations/{i}", **({"error": "no"} if s is None else {"score": s, "curve": None})}
        for i, (v, s) in enumerate(zip(every, scores))
    ]
    score = {"name": "loss", "larger": larger}
    return {"options": {"grid": grid}, "swept": "toy", "score": score, "combinations": found}


def test_ranks_and_marginal_effects():
    """Prevents: the worst of losses in the first row; means over combinations that failed, or of another option."""
    result = made([[3.0, 5.0], [1.0, 1.5], None, [0.5, 0.5]])
    best, effects, failed = sweep.tables(result)
    assert [r[:2] for r in best.rows[1:]] == [("2", "y"), ("1", "y"), ("1", "x")]
    assert [r[2:4] for r in best.rows[1:]] == [("0.5 ± 0", "2"), ("1.25 ± 0.35", "2"), ("4 ± 1.4", "2")]
    assert [(*r[:3], r[4]) for r in effects.rows[1:]] == [
        ("a", "1", "2", "1.25"), ("a", "2", "1", "0.5"), ("b", "x", "1", "4"), ("b", "y", "2", "0.5")
    ]  # fmt: skip
    assert [r[3] for r in effects.rows[1:]] == ["2.625 ± 1.9", "0.5", "4", "0.875 ± 0.53"]
    assert failed.rows[1:] == [("2", "x", "no", "combinations/2/log.txt")]
    larger = sweep.tables(made([[3.0], [1.0], [float("nan")], [7.0]], larger=True))
    assert len(larger) == 2
    assert [r[2] for r in larger[0].rows[1:]] == ["7", "3", "1", "nan"]  # what diverged is the best of nothing
    assert [r[4] for r in larger[1].rows[1:]][:2] == ["3", "7"]


def test_what_nothing_ranks_is_listed():
    result = made([[1.0]] * 4) | {"score": None}
    (listed,) = sweep.tables(result)
    assert [r for r in listed.rows] == [("a", "b", "folder"), *(
        (a, b, f"combinations/{i}") for i, (a, b) in enumerate((a, b) for a in "12" for b in "xy")
    )]  # fmt: skip
    assert sweep.draw(result) == {}


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mnist1d", "mnist1d/gle_15k"),
        ("gsc", "gsc/gru"),
        ("sudoku", "sudoku/4x4"),
        ("maze", "maze/open"),
        ("teacher_student chain", "teacher_student/chain"),
        ("teacher_student small", "teacher_student/small"),
        ("mackey_glass", "mackey_glass/rk4"),
    ],
)
def test_scores_of_the_benchmarks(name, file):
    """A value for each seed, of the end of its curve."""
    score, result = registry.benchmark(name).score, json.loads((RESULTS / f"{file}.json").read_text())
    values, curve = score.of(result), score.curve(result)
    assert len(values) == len(curve.values[0]) > 1
    assert len(curve.x) == len(curve.values)
    assert list(values) == pytest.approx(curve.values[-1], abs=0.5)  # a readout may be chosen after the last epoch
    json.dumps([values, *curve])


# -- runs --------------------------------------------------------------------------------------------------------------


def test_what_fails_or_is_lost_takes_nothing_with_it(tmp_path):
    """One sweep with combinations that fail, and that are killed: the rest are the runs that the benchmark itself
    makes; --resume tries again what is missing, and computes nothing twice."""
    gate = tmp_path / "gate"
    run = swept(
        "fragile", "--grid", "mood=[well,ill,lost]", "--grid", "trials=[20,50]", "--seeds", "2", "--noise", "[0.5,5]",
        "--gate", str(gate), "--processes", "2", runs=tmp_path / "runs",
    )  # fmt: skip
    by = {(c["values"]["mood"], c["values"]["trials"]): c for c in run.result["combinations"]}
    assert len(by) == 6
    for trials in (20, 50):
        assert by["well", trials]["score"] == expected(trials=trials, seeds=2, noise=(0.5, 5.0))
        assert by["well", trials]["curve"]["x"] == [0.5, 5.0]
        assert by["ill", trials]["error"] == "RuntimeError: it was ill"
        assert by["lost", trials]["error"].startswith("its process was killed by signal 9 (SIGKILL)")
    assert "its process was killed by signal 9" in run.printed
    assert "Traceback" in (run.folder / by["ill", 20]["folder"] / "log.txt").read_text()
    assert (run.folder / "sweep.png").stat().st_size > 10_000
    assert len((run.folder / "metrics.jsonl").read_text().splitlines()) == 6

    own = finished(run.folder / by["well", 50]["folder"], "").result  # the run that its own command makes
    alone = complete(*(fragile.benchmark, *begin(fragile.benchmark, fragile.Fragile(
        noise=(0.5, 5.0), seeds=2, trials=50, gate=gate, runs=tmp_path / "alone"))))  # fmt: skip
    for result in (own, alone):
        result["options"].pop("runs")
    assert own == alone

    kept = {f: f.stat().st_mtime_ns for f in run.folder.glob("combinations/*/*/*/result.json")}
    assert len(kept) == 2
    gate.touch()
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        main(sweep.benchmark, ["--resume", str(run.folder), "--processes", "1"])
    again = read_json(run.folder / "result.json", "")
    assert [c.get("error") for c in again["combinations"]] == [
        None,
        None,
        *["RuntimeError: it was ill"] * 2,
        None,
        None,
    ]
    assert again["combinations"][5]["score"] == again["combinations"][1]["score"]
    assert {f: f.stat().st_mtime_ns for f in kept} == kept
    assert "RuntimeError: it was ill" in printed.getvalue()

    os.remove(run.folder / "sweep.png")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        report.main([str(run.folder / "result.json")])
    assert "| mood | trials | right / % | seeds | folder |" in printed.getvalue()
    assert (run.folder / "sweep.png").exists()


def test_a_machine_that_does_not_share_the_folder(tmp_path):
    """Its files come back with the result, and make the same folder."""
    job = jobs.Job("toy", Picks(trials=20), tmp_path / "not here" / "combinations" / "0")
    with jobs.on_this_machine(1) as submit:
        ended = submit(job).result()
    assert not job.folder.exists()
    jobs.received(job, ended)
    assert jobs.done(job.folder).exists()
    names = {p.name for p in jobs.begun(job.folder).iterdir()}
    assert names == {"config.yaml", "env.json", "parts", "result.json", "toy.png"}
    assert "results go to" in (job.folder / "log.txt").read_text()


def test_a_sweep_in_which_all_fail(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(sweep.benchmark, ["fragile", "--mood", "ill", "--grid", "trials=[20]", "--runs", str(tmp_path)])
    assert end.value.code == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("stopped (all 1 combinations failed, the first with: RuntimeError: it was ill); go on with")


def command(arguments, said):
    """In another process, as a shell would start it."""
    heed_interrupts()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    registry.MODULES["fragile"] = "fragile"
    with open(said, "w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        main(sweep.benchmark, arguments)


def until(what, seconds=300):  # of a machine that has much else to do
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "nothing came of it"
        time.sleep(0.02)
    return found


def alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z" if Path("/proc").exists() else True


def test_interrupted_then_killed_then_gone_on_with(tmp_path):
    """Ctrl-C, then a kill, each while one combination runs and others are done: none of its processes stays, a resumed
    sweep goes on where it was, and its result is that of a sweep that was left alone.

    Prevents: orphans that write where the resumed sweep writes; combinations that are computed twice, or not at all.
    """
    gate, said = tmp_path / "gate", tmp_path / "said"
    waiting = gate.with_suffix(".20")
    arguments = [
        "fragile", "--grid", "mood=[well,slow]", "--grid", "trials=[20,50]", "--seeds", "2", "--gate", str(gate),
        "--processes", "1", "--runs", str(tmp_path / "runs"),
    ]  # fmt: skip
    context = multiprocessing.get_context("forkserver")

    def stopped(arguments, how):
        waiting.unlink(missing_ok=True)
        process = context.Process(target=command, args=(arguments, said))
        process.start()
        worker = int(until(lambda: waiting.exists() and waiting.read_text()))
        os.kill(process.pid, how)
        process.join(300)
        until(lambda: not alive(worker), 60)
        return process.exitcode

    assert stopped(arguments, signal.SIGINT) == 130
    hint = shlex.split(said.read_text().splitlines()[-1].partition("go on with: ")[2])
    (folder,) = (tmp_path / "runs" / "sweep").iterdir()
    assert hint == ["python", "-m", "bench.sweep", "--resume", str(folder), "--processes", "1"]
    began = [f.read_text() for f in sorted(folder.glob("combinations/*/*/*/parts/began.json"))]
    assert len(began) == 3
    assert len(list(folder.glob("combinations/*/*/*/result.json"))) == 2
    assert stopped(hint[3:], signal.SIGKILL) == -signal.SIGKILL
    gate.touch()
    with contextlib.redirect_stdout(io.StringIO()):
        main(sweep.benchmark, hint[3:])
    assert [f.read_text() for f in sorted(folder.glob("combinations/*/*/*/parts/began.json"))][:3] == began
    result = read_json(folder / "result.json", "")
    assert [c["score"] for c in result["combinations"]] == [expected(trials=n, seeds=2) for n in (20, 50, 20, 50)]
    assert [json.loads(r)["combination"] for r in (folder / "metrics.jsonl").read_text().splitlines()] == [0, 1, 2, 3]


@pytest.mark.slow
def test_a_machine_that_dies(tmp_path, monkeypatch):
    """Two machines of a Ray cluster, one combination at a time on each; one machine is killed while both work. What it
    had is gone on with by the other: all results are there, and are those of single runs."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", str(HERE))  # where the toy lies
    gate = tmp_path / "gate"
    quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}
    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": quick}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        second = cluster.add_node(num_cpus=1)
        arguments = [
            "fragile", "--mood", "slow", "--grid", "trials=[20,30]", "--seeds", "2", "--gate", str(gate), "--on", "ray",
            "--address", cluster.address, "--runs", str(tmp_path / "runs"),
        ]  # fmt: skip
        said = tmp_path / "said"
        process = multiprocessing.get_context("forkserver").Process(target=command, args=(arguments, said))
        process.start()
        until(lambda: all(gate.with_suffix(f".{trials}").exists() for trials in (20, 30)))
        workers = [int(gate.with_suffix(f".{trials}").read_text()) for trials in (20, 30)]
        cluster.remove_node(second, allow_graceful=False)
        until(lambda: not all(map(alive, workers)), 60)
        gate.touch()
        process.join(300)
        assert process.exitcode == 0, said.read_text()
        later = [int(gate.with_suffix(f".{trials}").read_text()) for trials in (20, 30)]
        assert sum(a == b for a, b in zip(workers, later)) == 1  # the other was begun again
    finally:
        cluster.shutdown()
    result = finished(tmp_path / "runs" / "sweep", "").result
    assert [c["score"] for c in result["combinations"]] == [expected(trials=n, seeds=2) for n in (20, 30)]
