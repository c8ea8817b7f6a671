"""The Hierarchical Reasoning Model: two coupled modules on two timescales.

    z_L ← L(z_L, z_H + x̃)    every step
    z_H ← H(z_H, z_L)         every L_cycles-th step, with the z_L just found

One *segment* is H_cycles · L_cycles such steps. Behind it stand the output head, which reads z_H at every position, and
the Q-head, which reads it at the first.

With the mixer "units" a cell has a state for each digit, and all digits share their weights. Then x̃ says of a candidate
(a digit in a cell) which symbol without a digit stands there, or that another digit or this one does; an answer's logit
is read from each candidate by one vector, and the Q-head reads the mean of all.

How gradients come back through a segment is the business of `hrm.gradients`, how segments follow each other that of
`hrm.act`.

L and H are exchangeable (`Module`): anything with a carry of its own, fed with an injection, whose carry can be read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from hrm.layers import MIXERS, Block, Linear, truncated_normal, wide
from hrm.tasks.sudoku import boxes

if TYPE_CHECKING:
    from hrm.act import Halting
    from hrm.tasks.task import Task

Pytree = Any
POSITIONS = ("rope", "learned", "both")
MODULES = {"blocks": "", "gle": "LH", "gle L": "L", "gle H": "H"}  # which of L and H are networks of neurons
OF_NEURONS = ("tau_L", "tau_H", "errors", "inner_tau", "inner_errors", "feedback")  # options of those alone
ERRORS = ("instantaneous", "relaxing", "prospective")
FEEDBACKS = ("transpose", "fixed_random", "kolen_pollack")
BEGINNINGS = ("fixed", "random")


class Module(Protocol):
    """What stands as L or H. A carry is any pytree of tensors with the batch in front.

    z is [batch, states, d] (`Config.states`: one state for each cell, or more). In a model with z0 = "random" a module
    also has `begin(z)`: the carry before the first step, standing at z. One of which z goes a share of its way in a
    step has that share as `damping`.
    """

    def initial(self, batch: int) -> Pytree:
        """The carry before the first step."""
        ...

    def __call__(self, carry: Pytree, injection: Tensor) -> Pytree:
        """One step: carry and injection [batch, states, d] in, new carry out."""
        ...

    def read(self, carry: Pytree) -> Tensor:
        """What the other module and the heads see of a carry: z [batch, states, d]."""
        ...


class Carry(NamedTuple):
    """What goes from step to step, and from segment to segment."""

    L: Pytree
    H: Pytree


class Output(NamedTuple):
    logits: Tensor  # [batch, length, vocabulary]
    q_halt: Tensor  # [batch], logits
    q_continue: Tensor  # [batch]


@dataclass
class Config:
    """Sizes and cycles; the defaults are the published ones.

    Args:
        vocabulary: symbols of input and output.
        length: positions, the flattened grid.
        columns: of the grid; for convolutions and units.
        d: width of z_L, z_H and x̃.
        heads: of attention.
        H_layers: blocks of the H-module.
        L_layers: blocks of the L-module.
        H_cycles: updates of H in a segment (N in the paper).
        L_cycles: updates of L for each of H (T in the paper).
        expansion: of SwiGLU.
        multiple: the inner width of SwiGLU is rounded up to a multiple of this.
        mixer: attention, or mlp between positions, or conv: a convolution of the grid, with 3 × 3 cells; or units: the
            rows, columns, boxes and cells of a Sudoku, with a state for each digit of a cell and the same weights for
            all digits (see `hrm.layers.Units`).
        shared: one network for both modules; of L_layers blocks.
        positions: rope: attention sees distances (published); learned: an embedding of each position is added to x̃;
            or both.
        rope_theta: base of the rotary positions.
        puzzles: number of puzzle identities, each with an embedding as an additional first position; 0 for none.
        modules: of which L and H are made: "blocks" of layers, "gle" for networks of representation and error neurons
            with the same weights (see `hrm.local`), or "gle L" or "gle H" for one of them.
        damping: share of its way that z goes in a step, z ← z + damping (module(z) − z).
        z0: where z begins: fixed, the same vector for all puzzles and positions; or random, normal numbers drawn anew
            for each puzzle, position and feature (in evaluation, always the same ones).
        tau_L: time constant of z_L in steps, of gle modules.
        tau_H: of z_H.
        errors: their error neurons at z_L and z_H: instantaneous, relaxing or prospective.
        inner_tau: time constant of every other neuron that mixes positions; 1 for none.
        inner_errors: error neurons there.
        feedback: weights that errors come back through: transpose, fixed_random or kolen_pollack.
    """

    vocabulary: int = 11
    length: int = 81
    columns: int = 9
    d: int = 512
    heads: int = 8
    H_layers: int = 4
    L_layers: int = 4
    H_cycles: int = 2
    L_cycles: int = 2
    expansion: float = 4.0
    multiple: int = 256
    mixer: str = "attention"
    shared: bool = False
    positions: str = "rope"
    rope_theta: float = 10000.0
    puzzles: int = 0
    modules: str = "blocks"
    damping: float = 1.0
    z0: str = "fixed"
    tau_L: float = 1.0
    tau_H: float = 1.0
    errors: str = "instantaneous"
    inner_tau: float = 1.0
    inner_errors: str = "instantaneous"
    feedback: str = "transpose"

    @property
    def steps(self) -> int:
        """L updates in a segment, N · T."""
        return self.H_cycles * self.L_cycles

    @property
    def digits(self) -> int:
        """States of a cell: one for each digit where units mix, else one. Digits are the last symbols."""
        return self.columns if self.mixer == "units" else 1

    @property
    def states(self) -> int:
        """Positions of z: those of the cells, each with its digits; in front, the puzzle's own where there is one."""
        return self.length * self.digits + bool(self.puzzles)


