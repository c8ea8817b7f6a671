"""Puzzles whose clues arrive one after the other and are gone again, so that they must be remembered.

task = Arriving(sudoku, clues=2, steps=2)     two clues for two steps, then the next two, …, then none
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hrm.tasks.task import IGNORE, Grids, Task


class Arriving(Task):
    """A task's puzzles as a stream. Clues come in reading order; all other cells are blank meanwhile.

    of: the task, whose cells without a clue hold `Task.blank`. clues: at a time. steps: for which they stay. at_end:
    nothing is asked until the last clues have come; else the whole answer, all the time.

    Raises ValueError for numbers below one.
    """

    def __init__(self, of: Task, clues: int = 2, steps: int = 2, at_end: bool = False):
        if min(clues, steps) < 1:
            raise ValueError(f"clues and steps must be at least 1, got {clues} and {steps}")
        super().__init__(f"{of.name}, clue by clue", of.height, of.width, of.vocabulary)
        self.of, self.clues, self.steps, self.at_end = of, clues, steps, at_end
        for name in ("symbols", "measure", "blank", "zero", "puzzles"):
            setattr(self, name, getattr(of, name))
        self.train, self.validation, self.test = of.train, of.validation, of.test

    def draw(self, row: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, int]:
        return self.of.draw(row, rng)

    def scores(self, grids: Grids, answers: np.ndarray) -> dict[str, np.ndarray]:
        return self.of.scores(grids, answers)

    def shown(self, x: Tensor, y: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        is_clue = x != self.blank
        turn = (is_clue.cumsum(-1) - 1) // self.clues  # of each clue
        now = (step // self.steps).unsqueeze(-1)
        if self.at_end:
            last = (is_clue.sum(-1, keepdim=True) - 1) // self.clues
            y = torch.where(now >= last, y, IGNORE)
        return torch.where(is_clue & (turn == now), x, self.blank), y
