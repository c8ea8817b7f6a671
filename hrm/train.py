"""Training with deep supervision: one segment of every slot, one update of the weights, at a time.

`Trainer.step` is a training step; `Trainer.state_dict` all that an exact continuation needs. Under `torchrun` each
process holds its share of the slots, and gradients are averaged: the loss curve is that of one process.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

import numpy as np
import torch
import torch.distributed as dist

# Its functions take the process group that exists when it is imported as their default, and PyTorch's optimisers import
# it. Imported before there is one, it does not keep the group's threads alive after destroy_process_group, where they
# could abort the process at its very end.
import torch.distributed.nn
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from hrm import act
from hrm.act import Halting, Slots
from hrm.checks import check_names, fits, same_tensors
from hrm.credit import Ahead, Autograd, Credit, Local, Segment, side
from hrm.gradients import strategy
from hrm.layers import widest
from hrm.losses import LOSSES
from hrm.model import HRM, Blocks, SharedBlocks
from hrm.optim import OPTIMIZERS, Average, learning_rate, sign_sgd
from hrm.tasks.task import IGNORE, Grids, Task

LOCAL = "local"
CONTROLS = ("none", "frozen", "shuffled", "cut", "own head")
WAYS = ("one carry", "least residual", "vote", "verifier")  # to an answer from several restarts
BY_FAULTS = ("as it stands", "fewest faults", "vote", "verifier")  # … by faults, from several segments and views
GAINS, TARGETS, PLASTICITIES = ("none", "puzzle", "token"), ("always", "end"), ("step", "segment")


@dataclass
class Training:
    """How the weights are learned.

    Args:
        batch: slots, over all processes.
        steps: training steps, of one segment each.
        gradient: one_step, last k, last_cycle, bptt, neumann k, damped k, implicit; or local: errors that the modules
            send back themselves, step by step (see `hrm.credit.Local`, whose options the next four are).
        epsilon: ε of the errors that come back to z_L and z_H in the next step; 0 cuts them there.
        gain: what keeps those from growing: none, or the size of the fresh errors of each puzzle or token.
        target: shown to the output always, or at the end of a segment.
        plasticity: an update at each step, or one a segment for their sum.
        control: of comparisons: none; frozen, shuffled, cut or own head (see `hrm.credit.Local`).
        loss: softmax or stablemax.
        q_weight: of the Q-head's losses beside the answer's.
        optimizer: adam_atan2 or adamw.
        lr: after warm-up.
        warmup: steps over which the rate rises.
        final: rate at the end, as a share of lr; 1 keeps it constant after warm-up.
        beta1: of the optimiser.
        beta2: of the optimiser.
        weight_decay: decoupled.
        puzzle_lr: of the puzzles' embeddings, after warm-up; those of the puzzles at hand learn by sign-SGD.
        puzzle_weight_decay: of those, decoupled.
        noise: standard deviation of the noise on x̃ in each step (path noise); none in evaluation, nor in the segment
            that q_continue looks ahead. x̃ of all steps of a segment is then held at once.
        average: decay of averaged weights, with which the model is evaluated; 0 for none. Puzzles' embeddings are not
            averaged.
        clip: largest norm of the gradient, without that of the puzzles' embeddings; 0 for none.
        until_right: a puzzle that is answered rightly makes room for the next, once it has had the segments that
            `halting.exploration` asks for; else all do when they halt.
        refill: "keep" each row for the next slot that is free, or as published "drop" the row of each slot that is not.
        bf16: compute in bfloat16; weights stay in float32.
    """

    batch: int = 128
    steps: int = 3000
    gradient: str = "one_step"
    epsilon: float = 0.0
    gain: str = "puzzle"
    target: str = "always"
    plasticity: str = "step"
    control: str = "none"
    loss: str = "softmax"
    q_weight: float = 0.5
    optimizer: str = "adam_atan2"
    lr: float = 1e-3
    warmup: int = 100
    final: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.1
    puzzle_lr: float = 1e-2
    puzzle_weight_decay: float = 0.1
    noise: float = 0.0
    average: float = 0.0
    clip: float = 0.0
    until_right: bool = False
    refill: str = "keep"
    bf16: bool = False
    halting: Halting = field(default_factory=Halting)

    def check(self) -> None:
        """Raises ValueError with the value and what it must be."""
        for name in ("batch", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.batch % world():
            raise ValueError(f"batch = {self.batch} must divide among {world()} processes")
        for name, known in (("loss", LOSSES), ("optimizer", OPTIMIZERS), ("refill", ("keep", "drop"))):
            if getattr(self, name) not in known:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}; choose one of {', '.join(known)}")
        positive = ("lr", "warmup", "q_weight", "weight_decay", "puzzle_lr", "puzzle_weight_decay", "clip", "final",
                    "noise")  # fmt: skip
        for name in positive:
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be ≥ 0, got {getattr(self, name):g}")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name):g}")
        if not 0 <= self.average < 1:
            raise ValueError(f"average must lie in [0, 1), got {self.average:g}")
        for name, choices in (
            ("gain", GAINS), ("target", TARGETS), ("plasticity", PLASTICITIES), ("control", CONTROLS),
        ):  # fmt: skip
            if getattr(self, name) not in choices:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}; choose one of {', '.join(choices)}")
        if not 0 <= self.epsilon <= 1:
            raise ValueError(f"epsilon must lie in [0, 1], got {self.epsilon:g}")
        if self.gradient != LOCAL:
            own = ("epsilon", "gain", "target", "plasticity", "control")
            if changed := [name for name in own if getattr(self, name) != getattr(Training, name)]:
                raise ValueError(
                    f"{changed[0]} is an option of gradient = 'local', not of {self.gradient!r}: leave out one of both"
                )
            strategy(self.gradient)
        elif self.bf16:
            raise ValueError("local errors are not for bfloat16: leave out bf16, or choose another gradient")
        self.halting.check()


def world() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


class Compile(Protocol):
    """What makes a function of tensors on `device` fast, as `gle.compiling.compiled` does."""

    def __call__(self, function: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
        """The same function, compiled."""
        ...


class Trainer:
    """A model that learns a task.

    seed: of the data's order, augmentation and exploration (that of the weights is whatever drew them). compile: what
    the segment is compiled with; None leaves it as it is.

    Raises ValueError for options and grids out of range, and for a model of other sizes than the task's.
    """

    def __init__(self, model: HRM, task: Task, o: Training, seed: int = 0, compile: Compile | None = None):
        o.check()
        task.check()
        early = [name for name, on in (("halting.learned", o.halting.learned), ("until_right", o.until_right)) if on]
        if task.bit_by_bit and early:
            raise ValueError(
                f"{task.name} is shown bit by bit, and nothing can halt before it is whole: set {early[0]} = false"
            )
        for split in (task.train, task.validation, task.test):
            fits(model, task, split)
        self.model, self.task, self.o, self.seed, self.steps = model, task, o, seed, 0
        self.device = model.output_head.weight.device
        self.credit = self._credit(compile)
        # A step moves the embeddings of the puzzles in its batch; to move those of all would take longer than the rest.
        self.table = model.puzzle_embedding.weight if model.config.puzzles else None
        self.weights = [p for p in model.parameters() if p is not self.table and p.requires_grad]
        self.optimizer = OPTIMIZERS[o.optimizer](
            self.weights, lr=o.lr, betas=(o.beta1, o.beta2), weight_decay=o.weight_decay
        )
        self.average = Average(model, o.average, () if self.table is None else [self.table]) if o.average else None
        own = o.batch // world()
        self.own = range(rank() * own, (rank() + 1) * own)  # slots of this process
        self.slots = self._waiting(own)
        self._orders: dict[int, tuple[int, np.ndarray]] = {}

    def _credit(self, compile: Compile | None) -> Credit:
        o = self.o
        if o.control == "own head" and not hasattr(self.model, "own_head"):
            raise ValueError("control = 'own head' needs model.own_head, a Linear(d, vocabulary) that reads z_L")
        q_weight = o.q_weight if o.halting.learned else 0.0
        fast = (lambda f: compile(f, self.device)) if compile else None
        look = Ahead(self.model).forward
        ahead = fast(look) if fast else look
        if o.gradient == LOCAL:
            self._check_local()
            sides = side(self.model.L, fast), side(self.model.H, fast)
            return Local(
                *sides, ahead, o.loss, q_weight, o.halting, o.epsilon, o.gain, o.target, o.plasticity, o.control
            )
        forward = Segment(strategy(o.gradient), self.model).forward
        return Autograd(fast(forward) if fast else forward, ahead, o.loss, q_weight, o.halting, o.bf16)

    def _check_local(self) -> None:
        """Raises ValueError for a model that local errors do not suit."""
        o, modules = self.o, (self.model.L, self.model.H)
        if self.model.config.digits > 1:
            raise ValueError(
                f"local errors do not go through mixer = {self.model.config.mixer!r}: choose another of both"
            )
        if any(isinstance(m, SharedBlocks) for m in modules):
            raise ValueError("local errors are for modules with weights of their own: leave out shared")
        if o.epsilon and not all(hasattr(m, "respond") or isinstance(m, Blocks) for m in modules):
            raise ValueError(
                "epsilon is for modules whose input is the sum of z and injection, as blocks and gle modules are: "
                "leave it out for modules of your own"
            )
        if o.control == "shuffled" and o.batch // world() < 2:
            raise ValueError("control = 'shuffled' needs two slots in each process: raise batch")

    def _waiting(self, slots: int) -> Slots:
        grid = torch.zeros(slots, self.task.length, dtype=torch.long, device=self.device)
        errors = self.credit.at_rest(self.model, slots)
        waiting = act.begun(self.model, errors, grid, grid.clone(), grid[:, 0].clone())
        return waiting._replace(done=~waiting.done)

    # -- data ----------------------------------------------------------------------------------------------------

    def refill(self, slots: Slots) -> Slots:
        """The next puzzle for each slot that is done, from the slot's own stream: its rows come in an order of its own,
        shuffled anew for each pass."""
        train, o = self.task.train, self.o
        done = slots.done.cpu().numpy()
        beginning: list[np.random.Generator | None] = [None] * len(done)
        drawn = slots.drawn.cpu().numpy().copy()
        x, y, puzzle, least = (t.cpu().numpy().copy() for t in (slots.x, slots.y, slots.puzzle, slots.least))
        for i in np.flatnonzero(done) if o.refill == "keep" else range(len(done)):
            if done[i]:
                draw = int(drawn[i])
                epoch, place = divmod(draw, len(train))
                row = self._order(self.own[i], epoch)[place]
                rng = act.stream(self.seed, self.own[i], draw)
                x[i], y[i], puzzle[i] = self.task.draw(row, rng)
                least[i] = act.minimum(o.halting, rng)
                beginning[i] = rng
            drawn[i] += 1
        where = slots.done
        new = (torch.from_numpy(a).to(self.device) for a in (least, drawn, x, y, puzzle))
        carry = act.select(where, self.model.initial(len(done), beginning), slots.carry)
        errors = act.select(where, self.credit.at_rest(self.model, len(done)), slots.errors)
        return slots._replace(
            carry=carry, errors=errors, segments=slots.segments * ~where, done=torch.zeros_like(where),
            **dict(zip(("least", "drawn", "x", "y", "puzzle"), new, strict=True)),
        )  # fmt: skip

    def _order(self, slot: int, epoch: int) -> np.ndarray:
        """Order of the rows in a slot's pass over the training set."""
        if self._orders.get(slot, (-1, None))[0] != epoch:
            order = np.random.default_rng([self.seed, slot, epoch]).permutation(len(self.task.train))
            self._orders[slot] = epoch, order
        return self._orders[slot][1]

    # -- a step --------------------------------------------------------------------------------------------------

    def step(self) -> dict[str, float]:
        """One segment, one update. Returns what a log wants: of this process, but for `loss`, which is everybody's.

        Raises FloatingPointError where the loss is not finite.
        """
        o = self.o
        slots = self.refill(self.slots)
        # the embeddings of the puzzles at hand are leaves of their own, whose gradient is as small as they are
        puzzle = slots.puzzle if self.table is None else self.table.detach()[slots.puzzle].requires_grad_()
        self.optimizer.zero_grad()
        shown = act.shown_in(self.task, slots.x, slots.y, slots.segments, self.model.config.steps)
        if o.noise:
            shown = shown._replace(noise=self._noise(slots))
        carry, out, l, errors = self.credit(
            self.model, slots, shown, puzzle, lambda share: self._update(slots, puzzle, share)
        )
        asked = (shown.step(self.model.config.steps - 1).y != IGNORE).any(-1)
        right = l.correct & asked
        self.slots = act.advance(slots, carry, out, o.halting, right if o.until_right else None)
        self.slots = self.slots._replace(errors=errors)
        self.steps += 1
        loss = widest(l.total)
        if dist.is_initialized():
            dist.all_reduce(loss)
            loss /= world()
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is not finite after step {self.steps}: lower lr or set clip")
        finished = self.slots.done
        number = max(int(finished.sum()), 1)
        return {
            "loss": loss.item(),
            "cells": l.cells.mean().item(),
            "exact": right.sum().item() / max(int(asked.sum()), 1),
            "finished_exact": (l.correct & finished).sum().item() / number,
            "segments": (self.slots.segments * finished).sum().item() / number,
            "lr": self.optimizer.param_groups[0]["lr"],
        }

    def _noise(self, slots: Slots) -> Tensor:
        """Of each step of the segment, [steps, slots, states, d], from streams of the slots' own."""
        c = self.model.config
        shape = (c.steps, c.states, c.d)
        draws, parts = (slots.drawn - 1).tolist(), (slots.segments + 1).tolist()
        rngs = (act.stream(self.seed, *own) for own in zip(self.own, draws, parts, strict=True))
        noise = np.stack([rng.standard_normal(shape, dtype=np.float32) for rng in rngs], 1)
        return self.o.noise * torch.from_numpy(noise).to(self.model.output_head.weight)

    def _update(self, slots: Slots, puzzle: Tensor, share: float) -> None:
        """Moves the weights by their `.grad`, at this share of the step's segment."""
        o = self.o
        self._share_gradients()
        if o.clip:
            torch.nn.utils.clip_grad_norm_(self.weights, o.clip)
        now, puzzle_lr = (
            learning_rate(max(self.steps + share - 1, 0), lr=lr, warmup=o.warmup, steps=o.steps, final=o.final)
            for lr in (o.lr, o.puzzle_lr)
        )
        for group in self.optimizer.param_groups:
            group["lr"] = now
        # feedback that follows its weights takes their steps and their decay: what differs decays
        followed = [pair for m in (self.model.L, self.model.H) for pair in getattr(m, "followed", ())]
        followed = [(W, B) for W, B in followed if W.grad is not None]
        apart = [(B - W.detach()) * (1 - now * o.weight_decay) for W, B in followed]
        self.optimizer.step()
        for (W, B), difference in zip(followed, apart, strict=True):
            B.copy_(W.detach() + difference)
        if self.table is not None and puzzle.grad is not None:
            # of all processes; signs are those of the sum as of the mean
            sign_sgd(self.table, _gathered(slots.puzzle), _gathered(puzzle.grad), puzzle_lr, o.puzzle_weight_decay)
            puzzle.data.copy_(self.table[slots.puzzle])  # a segment may go on with them
        if self.average:
            self.average.update(self.model)

    def fit(
        self, steps: int | None = None, callback: Callable[[Trainer, dict[str, float]], Any] | None = None
    ) -> dict[str, float]:
        """Steps until `Training.steps` of them are done, or `steps` more. callback: called after each one with the
        trainer and the row of `step`; where it returns True, training ends early. Returns the last row.

        Raises ValueError where no step is left, FloatingPointError where the loss is not finite.
        """
        left = self.o.steps - self.steps if steps is None else steps
        if left < 1:
            raise ValueError(f"no step is left: {self.steps} of {self.o.steps} are done; give steps to go on")
        for _ in range(left):
            row = self.step()
            if callback is not None and callback(self, row) is True:
                break
        return row

    def _share_gradients(self) -> None:
        if dist.is_initialized():
            for p in self.weights:
                if p.grad is not None:
                    dist.all_reduce(p.grad)
                    p.grad /= world()

    # -- evaluation ------------------------------------------------------------------------------------------------

    @property
    def evaluated(self) -> HRM:
        """The model that is evaluated: with averaged weights where there are such."""
        return self.average.model if self.average else self.model  # type: ignore[return-value]

    def evaluate(self, grids: Grids, segments: int | None = None, batch: int = 0) -> dict[str, Any]:
        return evaluate(self.evaluated, self.task, grids, self.o.halting, segments, batch, self.o.bf16)

    # -- saving ------------------------------------------------------------------------------------------------------

    def save(self, file: Path | str | BinaryIO) -> None:
        """The weights that are evaluated, with all that answering takes: for `hrm.load`. See `hrm.weights.save`."""
        from hrm import weights  # which answers with what this module has

        weights.save(file, self.evaluated, self.task, self.o.halting, self.o.bf16)

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimiser, averaged weights, and the slots of all processes, as they are now: a copy, on the CPU."""
        leaves, _ = tree_flatten(self.slots)
        moments = self.optimizer.state_dict()["state"]  # of parameters that had a gradient
        indices = range(sum(len(group["params"]) for group in self.optimizer.param_groups))
        state = {
            "steps": self.steps,
            "model": self.model.state_dict(),
            "optimizer": {"kind": self.o.optimizer, "state": {i: moments.get(i, {}) for i in indices}},
            "average": self.average.model.state_dict() if self.average else None,
            "slots": [_gathered(t) for t in leaves],  # in a list: torch.load(weights_only=True) takes no NamedTuple
        }
        copies: dict[tuple[int, torch.Size], Tensor] = {}  # what is shared, as puzzles' embeddings are, is copied once

        def copied(t: Any) -> Any:
            if not isinstance(t, Tensor):
                return t
            where = t.data_ptr(), t.shape
            if where not in copies:
                copies[where] = t.detach().to("cpu", copy=True)
            return copies[where]

        return tree_map(copied, state)

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Goes on from there, with any number of processes, under this trainer's own options: rates, decay and clipping
        are those of its `Training`, cycles, damping and z0 those of its model.

        Raises ValueError where `saved` is damaged, or of another model, kind of optimiser or number of slots; nothing
        has changed then.
        """
        try:
            self._compare(saved)
        except ValueError as error:
            raise ValueError(f"the checkpoint does not fit this model or training: {error}") from None
        self.model.load_state_dict(saved["model"])
        if self.average:
            self.average.model.load_state_dict(saved["average"])
        groups = self.optimizer.state_dict()["param_groups"]
        moments = copy.deepcopy(saved["optimizer"]["state"])  # the optimiser would go on with these very tensors
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        own = slice(self.own.start, self.own.stop)
        _, spec = tree_flatten(self.slots)
        self.slots = tree_unflatten([t[own].to(self.device, copy=True) for t in saved["slots"]], spec)
        self.steps = saved["steps"]

    def _compare(self, saved: Mapping[str, Any]) -> None:
        """Raises ValueError unless `load_state_dict` can take all of it."""
        check_names(saved, ("steps", "model", "optimizer", "average", "slots"), "entries")
        if type(saved["steps"]) is not int or saved["steps"] < 0:
            raise ValueError(f"steps = {saved['steps']!r} is no number of steps")
        same_tensors(self.model.state_dict(), saved["model"], "weights")
        for name, own in self.model.state_dict().items():
            if name.endswith(("tau_m", "tau_r")) and not torch.equal(own.cpu(), saved["model"][name].cpu()):
                raise ValueError(f"{name} has other time constants")
        if (saved["average"] is None) != (self.average is None):
            raise ValueError("averaged weights on one side only")
        if self.average:
            same_tensors(self.average.model.state_dict(), saved["average"], "averaged weights")
        self._compare_optimizer(saved["optimizer"])
        leaves, _ = tree_flatten(self.slots)
        found = saved["slots"]
        if not isinstance(found, list) or len(found) != len(leaves) or not all(isinstance(t, Tensor) for t in found):
            raise ValueError("carries of another kind")
        for t, own in zip(found, leaves, strict=True):
            number = len(t) if t.ndim else 0
            if number != self.o.batch:
                raise ValueError(f"{number} slots, not {self.o.batch}")
            same_tensors({"part": own[:1]}, {"part": t[:1]}, "slots")

    def _compare_optimizer(self, saved: Mapping[str, Any]) -> None:
        check_names(saved, ("kind", "state"), "optimizer")
        if saved["kind"] != self.o.optimizer:
            raise ValueError(f"it is of optimizer {saved['kind']!r}, not {self.o.optimizer!r}")
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        check_names(saved["state"], range(len(parameters)), "moments of parameters")
        kept = _kept_by(self.o.optimizer)
        for i, p in enumerate(parameters):
            if saved["state"][i] != {}:
                expected = {name: p if t.ndim else t for name, t in kept.items()}
                same_tensors(expected, saved["state"][i], f"moments of parameter {i}")


