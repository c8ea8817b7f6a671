"""One generator per purpose, so that drawing more weights never changes the order of the data."""

from __future__ import annotations

import zlib

import numpy as np
import torch


def generator(seed: int, purpose: str) -> torch.Generator:
    """An independent CPU generator for (seed, purpose), e.g. (0, "weights")."""
    entropy = np.random.SeedSequence([seed, zlib.crc32(purpose.encode())])
    return torch.Generator().manual_seed(int(entropy.generate_state(1, np.uint64)[0] >> 1))