class Blocks(nn.Module):
    """A stack of blocks as a `Module`: its carry is z itself, z ← blocks(z + injection)."""

    z0: Tensor

    def __init__(self, config: Config, layers: int, generator: torch.Generator | None = None):
        super().__init__()
        c = config
        self.shape, self.damping = (c.states, c.d), c.damping
        self.blocks = nn.Sequential(*(Block(MIXERS[c.mixer](c), c.d, c.expansion, c.multiple) for _ in range(layers)))
        self.register_buffer("z0", truncated_normal((c.d,), 1.0))  # fixed, the same at all positions

    def initial(self, batch: int) -> Tensor:
        return self.z0.expand(batch, *self.shape)

    def begin(self, z: Tensor) -> Tensor:
        return z

    def forward(self, carry: Tensor, injection: Tensor) -> Tensor:
        z = self.blocks(carry + injection)
        return z if self.damping == 1 else carry + self.damping * (z - carry)

    def read(self, carry: Tensor) -> Tensor:
        return carry


class HRM(nn.Module):
    """Input embedding, L, H, output head and Q-head. Other modules may be given in place of the blocks.

    Raises ValueError for sizes below one and unknown mixers.
    """

    own_head: nn.Linear  # reads z_L, where a comparison gives the model one (see `hrm.credit.Local`)

    def __init__(self, config: Config, L: Module | None = None, H: Module | None = None):
        super().__init__()
        c = config
        for name in ("vocabulary", "length", "d", "heads", "H_layers", "L_layers", "H_cycles", "L_cycles", "multiple"):
            if getattr(c, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(c, name)}")
        if c.mixer not in MIXERS:
            raise ValueError(f"unknown mixer {c.mixer!r}; choose one of {', '.join(MIXERS)}")
        if c.mixer == "conv" and (c.puzzles or c.columns < 1 or c.length % c.columns):
            raise ValueError(
                f"a convolution is for whole grids without puzzle identities, got {c.puzzles} puzzles, and "
                f"{c.length} cells in {c.columns} columns: choose another mixer"
            )
        if c.mixer == "units":
            _check_units(c)
        if c.positions not in POSITIONS:
            raise ValueError(f"unknown positions {c.positions!r}; choose one of {', '.join(POSITIONS)}")
        for name, known in (
            ("modules", MODULES), ("errors", ERRORS), ("inner_errors", ERRORS), ("feedback", FEEDBACKS),
            ("z0", BEGINNINGS),
        ):  # fmt: skip
            if getattr(c, name) not in known:
                raise ValueError(f"unknown {name} {getattr(c, name)!r}; choose one of {', '.join(known)}")
        for name in ("tau_L", "tau_H", "inner_tau"):
            if not 1 <= getattr(c, name) < math.inf:
                raise ValueError(f"{name} must be at least one step, got {getattr(c, name):g}")
        if not 0 < c.damping <= 1:
            raise ValueError(f"damping must lie in (0, 1], got {c.damping:g}")
        if (L or H) and c.damping != 1:
            raise ValueError(f"damping = {c.damping:g} is for the model's own modules: leave it out, or L and H")
        if c.z0 == "random" and not all(hasattr(m, "begin") for m in (L, H) if m):
            raise ValueError('z0 = "random" needs modules that can `begin` anywhere (see `Module`)')
        neurons = MODULES[c.modules]
        for name in OF_NEURONS:
            side = name[-1] if name in ("tau_L", "tau_H") else ""
            if getattr(c, name) != getattr(Config, name) and (not neurons or side not in neurons):
                raise ValueError(f"{name} is an option of gle modules, not of modules = {c.modules!r}: leave out one")
        if c.inner_tau != 1 and c.mixer != "mlp":
            raise ValueError(f"inner_tau is for neurons that mix positions by mlp, not by {c.mixer}: leave it out")
        if neurons and (c.shared or L or H):
            raise ValueError(f"modules = {c.modules!r} makes L and H itself: leave out shared, and modules of your own")
        for name in ("expansion", "rope_theta"):
            if not 0 < getattr(c, name) < math.inf:
                raise ValueError(f"{name} must be positive, got {getattr(c, name):g}")
        self.config = c
        if c.puzzles:
            self.puzzle_embedding = nn.Embedding.from_pretrained(torch.zeros(c.puzzles, c.d), freeze=False)
        self.others = c.vocabulary - c.digits  # symbols that are no digits, before those that are
        seen, read = (self.others + 2, self.others + 1) if c.digits > 1 else (c.vocabulary, c.vocabulary)
        self.embedding = nn.Embedding(seen, c.d)
        if c.positions != "rope":
            self.position_embedding = nn.Embedding(c.states, c.d)
        own = Blocks(c, c.L_layers) if L is None else None
        self.L: Any = L or own
        if c.shared and (L or H):
            raise ValueError("shared is for the model's own blocks: give no modules besides")
        self.H: Any = H or (SharedBlocks(own) if c.shared and own else Blocks(c, c.H_layers))
        if neurons:
            from hrm import local  # which takes gle, and this module

            for which in neurons:
                setattr(self, which, local.module(getattr(self, which), c, which))
        self.output_head = Linear(c.d, read)
        self.q_head = nn.Linear(c.d, 2)
        with torch.no_grad():
            for embedding in (self.embedding, *([self.position_embedding] if c.positions != "rope" else [])):
                embedding.weight.copy_(truncated_normal(tuple(embedding.weight.shape), c.d**-0.5))
            self.q_head.weight.zero_()
            self.q_head.bias.fill_(-5)  # halting begins as something unlikely

    def n_parameters(self) -> int:
        """Without puzzle embeddings, and without time constants, which stay."""
        beside = ("puzzle_embedding.weight", "tau_m", "tau_r")
        return sum(p.numel() for name, p in self.named_parameters() if not name.endswith(beside))

    def save(self, file: Path | str | BinaryIO, task: Task, halting: Halting | None = None, bf16: bool = False) -> None:
        """Weights with all that answering takes, for `hrm.load`. task, halting, bf16: those it was trained with. See
        `hrm.weights.save`; `Trainer.save` knows them."""
        from hrm import weights  # whose models are of this class
        from hrm.act import Halting

        weights.save(file, self, task, halting or Halting(), bf16)

    # -- the pieces of a segment ---------------------------------------------------------------------------------

    def initial(self, batch: int, rows: Sequence[np.random.Generator | None] | None = None, draw: int = 0) -> Carry:
        """Before the first step. rows: what each row's random z0 is drawn from (None: not needed); without, all rows
        begin at the same one, of which there is one for each `draw`."""
        c = self.config
        if c.z0 == "fixed":
            return Carry(self.L.initial(batch), self.H.initial(batch))
        shape = (2, c.states, c.d)
        if rows is None:
            drawn = np.random.default_rng(draw).standard_normal((1, *shape), dtype=np.float32).repeat(batch, 0)
        else:
            drawn = np.zeros((len(rows), *shape), dtype=np.float32)
            for own, rng in zip(drawn, rows, strict=True):
                if rng is not None:
                    rng.standard_normal(dtype=np.float32, out=own)
        z_L, z_H = torch.from_numpy(drawn).to(self.output_head.weight).unbind(1)
        return Carry(self.L.begin(z_L), self.H.begin(z_H))

    def embed(self, x: Tensor, puzzle: Tensor | None = None) -> Tensor:
        """x̃: symbols [batch, length] (and puzzle identities [batch], or their embeddings [batch, d]) → [batch, states,
        d], of variance one. Of symbols that differ from step to step, [steps, batch, length]: x̃ of each step."""
        if x.ndim == 3:
            return torch.stack([self.embed(of_step, puzzle) for of_step in x])
        embedded = self.embedding(self._seen(x)) * math.sqrt(self.config.d)
        if self.config.puzzles:
            assert puzzle is not None
            own = puzzle if puzzle.is_floating_point() else self.puzzle_embedding(puzzle)
            embedded = torch.cat([own.unsqueeze(1) * math.sqrt(self.config.d), embedded], 1)
        if self.config.positions != "rope":
            embedded = (embedded + self.position_embedding.weight * math.sqrt(self.config.d)) * math.sqrt(0.5)
        return embedded

    def _seen(self, x: Tensor) -> Tensor:
        """What the embedding is of: symbols [batch, length], or what they are to each digit, [batch, length · digits]:
        a symbol without a digit, another digit, or this one."""
        if self.config.digits == 1:
            return x
        digits = torch.arange(self.others, self.config.vocabulary, device=x.device)
        x = x.unsqueeze(-1)
        return (x.clamp(max=self.others) + (x == digits)).flatten(1)

    def step(self, carry: Carry, x: Tensor, update_H: bool) -> Carry:
        """One update of L and, where it is due, one of H."""
        L = self.L(carry.L, self.H.read(carry.H) + x)
        return Carry(L, self.H(carry.H, self.L.read(L)) if update_H else carry.H)

    def is_due(self, step: int) -> bool:
        """Whether H is updated in step 0, 1, … of a segment."""
        return (step + 1) % self.config.L_cycles == 0

    def read_out(self, carry: Carry) -> Output:
        c, z_H = self.config, self.H.read(carry.H)
        q = wide(self.q_head(z_H[:, 0] if c.digits == 1 else z_H.mean(1)))
        logits = self.output_head(z_H[:, 1:] if c.puzzles else z_H)
        if c.digits > 1:  # of a digit from its own state, of other symbols from all states of the cell
            of_states = logits.unflatten(1, (c.length, c.digits))
            logits = torch.cat([of_states[..., :-1].mean(2), of_states[..., -1]], -1)
        return Output(logits, q[:, 0], q[:, 1])


