"""Deep supervision and adaptive computation: segments that follow each other, and when to stop.

A batch has slots. Each slot holds one puzzle with its carry; a training step runs one segment of all slots, and a slot
whose puzzle has halted takes the next one. Slots do not know of each other: each draws its puzzles, and its
exploration, from a random stream of its own, named by (seed, slot, number of the draw). So a run divided among
processes is the run of one process, and all that must be saved is a number per slot.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from hrm.gradients import run
from hrm.layers import wide
from hrm.model import HRM, Carry, Output, Pytree
from hrm.tasks.task import Task


@dataclass
class Halting:
    """When a slot is done with its puzzle.

    Args:
        halt_max_steps: most segments of a puzzle (M_max).
        exploration: probability that a puzzle must take at least 2 … M_max segments, drawn evenly.
        learned: halt where q_halt > q_continue; else after M_max segments, but for `Training.until_right`.
        q_continue: learn the value of going on, for which a further segment looks ahead; else halting is learned
            alone, and happens where q_halt > 0.
        at_evaluation: halt while evaluating, too; else all M_max segments are run.
    """

    halt_max_steps: int = 16
    exploration: float = 0.1
    learned: bool = True
    q_continue: bool = True
    at_evaluation: bool = False

    def check(self) -> None:
        if self.halt_max_steps < 1:
            raise ValueError(f"halt_max_steps must be at least 1, got {self.halt_max_steps}")
        if not 0 <= self.exploration <= 1:
            raise ValueError(f"exploration is a probability, got {self.exploration:g}")


class Slots(NamedTuple):
    """All that goes from one training step to the next besides the weights. Tensors have the slots in front."""

    carry: Carry
    segments: Tensor  # run so far with the puzzle at hand
    least: Tensor  # segments that it must have (M_min)
    done: Tensor  # bool: the slot waits for a puzzle
    drawn: Tensor  # puzzles drawn so far, int64
    x: Tensor  # [slots, length]
    y: Tensor
    puzzle: Tensor  # identities
    errors: Pytree = ()  # of modules that send them back themselves, for the next segment


class Shown(NamedTuple):
    """What a segment is fed with."""

    x: Tensor  # symbols [batch, length], or of each step, [steps, batch, length]
    y: Tensor  # what is asked, alike
    noise: Tensor | None = None  # on x̃ of each step, [steps, batch, states, d]

    def embedded(self, model: HRM, puzzle: Tensor) -> Tensor:
        """x̃ of the whole segment."""
        x = model.embed(self.x, puzzle)
        return x if self.noise is None else x + self.noise

    def step(self, i: int) -> Shown:
        """The same of step i alone."""
        x, y = (t[i] if t.ndim == 3 else t for t in (self.x, self.y))
        return Shown(x, y, None if self.noise is None else self.noise[i])


def shown_in(task: Task, x: Tensor, y: Tensor, segment: Tensor, steps: int) -> Shown:
    """What is shown of puzzles x, y [batch, length] in the segment [batch], counted from 0, of so many steps."""
    if not task.bit_by_bit:
        return Shown(x, y)
    each = [task.shown(x, y, segment * steps + i) for i in range(steps)]
    return Shown(*(torch.stack(parts) for parts in zip(*each, strict=True)))


def begun(model: HRM, errors: Pytree, x: Tensor, y: Tensor, puzzle: Tensor) -> Slots:
    """Slots with puzzles of which no segment has been run. errors: at rest."""
    zeros = torch.zeros(len(x), dtype=torch.long, device=x.device)
    # stride 0 is not for carries that are written to
    carry = tree_map(lambda t: t.clone(), model.initial(len(x)))
    return Slots(carry, zeros, zeros + 1, zeros > 0, zeros.clone(), x, y, puzzle, errors)


def stream(seed: int, slot: int, draw: int, part: int = 0) -> np.random.Generator:
    """The random stream of one draw of one slot; part: 1, 2, … for the noise of its segments."""
    return np.random.Generator(np.random.Philox(key=[seed, slot], counter=[0, 0, part, draw]))


def wants_to_halt(out: Output, halting: Halting) -> Tensor:
    return out.q_halt > (out.q_continue if halting.q_continue else 0)


def minimum(halting: Halting, rng: np.random.Generator) -> int:
    """M_min of a puzzle: mostly 1; with probability ε one of 2 … M_max."""
    explores = rng.random() < halting.exploration
    return int(rng.integers(2, halting.halt_max_steps + 1)) if explores and halting.halt_max_steps > 1 else 1


def advance(slots: Slots, carry: Carry, out: Output, halting: Halting, right: Tensor | None = None) -> Slots:
    """After a segment that led to `carry` and `out`: which slots are done. right [slots]: those whose answer asks for
    no further segment."""
    segments = slots.segments + 1
    may = segments >= slots.least
    done = segments >= halting.halt_max_steps
    if halting.learned:
        done = done | (wants_to_halt(out, halting) & may)
    if right is not None:
        done = done | (right & may)
    return slots._replace(carry=carry, segments=segments, done=done)


@torch.no_grad()
def continue_value(last: Tensor, following: Output) -> Tensor:
    """Target of q_continue [batch]: what the next segment holds, max(q_halt, q_continue) as a probability, or q_halt
    alone where there is none after it. last: the segment just run was the last one."""
    best = torch.maximum(following.q_halt, following.q_continue)
    return torch.where(last, following.q_halt, best).sigmoid()


def select(where: Tensor, new: Pytree, old: Pytree) -> Pytree:
    """Rows of `new` where `where` [batch] holds, of `old` elsewhere."""
    return tree_map(lambda a, b: torch.where(where.view(-1, *[1] * (a.ndim - 1)), a, b), new, old)


class Reached(NamedTuple):
    """After a segment, of all rows; those that have stopped keep what they had."""

    out: Output
    used: Tensor  # [batch], segments
    residual: Tensor  # [batch], how far the last of these moved z, see `moved`


def moved(model: HRM, before: Carry, after: Carry) -> Tensor:
    """The residual of each row, [batch]: ‖z − z of a segment before‖ / ‖z‖, of z_L and z_H as one."""
    old, new = (torch.cat([wide(m.read(c)).flatten(1) for m, c in zip((model.L, model.H), carry, strict=True)], 1)
                for carry in (before, after))  # fmt: skip
    return (new - old).norm(dim=1) / new.norm(dim=1)


def _at(rows: Tensor, all: Tensor, own: Tensor) -> Tensor:
    """All, with what is these rows' own."""
    return all.index_copy(0, rows, own)


