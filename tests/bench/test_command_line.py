"""What all commands share: streams of any encoding, flags against files, hints that a shell takes, and run folders that
were changed or damaged before they are gone on with."""

import importlib.metadata
import io
import itertools
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from studies import finished, launch
from test_studies import comparable

from bench import mnist1d, report, speed, sudoku
from bench.kit import cli
from bench.kit import folder as files
from bench.kit.benchmark import main
from bench.kit.options import Options, plain, read, saved
from bench.teacher_student import chain

ROOT = Path(__file__).parents[2]
MLP = str(ROOT / "configs" / "mnist1d" / "mlp.yaml")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


def edited(folder, **changes):
    """The run folder with other options in its config.yaml; training__lr is training.lr."""
    values = yaml.safe_load((folder / "config.yaml").read_text())
    for name, value in changes.items():
        *path, last = name.split("__")
        place = values
        for part in path:
            place = place[part]
        place[last] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    return folder


@pytest.mark.parametrize("command", ["mnist1d", "sudoku", "teacher_student chain"])
def test_a_mistyped_flag(command, capsys):
    """Prevents: the error standing below all flags that there are."""
    with pytest.raises(SystemExit):
        launch(command, "--treshold", "3")
    tip, error = capsys.readouterr().err.splitlines()
    assert tip.endswith(f"{command.split()[-1]} --help")
    assert "--treshold" in error


# -- streams -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_stream_that_cannot_show_everything(encoding, monkeypatch, tmp_path):
    """Prevents: tables that end a run, for a sign that the terminal does not have, before its figure is drawn."""
    printed = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", printed)
    main(mnist1d.benchmark, ["--config", MLP, "--smoke", "true", "--seeds", "2", "--runs", str(tmp_path)])
    (result,) = tmp_path.rglob("result.json")
    assert (result.parent / "learning_curve.png").exists()
    shutil.copy(result, tmp_path / "mlp.json")
    report.main([str(tmp_path)])
    with cli.command():
        print("τm ± 1")
    printed.flush()
    shown = printed.buffer.getvalue().decode(encoding)
    assert "mlp" in shown
    assert "| mlp | 47210 | no |" in shown
    assert shown.endswith("?m ? 1\n" if encoding == "ascii" else "?m ± 1\n")


