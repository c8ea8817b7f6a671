"""MNIST-1D (Greydanus 2020): digits as series of one feature, generated locally."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench.data.cache import cache_dir, cached
from bench.data.series import Form, Labelled, Split, steps_of

CLASSES = 10
DURATION = 72.0  # time units of a sample (Table 1)

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


def form(dt: float) -> Form:
    """As a network sees it that takes steps of dt. Raises ValueError unless dt divides a sample."""
    return Form(steps_of(DURATION, dt), 1, CLASSES)


def check(samples: int) -> None:
    """Raises ValueError for a size that the generator cannot make."""
    if samples % CLASSES or samples < 2 * CLASSES:
        raise ValueError(f"samples must be a multiple of {CLASSES}, at least {2 * CLASSES}; got {samples}")


def load(length: int = 360, samples: int = 5000, folder: Path | None = None) -> Labelled:
    """Each series interpolated to `length` points. train and validation: the two parts of the published data, 80 % and
    20 %. test: `samples` more, drawn independently. Generated once, then read from the cache; a damaged cache is
    noticed and made anew."""
    folder = folder or cache_dir()
    settings = {**MNIST1D, "final_seq_length": length, "num_samples": samples}
    first, second = (
        {k: torch.from_numpy(v) for k, v in cached("mnist1d", {**settings, "seed": s}, _generate, folder).items()}
        for s in (SEED, TEST_SEED)
    )

    def split(x: Tensor, y: Tensor) -> Split:
        return Split(x.unsqueeze(-1), y)

    test = split(*(torch.cat([second[z], second[f"{z}_test"]]) for z in ("x", "y")))
    return Labelled(split(first["x"], first["y"]), split(first["x_test"], first["y_test"]), test, CLASSES)


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
