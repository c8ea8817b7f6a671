"""Run folders: configuration, environment, metrics, checkpoint and result, written so that a kill loses nothing.

runs/<name>/<time>-<hash>/   config.yaml  env.json  metrics.jsonl  checkpoint.pt  result.json  *.png
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import pickle
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch


class SaveError(RuntimeError):
    """A file could not be written; what was there before is intact."""


def write_atomically(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Writes beside `path`, flushes to disk, then renames: a reader sees the old file or the whole new one.

    Raises SaveError (a full disk, no permission, …) with the old file in place.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as f:
            write(f)
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch.save wraps a full disk in a RuntimeError
        _remove(temporary)
        raise SaveError(
            f"could not save {path}: {error}. What was saved before is intact: free some space, then go on"
        ) from error
    except BaseException:
        _remove(temporary)
        raise


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda f: f.write(text.encode()))


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, machine and commit, for `env.json`."""

    def git(*args: str) -> str | None:
        try:
            return subprocess.run(
                ["git", *args], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=True
            ).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return None

    packages = ("torch", "numpy", "scipy", "mnist1d", "jitcdde", "matplotlib", "jsonargparse")
    status = git("status", "--porcelain", "--untracked-files=no")
    return {
        "python": platform.python_version(),
        "packages": {p: importlib.metadata.version(p) for p in packages},
        "platform": platform.platform(),
        "processor": _processor(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "threads": torch.get_num_threads(),
        "commit": git("rev-parse", "HEAD"),
        "modified": bool(status) if status is not None else None,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(l.split(":", 1)[1].strip() for l in lines if l.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


class Run:
    """One run folder."""

    def __init__(self, path: Path):
        self.path = path
        self.rows: list[dict[str, Any]] = []

    @classmethod
    def create(cls, root: Path, name: str, config: str, device: torch.device) -> Run:
        """A new folder; config: the resolved configuration as YAML."""
        digest = hashlib.sha256(config.encode()).hexdigest()[:8]
        path = root / name / f"{time.strftime('%Y%m%d-%H%M%S')}-{digest}"
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
        write_text(path / "env.json", json.dumps(environment(device), indent=1))
        write_text(path / "config.yaml", config)  # last: a folder that has it can be resumed
        return run

    def log(self, row: dict[str, Any]) -> None:
        """Appends a row to metrics.jsonl."""
        self.rows.append(row)
        try:
            with open(self.path / "metrics.jsonl", "a") as f:
                f.write(json.dumps(row) + "\n")
        except OSError as error:
            raise SaveError(
                f"could not write {self.path / 'metrics.jsonl'}: {error}. Free some space, then go on"
            ) from error

    def checkpoint(self, state: dict[str, Any]) -> None:
        """Replaces the checkpoint: nested dicts and lists of tensors and plain values."""
        saved = {"state": state, "rows": json.dumps(self.rows)}
        write_atomically(self.path / "checkpoint.pt", lambda f: torch.save(saved, f))

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

    def log(self, row: dict[str, Any]) -> None:
        self.rows.append(row)

    def checkpoint(self, state: dict[str, Any]) -> None:
        pass

    def _write_rows(self) -> None:
        pass

    def finish(self, result: dict[str, Any]) -> None:
        pass