@pytest.mark.slow
def test_a_locale_without_utf8(tmp_path):
    """Prevents: files of options whose comments only a UTF-8 locale can read, help and tables that only it can show."""
    without = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "OMP_NUM_THREADS": "1"}
    flags = [
        "--config", str(ROOT / "configs" / "mnist1d" / "mlp.yaml"), "--smoke", "true", "--runs", str(tmp_path),
    ]  # fmt: skip
    program = f"""
import runpy, sys
for module, *flags in (["bench.mnist1d", *{flags!r}], ["bench.speed", "--help"]):
    sys.argv = [module, *flags]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=without, capture_output=True)
    assert ended.returncode == 0, ended.stderr
    assert list(tmp_path.rglob("learning_curve.png"))
    assert b"--turns" in ended.stdout  # the end of the program


def test_only_users_errors_are_reported_as_such():
    """Prevents: a fault of ours that looks like bad input, because its class is derived from ValueError."""
    with pytest.raises(UnicodeEncodeError), cli.command():
        "±".encode("ascii")
    with pytest.raises(SystemExit, match=r"error: two lines$"), cli.command():
        raise ValueError("two\nlines")


# -- flags -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [0, 1, 2])
def test_flags_win_over_files_wherever_they_stand(order, tmp_path):
    """Prevents: a flag in front of --config that is taken, and silently has no effect."""

    def ordered(flag, file):
        return [[*flag, "--config", file], ["--config", file, *flag], [*flag, f"--config={file}"]][order]

    def written(text):
        file = tmp_path / "options.yaml"
        file.write_text(text)
        return str(file)

    file = written("training:\n  steps: 3\n  lr: 0.5\nhints: 0.25\n")
    o = read(sudoku.Sudoku, ordered(["--training.steps", "7"], file))
    assert (o.training.steps, o.training.lr, o.hints) == (7, 0.5, 0.25)
    o = read(sudoku.Sudoku, ordered(["--training", "{steps: 7}"], file))
    assert (o.training.steps, o.training.lr, o.hints) == (7, 0.5, 0.25)
    o = read(chain.Chain, ordered(["--noise", "0.1"], written("noise: 0.3\ndt: 0.02\n")))
    assert (o.noise, o.dt) == (0.1, 0.02)
    o = read(speed.Options, ordered(["--turns=2"], written("turns: 3\nblock: 8\n")))
    assert (o.turns, o.block) == (2, 8)
    config = read(mnist1d.Options, ordered(["--training.epochs", "7"], written("training:\n  epochs: 3\n  lr: 0.5\n")))
    assert (config.training.epochs, config.training.lr) == (7, 0.5)


def test_files_of_options_by_name(tmp_path, monkeypatch):
    """Prevents: a name that is looked for in the folder where one stands, and nowhere else."""
    monkeypatch.chdir(tmp_path)
    folder = ROOT / "configs" / "mnist1d"
    assert cli.with_configs(["--config", "gru", "--seeds", "2"], folder) == [
        "--config", str(folder / "gru.yaml"), "--seeds", "2"
    ]  # fmt: skip
    assert cli.with_configs(["--config=gru"], folder) == [f"--config={folder / 'gru.yaml'}"]
    (tmp_path / "gru").write_text("seeds: 3")
    for own in ("gru", "a/b.yaml", "{seeds: 3}"):
        assert cli.with_configs(["--config", own], folder) == ["--config", own]
    with pytest.raises(ValueError, match=r"no file nlp, and no nlp\.yaml .*: gle_15k, .*mlp"):
        cli.with_configs(["--config", "nlp"], folder)


def test_a_row_of_ones_own(tmp_path):
    """Prevents: flags for one network that change four, or fail for a configuration that nobody asked for."""
    printed = launch(
        "mnist1d", "--smoke", "true", "--model.kind", "mlp", "--name", "mine", "--runs", str(tmp_path)
    )  # fmt: skip
    assert finished(tmp_path, printed).result["name"] == "mine"
    with pytest.raises(SystemExit, match="device 'warp' is none that can be used here"):
        launch("mnist1d", "--device", "warp")


def test_later_files_win_over_earlier_ones():
    given = ["chain", "--a", "1", "--config", "x", "--b=2", "--config=y", "--c"]
    assert cli.config_first(given) == ["chain", "--config", "x", "--config=y", "--a", "1", "--b=2", "--c"]


# -- how to go on ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["gradient_map", "teacher_student chain", "mnist1d"])
def test_the_hint_can_be_pasted_into_a_shell(command, tmp_path, monkeypatch, capsys):
    """Prevents: advice that goes on with another folder, or none, where its name holds a space."""

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    runs = tmp_path / "my runs; $HOME"
    monkeypatch.setattr(files.Run, "part", interrupted)
    monkeypatch.setattr(files.Run, "checkpoint", interrupted)
    flags = ["--smoke", "true", "--runs", str(runs)] + (["--config", MLP] if command == "mnist1d" else [])
    with pytest.raises(SystemExit) as stop:
        launch(command, *flags)
    assert stop.value.code == 130
    line = capsys.readouterr().err.splitlines()[-1]
    (config,) = runs.rglob("config.yaml")
    hint = shlex.split(line.partition("go on with: ")[2])
    assert hint == ["python", "-m", *f"bench.{command}".split(), "--resume", str(config.parent)]


# -- options that were changed -----------------------------------------------------------------------------------------


def leaves(values, *path):
    """(path, value) of each option."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, *path, name)
        else:
            yield (*path, name), value


