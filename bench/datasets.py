"""Data sets, generated locally and cached beside a checksum. Batch first; convert to time first at the border."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bench.files import SaveError, write_atomically, write_text

log = logging.getLogger(__name__)

# Settings of the published runs: 72 points supersampled to 360, a longer and less cropped series than the package's
# default.
MNIST1D = {
    "padding": [36, 60],
    "scale_coeff": 0.4,
    "max_translation": 48,
    "corr_noise_scale": 0.25,
    "iid_noise_scale": 2e-2,
    "shear_scale": 0.75,
    "train_split": 0.8,
    "shuffle_seq": False,
}
SEED = 42  # of the published data; the test set is drawn with another one
TEST_SEED = 4242


class Split(NamedTuple):
    x: Tensor  # [samples, steps]
    y: Tensor  # [samples], int64


class Mnist1d(NamedTuple):
    """train and validation: the two halves of the published data. test: drawn independently, and used once, at the
    end."""

    train: Split
    validation: Split
    test: Split


def cache_dir() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gle-toolkit"


def mnist1d(length: int = 360, samples: int = 5000, folder: Path | None = None) -> Mnist1d:
    """MNIST-1D (Greydanus 2020), each series interpolated to `length` points: 80 % training, 20 % validation, and a
    test set of `samples` more. Generated once, then read from the cache; a damaged cache is noticed and made anew."""
    folder = folder or cache_dir()
    settings = {**MNIST1D, "final_seq_length": length, "num_samples": samples}
    first, second = (
        {k: torch.from_numpy(v) for k, v in cached("mnist1d", {**settings, "seed": s}, _generate, folder).items()}
        for s in (SEED, TEST_SEED)
    )
    test = Split(torch.cat([second["x"], second["x_test"]]), torch.cat([second["y"], second["y_test"]]))
    return Mnist1d(Split(first["x"], first["y"]), Split(first["x_test"], first["y_test"]), test)


def cached(
    name: str, settings: dict, generate: Callable[[dict], dict[str, np.ndarray]], folder: Path
) -> dict[str, np.ndarray]:
    """What `generate` makes from the settings, kept in `folder` with them and a checksum; a damaged file is noticed and
    made anew."""
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    path = folder / f"{name}-{key}.npz"
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


def _generate(settings: dict) -> dict[str, np.ndarray]:
    from mnist1d.data import get_dataset_args, make_dataset

    args = get_dataset_args()
    for key, value in settings.items():
        setattr(args, key, value)
    python_state, numpy_state = random.getstate(), np.random.get_state()  # the package seeds the global generators
    try:
        made = make_dataset(args)
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
    return {
        "x": made["x"].astype(np.float32),
        "y": made["y"].astype(np.int64),
        "x_test": made["x_test"].astype(np.float32),
        "y_test": made["y_test"].astype(np.int64),
    }