def _check_units(c: Config) -> None:
    """Raises ValueError for a model that units cannot mix, or in which digits or cells would not be alike."""
    boxes(c.columns)
    if c.length != c.columns**2 or c.vocabulary <= c.columns:
        raise ValueError(
            f"mixer = 'units' is for Sudoku: of {c.columns} columns it has {c.columns**2} cells and {c.columns} digits "
            f"after at least one other symbol, got {c.length} cells and a vocabulary of {c.vocabulary}"
        )
    for name, needed in (("puzzles", 0), ("positions", "rope"), ("modules", "blocks")):
        if getattr(c, name) != needed:
            raise ValueError(
                f"mixer = 'units' has no {name} = {getattr(c, name)!r}: choose another mixer, or {name} = {needed!r}"
            )


class SharedBlocks(nn.Module):
    """The network of another module, with a beginning of its own."""

    z0: Tensor

    def __init__(self, other: Blocks):
        super().__init__()
        self.other = [other]  # a list: its parameters are counted once, where they are
        self.damping = other.damping
        self.register_buffer("z0", truncated_normal(tuple(other.z0.shape), 1.0))

    def initial(self, batch: int) -> Tensor:
        return self.z0.expand(batch, *self.other[0].shape)

    def begin(self, z: Tensor) -> Tensor:
        return z

    def forward(self, carry: Tensor, injection: Tensor) -> Tensor:
        return self.other[0](carry, injection)

    def read(self, carry: Tensor) -> Tensor:
        return carry


def detach(carry: Pytree) -> Pytree:
    return tree_map(lambda t: t.detach(), carry)
