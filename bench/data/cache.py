"""Data that are made once and then read from a cache, beside a checksum."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.kit.folder import SaveError, write_atomically, write_text

log = logging.getLogger(__name__)


def cache_dir() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gle-toolkit"


def cached(
    name: str, settings: dict, generate: Callable[[dict], dict[str, np.ndarray]], folder: Path
) -> dict[str, np.ndarray]:
    """What `generate` makes from the settings, kept in `folder` with them and a checksum; a damaged file is noticed and
    made anew."""
    path = folder / f"{name}-{_key(settings)}.npz"
    info = path.with_suffix(".json")
    arrays = _read(path, info)
    if arrays is None:
        arrays = generate(settings)
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        digest = hashlib.sha256(buffer.getvalue()).hexdigest()
        try:
            write_atomically(path, lambda f: f.write(buffer.getvalue()))
            write_text(info, json.dumps({"sha256": digest, "settings": settings}, indent=1))
        except SaveError as error:
            log.warning("the data are not cached: %s", error)
    return arrays


def cached_array(name: str, settings: dict, generate: Callable[[], np.ndarray], folder: Path) -> np.ndarray:
    """One array, likewise, which stays on disk: memory-mapped. What cannot be cached is kept in memory."""
    path = folder / f"{name}-{_key(settings)}.npy"
    info = path.with_suffix(".json")
    if path.exists() or info.exists():
        try:
            if _digest(path) == json.loads(info.read_text("utf-8"))["sha256"]:
                return np.load(path, mmap_mode="r", allow_pickle=False)
            raise ValueError("the checksum differs")
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("cached data %s is damaged (%s): making it anew", path, error)
    made = generate()
    try:
        write_atomically(path, lambda f: np.save(f, made, allow_pickle=False))
        write_text(info, json.dumps({"sha256": _digest(path), "settings": settings}, indent=1))
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except SaveError as error:
        log.warning("the data are not cached: %s", error)
        return made


def _key(settings: dict) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def _digest(path: Path) -> str:
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _read(path: Path, info: Path) -> dict[str, np.ndarray] | None:
    if not path.exists() and not info.exists():
        return None
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != json.loads(info.read_text("utf-8"))["sha256"]:
            raise ValueError("the checksum differs")
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return {k: archive[k] for k in archive.files}
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("cached data %s is damaged (%s): making it anew", path, error)
        return None
