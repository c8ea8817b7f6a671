"""The MNIST-1D benchmark: configurations, counts, data, and what happens when it is killed."""

import errno
import itertools
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from studies import SMALL, SMALL_TUNED, launch

from bench import mnist1d
from bench.data import mnist1d as data_set
from bench.data.series import Form, Split
from bench.kit import divided
from bench.kit import folder as files
from bench.kit.benchmark import begin, complete
from bench.kit.options import read
from bench.learning import run as learning
from bench.learning.options import Training, stages
from bench.learning.schedule import Schedule
from bench.learning.streams import Streams, sample_order
from bench.learning.trainers import build_network
from bench.models import baselines

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs" / "mnist1d").glob("*.yaml"))
ONLINE, TUNED = (ROOT / "configs" / "mnist1d" / f"{name}.yaml" for name in ("gle_15k", "gle_15k_tuned"))
PARAMETERS = {"gle_15k": 14956, "gle_42k": 42040, "mlp": 47210, "tcn": 11960, "gru": 8974, "lagnet": 4930}


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    """Data sets go to one folder for all tests of this file, never to the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


def parse(flags):
    return read(mnist1d.Options, flags)


def run(name, tmp_path, *flags):
    """The smoke run of a configuration, in this process: folder and result."""
    path = ROOT / "configs" / "mnist1d" / f"{name}.yaml"
    changes = ["--smoke", "true", "--runs", str(tmp_path), *flags]
    o, begun = begin(mnist1d.benchmark, parse(["--config", str(path), *changes]))
    return begun.path, complete(mnist1d.benchmark, o, begun)


def run_small(name, tmp_path, *flags):
    """The same of a GLE network, with few neurons."""
    return run(name, tmp_path, *(SMALL_TUNED if "tuned" in name else SMALL), *flags)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_configuration_builds_its_model(path):
    """Published parameter counts (Table 2), exactly."""
    config = parse(["--config", str(path)])
    assert config.name == path.stem
    if config.model.kind in baselines.BASELINES:
        count = baselines.n_parameters(baselines.seeded(config.model.kind, 0))
    else:
        count = build_network(config, config.training, mnist1d.form(config)).n_parameters()
    assert count == PARAMETERS[learning.base(config.name)]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_smoke(path, tmp_path):
    go = run_small if path.stem.startswith("gle") else run
    folder, result = go(path.stem, tmp_path, "--seeds", "2")
    assert {p.name for p in folder.iterdir()} >= {
        "config.yaml", "env.json", "metrics.jsonl", "checkpoint.pt", "result.json", "learning_curve.png"
    }  # fmt: skip
    assert json.loads((folder / "result.json").read_text()) == result
    assert len(result["validation"]) == len(result["test"]) == 2
    expected = 2 * len(stages(parse(["--config", str(path)])))
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == expected


def learned(folder):
    """W of the second layer."""
    return torch.load(folder / "checkpoint.pt")["state"]["trainer"]["simulation"]["carry"]["theta"]["1"]["W"]


def test_flags_change_the_run(tmp_path):
    plain = learned(run_small("gle_15k", tmp_path)[0])
    for flag in ("--integrator=exponential", "--integrator=rk4", "--dtype=float64", "--training.every=6"):
        changed = learned(run_small("gle_15k", tmp_path, flag)[0])
        assert not torch.equal(plain.double(), changed.double()), flag


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """The folder of a run that nothing interrupts."""
    return run_small("gle_15k_tuned", tmp_path_factory.mktemp("tuned"))[0]


def test_consolidation_goes_on_where_training_ended(tuned, tmp_path):
    """Its first rows are the run without it; weights, streams and order of samples go on; errors, synapses, propagation
    and rate are its own. Prevents: a second stage that starts from scratch or repeats the first."""
    first, _ = run_small("gle_15k_tuned", tmp_path, "--consolidation=null")
    assert curves(tuned)[:2] == curves(first)
    config = mnist1d.tiny(parse(["--config", str(TUNED), *SMALL_TUNED]))
    data = data_set.load(90, config.samples)
    before = learning.trainer_of(config, data.form)
    before.epoch(data.train, lambda part: [1e-3])
    after = learning.trainer_of(config, data.form, 1, before)
    for old, new in zip(before.simulation.carry.theta, after.simulation.carry.theta, strict=True):
        assert torch.equal(old.W, new.W)
        assert torch.equal(old.b, new.b)
    assert torch.equal(after.streams.past, before.streams.past)
    assert (after.streams.past >= 0).all()
    assert after.order is before.order
    hidden, integrators = (
        [t.network.layers[1] for t in (before, after)],
        [t.simulation.integrator for t in (before, after)],
    )
    assert [type(layer.errors).__name__ for layer in hidden] == ["Prospective", "Instantaneous"]
    assert [i.propagation for i in integrators] == ["delayed", "instant"]
    assert float(after.simulation.carry.learning.lr["W"][0]) == pytest.approx(5e-5)


def test_plateau_ends_no_stage_but_the_last(tmp_path, monkeypatch):
    """Prevents: seeds that go on to consolidation at different epochs, in one process or in several."""
    finished = property(lambda schedule: schedule.training.schedule == "plateau")
    monkeypatch.setattr(Schedule, "finished", finished)
    folder, _ = run_small("gle_15k_tuned", tmp_path, "--training.schedule=plateau")
    assert [row[0] for row in curves(folder)] == [1, 2, 3, 4]


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_interrupted_in_either_stage(rows, tuned, tmp_path, monkeypatch):
    """Interrupted within training, at its end, or within consolidation: resumed, the run is the uninterrupted one.

    Prevents: a resumed run that takes up the wrong stage, or begins it again."""
    save = files.Run.checkpoint

    def interrupted(self, state):
        save(self, state)
        if state["epoch"] == rows:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(files.Run, "checkpoint", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_small("gle_15k_tuned", tmp_path / "stopped")
    (folder,) = (p.parent for p in (tmp_path / "stopped").rglob("config.yaml"))
    launch("mnist1d", "--resume", str(folder))
    assert curves(folder) == curves(tuned)
    assert torch.equal(learned(folder), learned(tuned))


def test_seeds_of_an_ensemble_are_the_single_runs(tmp_path):
    folder, _ = run_small("gle_15k", tmp_path, "--seeds=2", "--dtype=float64")
    alone, _ = run_small("gle_15k", tmp_path, "--seed_list=[34]", "--dtype=float64")
    both, one = learned(folder), learned(alone)
    torch.testing.assert_close(both[:, 1], one[:, 0], atol=1e-9, rtol=0)


def curves(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(r["epoch"], r["accuracy"], r["loss"]) for r in rows]


def test_an_offline_run_goes_on_as_if_it_had_not_stopped(tmp_path, monkeypatch):
    """Prevents: a resume that loses the optimiser, the order of the data, the schedule or a row of a baseline.

    Resumed twice: after the interruption, and once more from the finished run."""
    flags = ("--training.schedule=plateau", "--training.patience=0", "--seeds=2")
    whole, result = run("tcn", tmp_path / "whole", *flags)
    save = files.Run.checkpoint

    def interrupted(self, state):
        save(self, state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(files.Run, "checkpoint", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run("tcn", tmp_path / "stopped", *flags)
    (folder,) = (p.parent for p in (tmp_path / "stopped").rglob("config.yaml"))
    for _ in range(2):
        launch("mnist1d", "--resume", str(folder))
        again = json.loads((folder / "result.json").read_text())
        assert curves(folder) == curves(whole)
        assert [again[k] for k in ("validation", "test", "curve")] == [
            result[k] for k in ("validation", "test", "curve")
        ]
    trainers = (list(tensors(torch.load(f / "checkpoint.pt")["state"]["trainer"])) for f in (folder, whole))
    for a, b in zip(*trainers, strict=True):
        assert torch.equal(a, b)


@pytest.mark.slow
def test_workers_are_one_ensemble(tmp_path, monkeypatch):
    """Seeds divided among processes give the accuracies of the ensemble, in the order of the seeds; a divided run that
    has lost its result goes on from its workers. Prevents: shares that are joined in another order."""
    flags = ["--config", str(ONLINE), *SMALL, "--smoke", "true", "--compile", "false"]
    results = []
    for workers in ("1", "2"):
        launch("mnist1d", *flags, "--seeds", "2", "--workers", workers, "--runs", str(tmp_path / workers))
        results.append(json.loads(next((tmp_path / workers / "mnist1d").glob("*/result.json")).read_text()))
    for key in ("seeds", "validation", "test", "curve", "epochs", "parameters"):
        assert results[0][key] == results[1][key], key
    folder = next((tmp_path / "2" / "mnist1d").glob("*/result.json")).parent
    (folder / "result.json").unlink()
    begun = []

    def here(command, **_):
        """In place of a process that would only find that all has been done."""
        assert command[:3] == [sys.executable, "-m", "bench.mnist1d"]
        launch("mnist1d", *command[3:])
        begun.append(Path(command[-1]))
        return SimpleNamespace(wait=lambda: 0)

    with monkeypatch.context() as patch:
        patch.setattr(divided.subprocess, "Popen", here)
        launch("mnist1d", "--resume", str(folder))
    assert [b.relative_to(folder / "workers").parts[0] for b in begun] == ["0", "1"]
    assert json.loads((folder / "result.json").read_text())["curve"] == results[1]["curve"]
    with pytest.raises(SystemExit, match="workers must lie between 1 and the 2 seeds, got 3"):
        launch("mnist1d", *flags, "--seeds", "2", "--workers", "3", "--runs", str(tmp_path))


def tensors(item):
    if isinstance(item, torch.Tensor):
        yield item
    elif isinstance(item, dict):
        for v in item.values():
            yield from tensors(v)
    elif isinstance(item, (list, tuple)):
        for v in item:
            yield from tensors(v)


# -- bad input ---------------------------------------------------------------------------------------------------------


def test_unknown_configuration_key(tmp_path, capsys):
    path = tmp_path / "bad.yaml"
    path.write_text("training:\n  learning_rate: 0.1\n")
    with pytest.raises(SystemExit):
        launch("mnist1d", "--config", str(path))
    assert "learning_rate" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seeds", "0"], "seeds must lie between 1 and 10"),
        (["--seeds", "11"], "seeds must lie between 1 and 10"),
        (["--device", "cuda"], "no CUDA device"),
        (["--dt", "0.5"], "below dt = 0.5"),
        (["--samples", "5"], "samples"),
        (["--training.batch", "100000"], "batch"),
        (["--training.epochs", "0"], "epochs"),
        (["--training.every", "0"], "every"),
        (["--training.schedule", "exponential"], "rates must be positive"),
        (["--training.factor", "1.5"], "factor"),
        (["--training.lr", "1e-8"], "not above stop_rate=1e-07"),
        (["--model.hidden_layers", "0"], "hidden_layers"),
        (["--dt", "0.17"], "dt must divide"),
        (["--training.centred", "-1"], "centred must be a positive"),
        (["--integrator", "rk4", "--training.propagation", "delayed"], "rk4 has instant propagation only"),
        (["--consolidation", "{batch: 50}"], "consolidation has a batch of 50, training one of 100"),
        (["--consolidation", "{epochs: 0}"], "epochs must be at least 1"),
        (["--consolidation", "{traces: [[0.1, 0.4]]}"], "1 pairs, the network 7 layers"),
        (["--model.kind", "tcn", "--consolidation", "{epochs: 3}"], "consolidation is for GLE networks, not for tcn"),
    ],
)
def test_bad_settings_before_any_work(flags, message, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match=re.escape(message)):
        launch("mnist1d", "--config", str(ROOT / "configs/mnist1d/gle_15k.yaml"), "--runs", str(tmp_path), *flags)
    assert not list(tmp_path.iterdir())


def test_runs_of_the_same_second_have_their_own_folders(tmp_path):
    paths = {files.Run.create(tmp_path, "x", "a: 1", torch.device("cpu")).path for _ in range(3)}
    assert len(paths) == 3


def test_unwritable_cache_is_said_and_survived(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    assert len(data_set.load(40, 50, tmp_path / "file").train.y) == 40
    assert "not cached" in caplog.text


def test_unreadable_checkpoint_is_not_called_damaged(tmp_path, monkeypatch):
    """Prevents: advice to delete a checkpoint that a passing error kept from being read."""
    run = files.Run.create(tmp_path, "x", "a: 1", torch.device("cpu"))
    run.checkpoint({"epoch": 1})

    def busy(*_, **__):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(torch, "load", busy)
    with pytest.raises(OSError, match="Too many open files"):
        run.restore()


def test_resume_of_something_else(tmp_path):
    with pytest.raises(SystemExit, match=r"error: .* is no run folder"):
        launch("mnist1d", "--resume", str(tmp_path))
    with pytest.raises(SystemExit, match=r"run's own options: drop --training\.epochs=7"):
        launch("mnist1d", "--resume", str(tmp_path), "--training.epochs=7")


def test_corrupt_cache_is_made_anew(tmp_path, caplog):
    """Prevents: training on a damaged file."""
    first = data_set.load(40, 50, tmp_path)
    archive = next(tmp_path.glob("*.npz"))
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 1
    archive.write_bytes(content)
    again = data_set.load(40, 50, tmp_path)
    assert "damaged" in caplog.text
    assert torch.equal(first.train.x, again.train.x)
    caplog.clear()
    archive.with_suffix(".json").unlink()
    assert torch.equal(data_set.load(40, 50, tmp_path).test.x, first.test.x)
    assert "damaged" in caplog.text
    caplog.clear()
    data_set.load(40, 50, tmp_path)
    assert not caplog.records


def test_data_splits_are_independent(tmp_path):
    data = data_set.load(40, 200, tmp_path)
    assert (len(data.train.y), len(data.validation.y), len(data.test.y)) == (160, 40, 200)
    rows = torch.cat([s.x for s in (data.train, data.validation, data.test)]).squeeze(-1)
    assert len(torch.unique(rows, dim=0)) == len(rows)


def test_data_leave_the_global_generators_alone(tmp_path):
    import random

    import numpy as np

    random.seed(1), np.random.seed(1)
    expected = random.random(), np.random.rand()
    random.seed(1), np.random.seed(1)
    data_set.load(40, 30, tmp_path)
    assert (random.random(), np.random.rand()) == expected


def test_disk_full_while_saving(tmp_path, monkeypatch):
    """The old file stays, no half file is left, and the message says what to do."""
    run = files.Run.create(tmp_path, "x", "a: 1\n", torch.device("cpu"))
    run.log({"epoch": 1})
    run.checkpoint({"epoch": 1, "w": torch.ones(3)})

    def full(fd):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(files.SaveError, match=r"No space left.*intact"):
        run.checkpoint({"epoch": 2, "w": torch.zeros(3)})
    monkeypatch.undo()
    assert not list(run.path.glob(".*tmp"))
    assert files.Run(run.path).restore()["epoch"] == 1


def test_disk_full_stops_the_run_with_advice(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise files.SaveError("could not save checkpoint.pt: No space left on device")

    monkeypatch.setattr(files.Run, "checkpoint", full)
    with pytest.raises(SystemExit) as stop:
        launch("mnist1d", "--config", "mlp", "--smoke", "true", "--runs", str(tmp_path))
    assert stop.value.code == 1
    assert "--resume" in capsys.readouterr().err


def test_killed_while_saving(tmp_path):
    """A kill in the middle of writing leaves the last complete checkpoint, and rows after it are taken back."""
    program = f"""