def other(value):
    """Another value of the same kind, where there is one for certain."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, list) and value and not isinstance(value[0], (list, str)):
        return [v + 1 for v in value]
    return None


@pytest.mark.parametrize("kind", [sudoku.Sudoku, chain.Chain, mnist1d.Options])
def test_every_option_is_as_the_run_began(kind, tmp_path):
    """Prevents: a run that goes on with the options of its beginning and reports those that were edited in since."""
    own = plain(kind())
    run = files.Run.create(tmp_path, "x", yaml.safe_dump(own), torch.device("cpu"))
    saved(kind, run.path)
    tried = 0
    some = list(leaves(own))[::3]
    for path, value in some:
        if other(value) is not None:
            edited(run.path, **{"__".join(path): other(value)})
            with pytest.raises(ValueError) as refused:  # noqa: PT011
                saved(kind, run.path)
            assert f"{'.'.join(path)} = {other(value)}, but the run began with {value}" in str(refused.value)
            edited(run.path, **{"__".join(path): value})
            tried += 1
    assert tried > len(some) / 2
    saved(kind, run.path)


def test_options_that_only_look_different(tmp_path):
    """Comments, order and ways to write a number are not options."""
    run = files.Run.create(tmp_path, "x", yaml.safe_dump(plain(Options(threads=2))), torch.device("cpu"))
    (run.path / "config.yaml").write_text("# mine\nthreads: 0x2\nruns: ./runs\nsmoke: no\n")
    assert saved(Options, run.path).threads == 2


def test_a_changed_run_is_not_gone_on_with(smoke, tmp_path):
    """From the command line; the folder stays as it was. Nor is it looked at as if it had those options."""
    folder = edited(shutil.copytree(smoke("sudoku").folder, tmp_path / "run"), training__weight_decay=50.0)
    before = (folder / "result.json").read_bytes()
    message = r"^error: .*config\.yaml has training\.weight_decay = 50\.0, but the run began with 1\.0"
    for study, flag in (("sudoku", "--resume"), ("gradients", "--run")):
        with pytest.raises(SystemExit, match=message):
            launch(study, flag, str(folder))
    assert (folder / "result.json").read_bytes() == before


def test_a_changed_configuration_is_not_gone_on_with(tmp_path):
    """The same of bench.mnist1d, whose options have groups."""
    flags = ["--config", MLP, "--smoke", "true", "--seeds", "2", "--runs", str(tmp_path)]
    launch("mnist1d", *flags)
    folder = min((p.parent for p in tmp_path.rglob("result.json")), key=lambda p: len(p.parts))
    edited(folder, training__weight_decay=50.0)
    with pytest.raises(SystemExit, match=r"training\.weight_decay = 50\.0, but the run began with 0\.0"):
        launch("mnist1d", "--resume", str(folder))
    edited(folder, training__weight_decay=0.0)
    launch("mnist1d", "--resume", str(folder))


def test_an_option_that_is_added_to_a_run(tmp_path):
    """One that its version may not have had."""
    run = files.Run.create(tmp_path, "x", yaml.safe_dump(plain(sudoku.Sudoku())), torch.device("cpu"))
    saved(sudoku.Sudoku, run.path)
    kept = json.loads((run.path / "env.json").read_text())
    del kept["options"]["training"]["until_right"]
    (run.path / "env.json").write_text(json.dumps(kept))
    with pytest.raises(ValueError, match=r"yaml has training\.until_right, which it had not when the run began"):
        saved(sudoku.Sudoku, run.path)


def test_a_run_of_an_older_version_that_was_changed(tmp_path):
    """Its environment does not hold the options; the name of its folder holds their checksum."""
    run = files.Run.create(tmp_path, "x", yaml.safe_dump(plain(Options())), torch.device("cpu"))
    kept = json.loads((run.path / "env.json").read_text())
    del kept["options"]
    (run.path / "env.json").write_text(json.dumps(kept))
    assert saved(Options, run.path) == Options()
    with pytest.raises(ValueError, match=r"config\.yaml was changed after the run began"):
        saved(Options, edited(run.path, threads=3))


# -- files that were damaged -------------------------------------------------------------------------------------------

DAMAGE = {
    "config.yaml": ["cut", "noise", "text"],
    "env.json": ["cut", "noise", "gone"],
    "checkpoint.pt": ["cut", "noise", "text"],
    "parts/seed0.json": ["cut", "noise"],
}


def damaged(file, how):
    content = file.read_bytes()
    if how == "gone":
        file.unlink()
    else:
        file.write_bytes(
            {"cut": content[: len(content) * 2 // 3], "noise": b"\xff\x00" + content[2:], "text": b"- nothing"}[how]
        )


@pytest.mark.parametrize(("name", "how"), [(n, h) for n, hows in DAMAGE.items() for h in hows])
@pytest.mark.parametrize("command", ["sudoku", "mnist1d"])
def test_damaged_file(command, name, how, smoke, tmp_path, request):
    """Prevents: a traceback, or hours of work before it; and advice without the name of the file."""
    if command == "mnist1d":
        if name.startswith("parts"):
            pytest.skip("it has no parts")
        launch("mnist1d", "--config", MLP, "--smoke", "true", "--runs", str(tmp_path))
        folder = next(tmp_path.rglob("config.yaml")).parent
    else:
        folder = shutil.copytree(smoke(command).folder, tmp_path / "run")
        (folder / "parts" / "seed1.json").unlink()
    damaged(folder / name, how)
    with pytest.raises(SystemExit) as stop:
        launch(command, "--resume", str(folder))
    said = str(stop.value)
    assert said.startswith("error: ")
    assert "\n" not in said
    assert str(folder / name) in said or (name, how) == ("config.yaml", "cut")  # cut between two options
    assert str(folder) in said


def test_half_a_row_of_metrics(smoke, tmp_path):
    """What a full disk leaves of metrics.jsonl is made whole from the checkpoint, and half-written files removed."""
    whole = smoke("sudoku")
    folder = shutil.copytree(whole.folder, tmp_path / "run")
    (folder / "parts" / "seed1.json").unlink()
    metrics = (folder / "metrics.jsonl").read_text()
    (folder / "metrics.jsonl").write_text(metrics[:-20])
    (folder / "weights" / ".0-last.pt.77.tmp").write_bytes(b"half")
    again = finished(tmp_path, launch("sudoku", "--resume", str(folder)))
    assert comparable(again.result) == comparable(whole.result)
    assert (folder / "metrics.jsonl").read_text() == metrics
    assert not list(folder.rglob(".*.tmp"))


def test_every_cut_of_a_checkpoint_is_noticed(tmp_path):
    """Prevents: a checkpoint that a full disk or a bad copy has cut, and that loads."""
    run = files.Run.create(tmp_path, "x", "a: 1", torch.device("cpu"))
    run.checkpoint({"epoch": 1, "w": torch.randn(300), "order": [torch.arange(5)]})
    file = run.path / "checkpoint.pt"
    content = file.read_bytes()
    for length in itertools.chain(range(0, len(content), 97), (len(content) - 1,)):
        file.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"checkpoint\.pt is damaged"):
            files.Run(run.path).restore()


def test_result_files_that_are_damaged(tmp_path):
    (tmp_path / "mlp.json").write_text('{"name": "m')
    with pytest.raises(SystemExit, match=r"error: .*mlp\.json is damaged"):
        report.main([str(tmp_path)])


# -- the environment ---------------------------------------------------------------------------------------------------


def test_environment_without_optional_packages(monkeypatch):
    """Prevents: runs that cannot begin because a package is missing that they do not need."""
    version = importlib.metadata.version

    def some(package):
        if package in ("jitcdde", "mnist1d"):
            raise importlib.metadata.PackageNotFoundError(package)
        return version(package)

    monkeypatch.setattr(importlib.metadata, "version", some)
    packages = files.environment(torch.device("cpu"))["packages"]
    assert packages["jitcdde"] is packages["mnist1d"] is None
    assert packages["torch"] == version("torch")
    assert packages["gle-toolkit"] == version("gle-toolkit")


def test_the_environment_of_a_result(smoke):
    """Where the run began, without its options a second time."""
    environment = smoke("sudoku").result["environment"]
    assert "options" not in environment
    assert environment["packages"]["gle-toolkit"]
