"""Trained weights on disk, and puzzles of one's own answered with them.

    answer = hrm.load("runs/sudoku/<folder>/weights/0-best.pt").solve("1...  ..2.  .3..  ...4")
    print(answer)

A file holds all that this takes: the weights with the model's `Config`, how the task's puzzles are written
(`hrm.tasks.notation`), and when to halt.
"""

from __future__ import annotations

import zipfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from hrm.act import Halting
from hrm.checks import check_names, fits, from_plain, same_tensors
from hrm.model import HRM, MODULES, OF_NEURONS, Blocks, Config, SharedBlocks
from hrm.tasks import notation
from hrm.tasks.notation import NOTATIONS, Notation
from hrm.tasks.task import Grids, Task
from hrm.train import answer as answers_of

YOUNGER = ("modules", "damping", "z0", *OF_NEURONS)  # options that files of models without them do not name


def save(file: Path | str | BinaryIO, model: HRM, task: Task, halting: Halting, bf16: bool = False) -> None:
    """halting, bf16: as in training (`hrm.train.Training`).

    Raises ValueError for modules of one's own, which `load` could not make again, for a model of another task, and for
    one that is shown its puzzles bit by bit.
    """
    if task.bit_by_bit:
        raise ValueError(f"{task.name} is shown bit by bit, which a file of weights does not know: save the state_dict")
    ours = {"L": (Blocks,), "H": (Blocks, SharedBlocks)}
    neurons = MODULES[model.config.modules]  # which HRM makes by itself, too
    if not all(type(m) in ours[k] or (k in neurons and hasattr(m, "net")) for k, m in (("L", model.L), ("H", model.H))):
        raise ValueError("a file of weights is for a model of its own blocks: save the state_dict of other modules")
    if hasattr(model, "own_head"):
        raise ValueError("a file of weights has no place for own_head, a control's: delete it from the model first")
    fits(model, task)
    written = notation.of(task)
    contents = {
        "model": model.state_dict(),
        "config": asdict(model.config),
        "task": {"kind": written.kind, **asdict(written)},
        "halting": asdict(halting),
        "bf16": bf16,
    }
    for kind in (Config, Halting):  # what is no plain value could not be read again
        from_plain(kind, contents[kind.__name__.lower()], kind.__name__)
    torch.save(contents, file)


def load(path: Path | str, device: str = "cpu") -> Reasoner:
    """Raises ValueError, naming the file, where it is damaged or of another version."""
    try:
        found = _read(_contents(path))
    except (ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path} holds no weights of this version: {reason}") from None
    found.model.to(device)
    return found


def _contents(path: Path | str) -> Any:
    try:
        with zipfile.ZipFile(path) as parts:  # torch.load does not look at the checksums
            broken = parts.testzip()
        if broken is None:
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ValueError(error.strerror or error) from None
    except Exception as error:  # a damaged file leads to errors of any kind
        raise ValueError("it is damaged, or holds more than tensors and plain values") from error
    raise ValueError(f"its part {broken} is damaged")


def _read(saved: Any) -> Reasoner:
    check_names(saved, ("model", "config", "task", "halting", "bf16"), "entries")
    task = dict(saved["task"]) if isinstance(saved["task"], dict) else saved["task"]
    check_names(task, ("kind", *(f.name for f in fields(Notation))), "task")
    kind = task.pop("kind")
    if not isinstance(kind, str) or kind not in NOTATIONS:
        raise ValueError(f"task: kind = {kind!r} is none of {', '.join(NOTATIONS)}")
    if type(saved["bf16"]) is not bool:
        raise ValueError(f"bf16 = {saved['bf16']!r} is no bool")
    written = from_plain(NOTATIONS[kind], task, "task")
    halting = from_plain(Halting, saved["halting"], "halting")
    halting.check()
    given = saved["config"]
    if isinstance(given, dict):
        given = {**{name: getattr(Config, name) for name in YOUNGER}, **given}
    config = from_plain(Config, given, "config")
    with torch.random.fork_rng(devices=[]):  # its first weights are random, and replaced
        model = HRM(config)
    fits(model, written)
    same_tensors(model.state_dict(), saved["model"], "weights")
    model.load_state_dict(saved["model"])
    return Reasoner(model, written, halting, saved["bf16"])


@dataclass
class Reasoner:
    """A trained model, and how the puzzles of its task are written."""

    model: HRM
    notation: Notation
    halting: Halting
    bf16: bool = False

    def solve(self, puzzle: Any, segments: int = 0) -> Answer:
        """One puzzle of one's own, as `Notation.read` takes it: numbers or text. segments: how many at most; 0: as many
        as in training.

        Raises ValueError for a puzzle of another size, with unknown symbols, or that contradicts itself.
        """
        if segments < 0:
            raise ValueError(f"segments must be ≥ 0, got {segments}")
        if self.notation.puzzles:
            raise ValueError(
                f"a model of {self.notation.name} knows its {self.notation.puzzles} puzzles by their identities, and "
                "answers no other"
            )
        x = self.notation.read(puzzle)
        halting = self.halting
        how = halting if halting.at_evaluation else None
        found = answers_of(self.model, Grids(x[None], x[None]), segments or halting.halt_max_steps, how, bf16=self.bf16)
        symbols = found.symbols[: found.used[0], 0]
        with np.errstate(over="ignore"):
            sure = 1 / (1 + np.exp(-found.q_halt[: found.used[0], 0])) if halting.learned else None
        return Answer(
            self.notation.numbers(x), self.notation.numbers(symbols), sure, self.notation.judge(x, symbols[-1]),
            self.notation,
        )  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class Answer:
    """To one puzzle. Grids are numbers, as the task's puzzles are written; printed, it shows the last one."""

    puzzle: np.ndarray  # [height, width]
    steps: np.ndarray  # [segments, height, width], after each segment
    sure: np.ndarray | None  # [segments], how probable the model takes it to be right; None where it did not learn that
    checks: dict[str, bool]  # what is right about it, by the rules of the task
    notation: Notation

    @property
    def grid(self) -> np.ndarray:
        """The answer, [height, width]."""
        return self.steps[-1]

    def summary(self) -> str:
        """What is right, and how sure the model is, in a line."""
        told = [f"{what}: {'yes' if right else 'no'}" for what, right in self.checks.items()]
        if self.sure is not None:
            told.append(f"the model is {100 * self.sure[-1]:.0f} % sure")
        return ", ".join(told)

    def __str__(self) -> str:
        return "\n".join(filter(None, [self.notation.write(self.grid), self.summary()]))

    __repr__ = __str__
