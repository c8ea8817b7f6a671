"""Series as data sets hold them: labelled, of different lengths, batch first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

Lengths = Tensor | np.ndarray | Sequence[int]


def time_first(x: Tensor, name: str) -> Tensor:
    """[*ensemble, batch, T, features] → [T, *ensemble, batch, features]."""
    if x.ndim < 3:
        raise ValueError(f"{name} have shape {tuple(x.shape)}, expected [batch, T, features] with batch_first=True")
    return x.movedim(-2, 0)


def one_hot(labels: Tensor, steps: int, batch: int, classes: int) -> Tensor:
    """Targets [T, batch, classes] of labels: integers [batch], the same at all steps, or [T, batch].

    Raises ValueError for another shape, and for a label that the network has no output for.
    """
    if labels.shape not in ((batch,), (steps, batch)):
        raise ValueError(
            f"labels have shape {tuple(labels.shape)}, expected [{batch}], one for each sample of the batch, or "
            f"[{steps}, {batch}], one at each step, too; inputs are [T, batch, features], without batch_first=True"
        )
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        raise ValueError(
            f"labels must lie in 0 … {classes - 1}, as the network has {classes} outputs; got {int(wrong[0])}"
        )
    return torch.nn.functional.one_hot(labels.expand(steps, batch).long(), classes)


def after(ends: Tensor, steps: int) -> Tensor:
    """[T, batch], on the CPU: true at the steps after a sample's end. ends: as `lengths_of` gives them."""
    return torch.arange(steps)[:, None] >= ends.cpu()


def are_labels(targets: Tensor) -> bool:
    return targets.ndim <= 2 and not targets.dtype.is_floating_point and targets.dtype != torch.bool


def lengths_of(
    lengths: Lengths | None, mask: Tensor | np.ndarray | None, steps: int, batch: int, batch_first: bool = False
) -> Tensor | None:
    """Steps of each sample, [batch], int64, or None where all are whole. lengths: [batch]; or mask: [T, batch] (with
    batch_first [batch, T]), true at the steps of a sample, which begins at the first one.

    Raises ValueError where both are given, for another shape, lengths outside 1 … T, and masks with gaps.
    """
    if lengths is not None and mask is not None:
        raise ValueError("lengths and mask say the same: give one of them")
    if mask is not None:
        true = torch.as_tensor(mask)
        if true.dtype.is_floating_point and not bool(((true == 0) | (true == 1)).all()):
            raise ValueError("mask must be true or false at each step, 1 or 0; it holds other numbers")
        true = true.bool()
        true = true.T if batch_first and true.ndim == 2 else true
        if true.shape != (steps, batch):
            order = "[batch, T]" if batch_first else "[T, batch]"
            raise ValueError(f"mask has shape {tuple(torch.as_tensor(mask).shape)}, expected {order}")
        found = true.sum(0)
        if not torch.equal(true, torch.arange(steps, device=true.device)[:, None] < found):
            raise ValueError("mask must be true from the first step of a sample to its last: series have no gaps")
    elif lengths is not None:
        found = torch.as_tensor(lengths)
        if found.dtype.is_floating_point or found.shape != (batch,):
            swapped = found.shape == (steps,) and not batch_first
            hint = "; if the batch stands in front, say batch_first=True" if swapped else ""
            raise ValueError(
                f"lengths must be {batch} whole numbers, one for each sample of the batch, got {found.dtype} of shape "
                f"{tuple(found.shape)}{hint}"
            )
    else:
        return None
    if not bool(((found >= 1) & (found <= steps)).all()):
        wrong = found[(found < 1) | (found > steps)][0]
        raise ValueError(f"lengths must lie between 1 and the {steps} steps of the inputs, got {int(wrong)}")
    return found.long()