def _kept_by(optimizer: str) -> dict[str, Tensor]:
    """What an optimiser keeps of a parameter, as it does of one number: moments have the parameter's shape."""
    p = torch.zeros(1, requires_grad=True)
    p.grad = torch.zeros(1)
    one = OPTIMIZERS[optimizer]([p], lr=0.0, betas=(0.0, 0.0), weight_decay=0.0)
    one.step()
    return one.state[p]


def _gathered(t: Tensor) -> Tensor:
    t = t.contiguous()
    if not dist.is_initialized():
        return t.clone()
    parts = [torch.empty_like(t) for _ in range(world())]
    dist.all_gather(parts, t)
    return torch.cat(parts)


class Answers(NamedTuple):
    """What a model answered after each segment; of several tries, the answers that were taken."""

    symbols: np.ndarray  # [segments, n, cells], of the smallest integers that hold the vocabulary
    q_halt: np.ndarray  # [segments, n], logits: how sure it is
    used: np.ndarray  # [n], segments, of all tries together
    each: np.ndarray  # symbols of each try, a view from a restart, [tries, segments, n, cells]
    taken: np.ndarray  # try and segment of the answers that were taken, [2, segments, n]


@torch.no_grad()
def answers(
    model: HRM, grids: Grids, segments: int, halting: Halting | None = None, batch: int = 0, bf16: bool = False,
    task: Task | None = None, settled: float = 0.0, restarts: int = 1, by_faults: bool = False, views: int = 1,
) -> Iterator[tuple[Grids, Answers]]:  # fmt: skip
    """All rows of grids, a batch at a time (of fewer rows where a cell has several states); 0: as many as are fast.
    task: needed where puzzles are shown bit by bit, and for faults.

    With `halting`, a row that has halted keeps its answer; so does, with `settled`, one whose residual has become less
    than that (see `hrm.act.solve`). restarts: each puzzle is answered from so many random z0; after each segment the
    answer that still moves least is taken, which needs nobody who knows what is right. by_faults: in place of it the
    answer with fewest faults (`Task.faults`) of this and all segments before; of equal ones the first try's latest.
    views: each puzzle is then answered in so many of its images (`Task.view`), too, from each restart.

    Raises ValueError for grids of other sizes than the model's, for restarts of a model that begins at a fixed z0, for
    a task that knows no faults, and for more views than there are.
    """
    fits(model, grids=grids)
    check_evaluation(model.config.z0, settled, restarts, by_faults, views, task)
    device = model.output_head.weight.device
    vocabulary = model.config.vocabulary
    if by_faults and task is None:
        raise ValueError("by_faults: faults are what a task knows: give task, too")
    batch = max(1, batch // model.config.digits) if batch else rows_at_once(model, device)
    tries = list(itertools.product(range(views), range(restarts)))
    small = torch.uint8 if vocabulary <= 2**8 else torch.int16 if vocabulary <= 2**15 else torch.int32
    for i in range(0, len(grids), batch):
        part = grids[i : i + batch]
        puzzle = torch.from_numpy(part.puzzle.astype(np.int64)).to(device)
        tried: list[list[Tensor]] = []
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            for view, draw in tries:
                seen = task.view(part.x, view) if task is not None and view else part.x
                x = torch.from_numpy(seen.astype(np.int64)).to(device)
                solving = act.solve(model, x, puzzle, segments, halting, task, settled, draw)
                # of each segment; its logits are not held
                found = ((out.logits.argmax(-1).to(small), out.q_halt.float(), used, res) for out, used, res in solving)
                tried.append([torch.stack(each) for each in zip(*found, strict=True)])
        each, q_halt, used, residual = (torch.stack(t).cpu().numpy() for t in zip(*tried, strict=True))
        if task is not None and by_faults:
            found_by = zip(tries, each, strict=True)
            each = np.stack([[task.back(a, view) if view else a for a in found] for (view, _), found in found_by])
            taken = fewest(np.stack([[task.faults(part.x, a) for a in found] for found in each]))
        else:
            taken = np.stack([residual.argmin(0), np.broadcast_to(np.arange(segments)[:, None], residual.shape[1:])])
        chosen = (*taken, np.arange(len(part)))
        yield part, Answers(each[chosen], q_halt[chosen], used[:, -1].sum(0), each, taken)


def fewest(faults: np.ndarray) -> np.ndarray:
    """After each segment, the try and the segment so far with fewest faults: [tries, segments, n] → [2, segments, n].
    Of equal ones the first try, and its latest segment."""
    so_far = np.minimum.accumulate(faults, 1)
    segments = np.arange(faults.shape[1])[:, None]
    latest = np.maximum.accumulate(np.where(faults == so_far, segments, 0), 1)
    first = so_far.argmin(0)
    return np.stack([first, np.take_along_axis(latest, first[None], 0)[0]])


def rows_at_once(model: HRM, device: torch.device) -> int:
    """How many rows make a batch of answers: on a CPU as many as its caches hold the states of, elsewhere more."""
    c = model.config
    most = 512 // c.digits
    return max(1, min(most, 2**19 // (c.states * c.d)) if device.type == "cpu" else most)


def check_evaluation(
    z0: str, settled: float, restarts: int, by_faults: bool = False, views: int = 1, task: Task | None = None
) -> None:
    """Raises ValueError with the value and what it must be. task: whose faults and views they are, where that is
    known."""
    if not 0 <= settled < math.inf:
        raise ValueError(f"settled must be ≥ 0, got {settled:g}")
    if restarts < 1:
        raise ValueError(f"restarts must be at least 1, got {restarts}")
    if views < 1:
        raise ValueError(f"views must be at least 1, got {views}")
    if task is not None and views > task.views:
        raise ValueError(f"views = {views}, but {task.name} has {task.views}: lower views")
    if by_faults and task is not None and type(task).faults is Task.faults:
        raise ValueError(f"by_faults: {task.name} knows no faults of an answer: leave it out")
    if views > 1 and not by_faults:
        raise ValueError(f"views = {views}: among their answers faults decide: set by_faults, too")
    if restarts > 1 and z0 != "random":
        raise ValueError(f"restarts = {restarts} needs a model that begins elsewhere each time: set z0 = random")


def answer(
    model: HRM, grids: Grids, segments: int, halting: Halting | None = None, batch: int = 0, bf16: bool = False,
    settled: float = 0.0, restarts: int = 1,
) -> Answers:  # fmt: skip
    """The same, of all rows in one."""
    parts = (found for _, found in answers(model, grids, segments, halting, batch, bf16, None, settled, restarts))
    rows = (1, 1, 0, 2, 2)  # the axis that they are on
    return Answers(*(np.concatenate(p, axis) for p, axis in zip(zip(*parts, strict=True), rows, strict=True)))


def voted(each: np.ndarray) -> np.ndarray:
    """The answer that most tries gave, of those the one that came first: [tries, n, cells] → [n, cells]."""
    same = (each[:, None] == each[None]).all(-1).sum(1)  # [tries, n], how many gave this one
    return np.take_along_axis(each, same.argmax(0)[None, :, None], 0)[0]


def evaluate(
    model: HRM, task: Task, grids: Grids, halting: Halting, segments: int | None = None, batch: int = 0,
    bf16: bool = False, settled: float = 0.0, restarts: int = 1, by_faults: bool = False, views: int = 1,
) -> dict[str, Any]:  # fmt: skip
    """Which answers are right after each segment.

    segments: how many (M_max of evaluation; default: that of training). settled, restarts, by_faults, views: see
    `answers`.
    Returns {"curve": {measure: [segments]}, "rows": {measure: bool [segments, n]}, "used": mean number of segments, of
    all tries together}: shares, and each row's own.

    Of several restarts, without by_faults, that is of the answers whose residual was least; "restarts" has beside them
    {measure: {way: share after the last segment}}: one carry (the mean of all), least residual, vote (the answer that
    most gave), and verifier (any of them is right, as one would know who can tell). By faults, "faults" has: as it
    stands (the first try's last answer), fewest faults, vote (of the tries' last answers), verifier (any answer of any
    segment); and "alone" is the curve of the first try's answers as they stand.

    Raises ValueError for a model of other sizes than the task's, and what `answers` refuses.
    """
    fits(model, task, grids)
    how = halting if halting.at_evaluation else None
    most = segments or halting.halt_max_steps
    scores: dict[str, list[np.ndarray]] = {}
    alone: dict[str, list[np.ndarray]] = {}
    beside: dict[str, list[np.ndarray]] = {}
    used = 0
    for part, found in answers(model, grids, most, how, batch, bf16, task, settled, restarts, by_faults, views):
        # all answers at once may not fit the memory
        of_each = [[task.scores(part, a) for a in tried] for tried in found.each]
        # one try has nobody to outvote it
        by_vote = task.scores(part, voted(found.each[:, -1])) if len(of_each) > 1 else of_each[0][-1]
        for k, vote in by_vote.items():
            right = np.array([[each[k] for each in tried] for tried in of_each])  # [tries, segments, n]
            taken = right[(*found.taken, np.arange(len(part)))]
            one, any_ = (right[0, -1], right.any((0, 1))) if by_faults else (right[:, -1].mean(0), right[:, -1].any(0))
            scores.setdefault(k, []).append(taken)
            alone.setdefault(k, []).append(right[0])
            beside.setdefault(k, []).append(np.stack([one, taken[-1], vote, any_]))
        used += int(found.used.sum())
    rows = {k: np.concatenate(parts, 1) for k, parts in scores.items()}
    result = {"curve": {k: v.mean(1).tolist() for k, v in rows.items()}, "rows": rows, "used": used / len(grids)}
    ways = {k: np.concatenate(parts, 1).mean(1).tolist() for k, parts in beside.items()}
    if by_faults:
        result["faults"] = {k: dict(zip(BY_FAULTS, shares, strict=True)) for k, shares in ways.items()}
        result["alone"] = {k: np.concatenate(parts, 1).mean(1).tolist() for k, parts in alone.items()}
    elif restarts > 1:
        result["restarts"] = {k: dict(zip(WAYS, shares, strict=True)) for k, shares in ways.items()}
    return result