@torch.no_grad()
def solve(
    model: HRM, x: Tensor, puzzle: Tensor | None, segments: int, halting: Halting | None = None,
    task: Task | None = None, settled: float = 0.0, draw: int = 0,
) -> Iterator[Reached]:  # fmt: skip
    """Runs segments as in evaluation, and yields what each led to. A row that stops keeps its answer, and costs nothing
    from then on: with `halting`, when it has halted; with `settled`, when its residual is smaller than that. task:
    needed where puzzles are shown bit by bit. draw: of a random z0, see `HRM.initial`."""
    carry, embedded = model.initial(len(x), draw=draw), model.embed(x, puzzle)
    rows = torch.arange(len(x), device=x.device)  # that go on
    now: Reached | None = None
    for i in range(segments):
        if len(rows):
            if task is not None and task.bit_by_bit:
                shown = shown_in(task, x[rows], x[rows], torch.full_like(rows, i), model.config.steps)
                embedded = model.embed(shown.x, None if puzzle is None else puzzle[rows])
            before, carry = carry, run(model, carry, embedded, 0, model.config.steps)
            found = Reached(model.read_out(carry), torch.full_like(rows, i + 1), moved(model, before, carry))
            now = found if now is None else tree_map(partial(_at, rows), now, found)
            stops = found.residual < settled
            if halting is not None:
                stops = stops | wants_to_halt(found.out, halting)
            if bool(stops.any()):
                left = torch.nonzero(~stops)[:, 0]
                rows, embedded = rows[left], embedded.index_select(-3, left)
                carry = tree_map(partial(torch.index_select, dim=0, index=left), carry)
        assert now is not None
        yield now