import os, signal, torch
from pathlib import Path
from bench.kit import folder as files
run = files.Run.create(Path({str(tmp_path)!r}), "x", "a: 1", torch.device("cpu"))
run.log({{"epoch": 1}})
run.checkpoint({{"epoch": 1}})
run.log({{"epoch": 2}})
def half(f):
    f.write(b"half a checkpoint"); f.flush()
    os.kill(os.getpid(), signal.SIGKILL)
files.write_atomically(run.path / "checkpoint.pt", half)
"""
    killed = subprocess.run([sys.executable, "-c", program], cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    (folder,) = (p.parent for p in tmp_path.rglob("config.yaml"))
    run = files.Run(folder)
    assert run.restore() == {"epoch": 1}
    assert run.rows == [{"epoch": 1}]
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 1


def test_damaged_checkpoint(tmp_path):
    run = files.Run.create(tmp_path, "x", "a: 1", torch.device("cpu"))
    (run.path / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="damaged"):
        run.restore()


def test_report(tmp_path, capsys):
    from bench import report

    _, result = run("mlp", tmp_path / "runs")
    (tmp_path / "mlp.json").write_text(json.dumps(result))
    report.main([str(tmp_path)])
    assert "| mlp | 47210 | no |" in capsys.readouterr().out
    assert (tmp_path / "learning_curves.png").exists()
    with pytest.raises(SystemExit):
        report.main([str(tmp_path / "runs")])


@pytest.mark.parametrize("balanced", [False, True])
def test_order_of_samples(balanced):
    """Each sample exactly once an epoch; balanced batches differ by few samples of a class."""
    y = torch.arange(10).repeat_interleave(torch.tensor([38, 42] * 5))
    order = sample_order(y, balanced, torch.Generator().manual_seed(0))
    assert sorted(order.tolist()) == list(range(400))
    counts = torch.stack([y[b].bincount(minlength=10) for b in order.split(50)])
    assert ((counts - 5).abs().max() <= 1) == balanced


@pytest.mark.parametrize("staggered", [False, True])
def test_streams(staggered):
    """Every stream shows each of its samples whole, one after the other; targets follow, faded where asked."""
    form = Form(360, 1, 10)
    g = torch.Generator().manual_seed(0)
    split = Split(torch.randn(40, 360, 1, generator=g), torch.randint(10, (40,), generator=g))
    order = torch.stack([torch.randperm(40, generator=g) for _ in range(2)])
    streams = Streams(form, 2, 8, staggered, fade=20)
    turns = [streams.turn(split, index)[:2] for index in order.split(8, dim=1)]
    x, y = (torch.cat(parts) for parts in zip(*turns))
    for member, i in itertools.product(range(2), range(8)):
        offset = 45 * i if staggered else 0
        for turn in range(4):
            sample = order[member, 8 * turn + i]
            during = slice(offset + 360 * turn, offset + 360 * (turn + 1))
            assert torch.equal(x[during, member, i], split.x[sample])
            settled = y[during, member, i][20:]
            assert torch.equal(settled, torch.eye(10)[split.y[sample]].expand_as(settled))
        assert not x[:offset, member, i].any()
    torch.testing.assert_close(y.sum(-1), torch.ones(y.shape[:-1]))
    assert y.diff(dim=0).abs().max() < 0.1  # 15/8 per 20 steps at the steepest
    jumping = Streams(form, 2, 8, staggered)
    assert jumping.turn(split, order[:, :8])[1].diff(dim=0).abs().max() == (0.9 if staggered else 0)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("constant", [1.0, 1.0, 1.0]), ("cosine", [1.0, 0.505, 0.01]), ("exponential", [1.0, 0.1, 0.01])],
)
def test_schedules(schedule, expected):
    """The rate at the beginning, half-way and at the end of a run."""
    training = Training(epochs=4, lr=1.0, lr_end=0.01, schedule=schedule)
    rates = Schedule(training, 2)
    assert [rates.rates(p)[1] for p in (0.0, 0.5, 1.0)] == pytest.approx(expected)
    assert rates.during(1)(0.5) == rates.rates(1.5 / 4)


def test_plateau_acts_per_seed():
    """A seed whose loss stalls for more than `patience` epochs halves its rate; the other keeps it."""
    rates = Schedule(Training(lr=1.0, patience=2), 2)
    for epoch in range(4):
        rates.after_epoch([1.0, 1.0 / (1 + epoch)])
    assert rates.rates(0) == [0.5, 1.0]
    again = Schedule(Training(lr=1.0, patience=2), 2)
    again.load_state_dict(rates.state_dict())
    assert again.rates(0) == [0.5, 1.0]
