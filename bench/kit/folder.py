"""Run folders: configuration, environment, metrics, checkpoint and result, written so that a kill loses nothing.

runs/<name>/<time>-<hash>/   config.yaml  env.json  metrics.jsonl  checkpoint.pt  parts/  result.json  *.png
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import logging
import pickle
import platform
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import torch
import yaml

from bench.kit.interruption import heed
from gle.files import write_whole

log = logging.getLogger(__name__)


class Stopped(RuntimeError):
    """A run ends early, and can be gone on with."""


class SaveError(Stopped):
    """A file could not be written; what was there before is intact."""


def write_atomically(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Writes beside `path`, flushes to disk, then renames: a reader sees the old file or the whole new one.

    Raises SaveError (a full disk, no permission, …) with the old file in place.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, write)
    except (OSError, RuntimeError) as error:  # torch.save wraps a full disk in a RuntimeError
        heed()  # torch.save turns a Ctrl-C, too, into a RuntimeError
        raise SaveError(
            f"could not save {path}: {error}. What was saved before is intact: free some space, then go on"
        ) from error


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda f: f.write(text.encode()))


def read_json(path: Path, remedy: str) -> Any:
    """Raises ValueError, with what to do about it, where the file is missing or damaged."""
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} is missing: {remedy}") from None
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): {remedy}") from error


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, machine and commit, for `env.json`; None for what is not installed."""

    def git(*args: str) -> str | None:
        try:
            return subprocess.run(
                ["git", *args], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=True
            ).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return None

    def version(package: str) -> str | None:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return None

    packages = ("gle-toolkit", "torch", "numpy", "scipy", "mnist1d", "jitcdde", "matplotlib", "jsonargparse")
    status = git("status", "--porcelain", "--untracked-files=no")
    return {
        "python": platform.python_version(),
        "packages": {p: version(p) for p in packages},
        "platform": platform.platform(),
        "processor": _processor(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "threads": torch.get_num_threads(),
        "commit": git("rev-parse", "HEAD"),
        "modified": bool(status) if status is not None else None,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
        return next(l.split(":", 1)[1].strip() for l in lines if l.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


O = TypeVar("O")


def begun(folder: Path, read: Callable[[dict[str, Any]], O], plain: Callable[[O], dict[str, Any]]) -> O:
    """The options of a run folder, as `read` makes them from its config.yaml. plain: their values for JSON.

    Raises ValueError where that is no run folder, where a file is damaged, and where the options are not those that the
    run began with: what has been computed would not be theirs.
    """
    file = folder / "config.yaml"
    if not file.exists():
        raise ValueError(f"{folder} is no run folder: it has no config.yaml")
    text = file.read_bytes()
    remedy = "put it back as it was, or start a new run"
    try:
        values = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is damaged ({error}): {remedy}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{file} is damaged (it holds no options): {remedy}")
    options = read(values)
    kept = read_json(folder / "env.json", remedy)
    if not isinstance(kept, dict):
        raise ValueError(f"{folder / 'env.json'} is damaged (it tells of no environment): {remedy}")
    if (old := kept.get("options")) is not None:
        for name, was, now in differences(old, plain(options)):
            raise ValueError(f"{file} has {name} = {now}, but the run began with {was}: {remedy}")
        for name in added(old, values):
            raise ValueError(f"{file} has {name}, which it had not when the run began: {remedy}")
    elif (named := re.fullmatch(r"\d{8}-\d{6}-([0-9a-f]{8})(\.\d+)?", folder.resolve().name)) and (
        _digest(text) != named[1]  # a run of an older version: its folder's name alone tells of its options
    ):
        raise ValueError(f"{file} was changed after the run began (its checksum is not {named[1]}): {remedy}")
    return options


def differences(old: dict[str, Any], new: dict[str, Any], within: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Name, old and new value of each option that differs. What the old ones do not know stood at its default."""
    for name in old.keys() & new.keys():
        was, now = old[name], new[name]
        if isinstance(was, dict) and isinstance(now, dict):
            yield from differences(was, now, f"{within}{name}.")
        elif was != now:
            yield f"{within}{name}", was, now


def added(old: dict[str, Any], new: dict[str, Any], within: str = "") -> Iterator[str]:
    """Names that the old options do not have."""
    for name, now in new.items():
        if name not in old:
            yield within + name
        elif isinstance(was := old[name], dict) and isinstance(now, dict):
            yield from added(was, now, f"{within}{name}.")


def _digest(config: bytes) -> str:
    return hashlib.sha256(config).hexdigest()[:8]


class Run:
    """One run folder. What is expensive is kept there as soon as it is done: as a part, or in the checkpoint."""

    def __init__(self, path: Path):
        self.path = path
        self.rows: list[dict[str, Any]] = []

    @classmethod
    def create(cls, root: Path, name: str, config: str, device: torch.device) -> Run:
        """A new folder; config: the resolved configuration as YAML. It is kept twice: see `begun`."""
        path = root / name / f"{time.strftime('%Y%m%d-%H%M%S')}-{_digest(config.encode())}"
        first, n = path.name, 1
        while True:  # two runs of the same second must not share a folder
            try:
                path.mkdir(parents=True)
                break
            except FileExistsError:
                n += 1
                path = path.with_name(f"{first}.{n}")
            except OSError as error:
                raise SaveError(f"could not make the run folder {path}: {error}") from error
        run = cls(path)
        kept = {**environment(device), "options": yaml.safe_load(config)}
        write_text(path / "env.json", json.dumps(kept, indent=1))
        write_text(path / "config.yaml", config)  # last: a folder that has it can be resumed
        return run

    @classmethod
    def reopen(cls, path: Path) -> Run:
        """A folder to go on in, without the half-written files that a kill leaves."""
        for half in path.rglob(".*.tmp"):
            _remove(half)
        return cls(path)

    def environment(self) -> dict[str, Any]:
        """Where, and with what code, the run began."""
        kept = read_json(self.path / "env.json", "put it back as it was, or start a new run")
        return {k: v for k, v in kept.items() if k != "options"}

    def part(self, name: str, compute: Callable[[], Any]) -> Any:
        """What `compute` returns (plain values for JSON), or what it returned before an interruption. Kept in
        parts/<name>.json, with _ for a space."""
        file = self.path / "parts" / f"{name.replace(' ', '_')}.json"
        if file.exists():
            return read_json(file, "delete it, and --resume computes it again")
        log.info("%s: %s", self.path.parent.name, name)
        result = json.loads(json.dumps(compute()))  # a fresh result and a kept one are the same thing
        write_text(file, json.dumps(result))
        heed()
        return result

    def log(self, row: dict[str, Any]) -> None:
        """Appends a row to metrics.jsonl."""
        self.rows.append(row)
        try:
            with open(self.path / "metrics.jsonl", "a", encoding="utf-8") as f:
                f.write(json.dumps(row) + "\n")
        except OSError as error:
            raise SaveError(
                f"could not write {self.path / 'metrics.jsonl'}: {error}. Free some space, then go on"
            ) from error

    def checkpoint(self, state: dict[str, Any]) -> None:
        """Replaces the checkpoint: nested dicts and lists of tensors and plain values."""
        saved = {"state": state, "rows": json.dumps(self.rows)}
        write_atomically(self.path / "checkpoint.pt", lambda f: torch.save(saved, f))
        heed()

    def restore(self) -> dict[str, Any] | None:
        """The last checkpoint, or None before the first one; metrics go back to that moment. Raises ValueError for a
        damaged file."""
        path = self.path / "checkpoint.pt"
        if not path.exists():
            state, self.rows = None, []
        else:
            try:
                saved = torch.load(path, map_location="cpu", weights_only=True)
                state, self.rows = saved["state"], json.loads(saved["rows"])
            except (pickle.UnpicklingError, RuntimeError, ValueError, KeyError, TypeError, EOFError) as error:
                raise ValueError(
                    f"{path} is damaged ({error}): delete it to start this run again from its beginning"
                ) from error
        self._write_rows()
        return state

    def _write_rows(self) -> None:
        write_text(self.path / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in self.rows))

    def finish(self, result: dict[str, Any]) -> None:
        """Writes result.json."""
        write_text(self.path / "result.json", json.dumps(result, indent=1))


class Follower(Run):
    """The run folder as it is to every process but the first: they read what there was when the run went on, if it did,
    and leave writing to the first."""

    def __init__(self, resumed: Path | None):
        super().__init__(resumed or Path("/nonexistent"))

    def part(self, name: str, compute: Callable[[], Any]) -> Any:
        file = self.path / "parts" / f"{name.replace(' ', '_')}.json"
        return read_json(file, "delete it, and --resume computes it again") if file.exists() else compute()

    def log(self, row: dict[str, Any]) -> None:
        self.rows.append(row)

    def checkpoint(self, state: dict[str, Any]) -> None:
        pass

    def _write_rows(self) -> None:
        pass

    def finish(self, result: dict[str, Any]) -> None:
        pass
