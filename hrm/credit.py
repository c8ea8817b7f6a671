"""Where the gradients of a training step come from, with one face: autograd under a strategy of `hrm.gradients`, or
errors that modules send back themselves.

    learned = credit(model, slots, shown, puzzle, update)   one segment; `update` moves the weights by their gradients

Autograd moves them once, at the end of the segment. Local errors are there in every small step, and so may be the
updates. In a small step z_L and z_H move, the heads compare z_H with the target, and errors (−∂E/∂ of whatever they
are at) pass backwards once through H and once through L:

    e_H = from the heads + ε · what came back to z_H in the step before       through H → e at H's input
    e_L = e at H's input + ε · what came back to z_L in the step before       through L → e at L's input, and so at x̃

With ε = 0 that is the one-step gradient of the present step (times τ in a module that leaks: its error is one of what
the module computes, not of the share by which z moves there); with ε = 1, at a fixed point of a contractive model,
errors relax to those of the implicit gradient, (I − Jᵀ)⁻¹ v.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from hrm import act
from hrm.act import Halting, Shown, Slots
from hrm.gradients import Strategy, run
from hrm.layers import wide, widest
from hrm.losses import LOSSES, Losses, losses, marks, stable
from hrm.model import HRM, Carry, Output, Pytree, detach

Gradient = tuple[Tensor, Tensor]  # of a parameter
Update = Callable[[float], None]  # moves the weights by their `.grad`, at this share of the segment


class Learned(NamedTuple):
    """What a segment led to."""

    carry: Carry
    out: Output
    losses: Losses
    errors: Pytree  # of the slots, for the next segment


class Credit(Protocol):
    q_weight: float  # of the Q-head's losses

    def at_rest(self, model: HRM, slots: int) -> Pytree:
        """Errors of slots that begin with a puzzle; tensors with the slots in front."""

    def __call__(self, model: HRM, slots: Slots, shown: Shown, puzzle: Tensor, update: Update) -> Learned:
        """One segment of all slots, and what is learned from it. puzzle: identities [slots], or the puzzles' own
        embeddings, a leaf [slots, d], whose `.grad` is found, too."""


@dataclass
class Ahead:
    """A further segment, from symbols to answers, that nobody learns from."""

    model: HRM

    def forward(self, carry: Carry, x: Tensor, puzzle: Tensor) -> Output:
        return self.model.read_out(run(self.model, carry, self.model.embed(x, puzzle), 0, self.model.config.steps))


Look = Callable[[Carry, Tensor, Tensor], Output]  # `Ahead.forward`, compiled or not


def looked_ahead(ahead: Look, carry: Carry, slots: Slots, puzzle: Tensor, halting: Halting) -> Tensor | None:
    """The target of q_continue, for which a further segment is run; None where it does not learn."""
    if not (halting.learned and halting.q_continue):
        return None
    with torch.no_grad():
        last = slots.segments + 1 >= halting.halt_max_steps
        return act.continue_value(last, ahead(carry, slots.x, puzzle))


@dataclass
class Autograd:
    """By autograd, as a strategy says. forward: the strategy's segment; ahead: a further one; compiled or not."""

    forward: Callable[..., tuple[Carry, Output, Any]]
    ahead: Look
    loss: str
    q_weight: float
    halting: Halting
    bf16: bool = False

    def at_rest(self, model: HRM, slots: int) -> Pytree:
        return ()

    def __call__(self, model: HRM, slots: Slots, shown: Shown, puzzle: Tensor, update: Update) -> Learned:
        with torch.autocast(slots.x.device.type, torch.bfloat16, enabled=self.bf16):
            carry, out, _ = self.forward(slots.carry, shown, puzzle)
            carry = detach(carry)
            following = looked_ahead(self.ahead, carry, slots, puzzle, self.halting)
        y = shown.step(model.config.steps - 1).y
        l = losses(out, y, LOSSES[self.loss], following, self.q_weight)
        l.total.backward()
        update(1.0)
        return Learned(carry, Output(*(t.detach() for t in out)), l._replace(total=l.total.detach()), ())


@dataclass
class Segment:
    """A segment from symbols to answers, whose gradients come back as a strategy says."""

    strategy: Strategy
    model: HRM

    def forward(self, carry: Carry, shown: Shown, puzzle: Tensor) -> tuple[Carry, Output, Any]:
        new, report = self.strategy(self.model, carry, shown.embedded(self.model, puzzle))
        return new, self.model.read_out(new), report


# -- local errors ----------------------------------------------------------------------------------------------------


class Waiting(NamedTuple):
    """Errors that a slot carries on."""

    L: Tensor  # what came back to z_L, and to z_H through L's injection, [slots, length, d]
    H: Tensor  # what came back to z_H through H
    v_L: tuple[Tensor, ...] = ()  # of error neurons with a memory
    v_H: tuple[Tensor, ...] = ()


@dataclass
class Local:
    """By the errors that the modules send back themselves (`hrm.local`); a module without any is differentiated by
    autograd within the present step. L, H: those of the model, see `side`. ahead: a segment for the Q-head's target.

    target: "always", or at the "end" of a segment alone. plasticity: an update at each small "step", or one for the sum
    over a "segment". epsilon: ε. gain: what keeps the errors that come back from growing: those of each "puzzle" or
    "token" are scaled down to the size of the fresh ones, or "none".

    control: what could explain the same. "frozen": L and H do not learn; "shuffled": they get the errors of another
    puzzle of the batch (of the same process); "cut": no error from H to L, which then does not learn, nor do
    embeddings; "own head": z_L is taught by `model.own_head` in place of H.

    watch: is told the errors that reach z_L and z_H in each step, [slots, length, d]; None for those of a module that
    gets none.
    """

    L: Sided
    H: Sided
    ahead: Look
    loss: str
    q_weight: float
    halting: Halting
    epsilon: float = 0.0
    gain: str = "puzzle"
    target: str = "always"
    plasticity: str = "step"
    control: str = "none"
    watch: Callable[[Tensor | None, Tensor | None], None] | None = None

    def at_rest(self, model: HRM, slots: int) -> Pytree:
        c = model.config
        zero = model.output_head.weight.new_zeros(slots, c.states, c.d)
        return Waiting(zero, zero.clone(), self.L.errors_at_rest(slots), self.H.errors_at_rest(slots))

    @torch.no_grad()
    def __call__(self, model: HRM, slots: Slots, shown: Shown, puzzle: Tensor, update: Update) -> Learned:
        c, L, H = model.config, self.L, self.H
        carry, waiting = slots.carry, slots.errors
        from_H = waiting.H  # what H's input hands to z_L, until H is updated again
        sums: dict[Tensor, Tensor] = {}
        seen_L: Any = None
        seen_H: Any = None
        for i in range(c.steps):
            seen_L = seen_H = None  # what was present is not kept
            last, due = i == c.steps - 1, model.is_due(i)
            now = shown.step(i)
            x = now.embedded(model, puzzle)
            new_L, seen_L = L.act(carry.L, model.H.read(carry.H) + x)
            new_H, seen_H = H.act(carry.H, model.L.read(new_L)) if due else (carry.H, None)
            carry = Carry(new_L, new_H)
            if not (last or self.target == "always"):
                continue
            found: list[Gradient] = []
            e_L: Tensor | None = None
            e_H: Tensor | None = None
            if seen_H is not None:
                out = model.read_out(carry)
                following = looked_ahead(self.ahead, carry, slots, puzzle, self.halting) if last else None
                e_out = output_errors(out, now.y, self.loss, following, self.q_weight)
                fresh, found = head_errors(model, model.H.read(carry.H), e_out)
                if self.control == "shuffled":
                    fresh = fresh.roll(1, 0)
                e_H = fresh + self._returning(waiting.H + waiting.L, fresh)
                from_H, own, v_H = H.respond(seen_H, e_H, waiting.v_H)
                found += self._moving(own)
                waiting = waiting._replace(H=from_H, v_H=v_H)
            if self.control == "own head":
                from_H, own = self._by_own_head(model, model.L.read(new_L), now.y)
                found += own
            if self.control != "cut":
                e_L = from_H + self._returning(waiting.L, from_H)
                back, own, v_L = L.respond(seen_L, e_L, waiting.v_L)
                found += self._moving(own) + embedding_gradients(model, now.x, puzzle, back)
                waiting = waiting._replace(L=back, v_L=v_L)
            if self.watch:
                self.watch(e_L, e_H)
            for p, g in found:
                sums[p] = sums[p] + g if p in sums else g
            if last or self.plasticity == "step":
                for p, g in sums.items():
                    p.grad = g
                sums.clear()
                update((i + 1) / c.steps)
        return Learned(carry, out, losses(out, now.y, LOSSES[self.loss], following, self.q_weight), waiting)

    def _moving(self, gradients: list[Gradient]) -> list[Gradient]:
        return [] if self.control == "frozen" else gradients

    def _by_own_head(self, model: HRM, z_L: Tensor, labels: Tensor) -> tuple[Tensor, list[Gradient]]:
        """The errors of an answer that is read from z_L, and the gradient of the head that reads it."""
        head, front = model.own_head.weight, int(bool(model.config.puzzles))
        zero = z_L.new_zeros(len(z_L))
        e = output_errors(Output(z_L[:, front:] @ head.mT, zero, zero), labels, self.loss, None, 0.0).logits
        fresh, gradient = through_head(head, z_L, e)
        return fresh, [gradient]

    def _returning(self, e: Tensor, fresh: Tensor) -> Tensor:
        """ε times what came back, no larger than the fresh errors."""
        if self.epsilon == 0:
            return torch.zeros_like(e)
        e = self.epsilon * e
        if self.gain == "none":
            return e
        over = (-2, -1) if self.gain == "puzzle" else -1
        own, most = (t.norm(dim=over, keepdim=True) for t in (e, fresh))
        return e * (most / own.clamp_min(torch.finfo(e.dtype).tiny)).clamp(max=1.0)


class Sided(Protocol):
    """A module whose errors come back, step by step."""

    def act(self, carry: Pytree, injection: Tensor) -> tuple[Pytree, Any]: ...
    def errors_at_rest(self, batch: int) -> tuple[Tensor, ...]: ...
    def respond(
        self, activity: Any, e: Tensor, v: tuple[Tensor, ...]
    ) -> tuple[Tensor, list[Gradient], tuple[Tensor, ...]]: ...


def side(module: Any, compiled: Callable[[Callable[..., Any]], Callable[..., Any]] | None = None) -> Sided:
    """The module itself, its steps compiled by `compiled` where there is such; or autograd in its place."""
    if not hasattr(module, "respond"):
        return Differentiated(module)
    return Side(module, compiled) if compiled else module


class Side:
    """A module whose steps are compiled."""

    def __init__(self, module: Any, compiled: Callable[[Callable[..., Any]], Callable[..., Any]]):
        self.act, self.respond = compiled(module.act), compiled(module.respond)
        self.errors_at_rest = module.errors_at_rest


class Differentiated:
    """A module whose input is the sum of z and injection, with autograd within one step in place of errors of its
    own: those of what it computes, not of the share by which z moves there."""

    def __init__(self, module: Any):
        self.module, self.share = module, getattr(module, "damping", 1.0)

    def act(self, carry: Pytree, injection: Tensor) -> tuple[Pytree, Any]:
        with torch.enable_grad():
            leaf = injection.detach().requires_grad_()
            new = self.module(carry, leaf)
        return detach(new), (leaf, self.module.read(new))

    def errors_at_rest(self, batch: int) -> tuple[Tensor, ...]:
        return ()

    def respond(
        self, activity: Any, e: Tensor, v: tuple[Tensor, ...]
    ) -> tuple[Tensor, list[Gradient], tuple[Tensor, ...]]:
        (leaf, z), e = activity, e / self.share
        weights = [p for p in self.module.parameters() if p.requires_grad]
        back, *grads = torch.autograd.grad(z, [leaf, *weights], e, allow_unused=True)
        back = torch.zeros_like(e) if back is None else back
        return back, [(p, -g / len(e)) for p, g in zip(weights, grads, strict=True) if g is not None], ()


# -- the output's errors, and what heads and embeddings learn from theirs ----------------------------------------------


def output_errors(out: Output, labels: Tensor, loss: str, q_continue: Tensor | None, q_weight: float) -> Output:
    """−∂/∂ of each row's part of `losses.losses`, at the logits and at both values of the Q-head."""
    marked = marks(out, labels)
    asked = marked.asked
    share = (asked / asked.sum(-1, keepdim=True).clamp(min=1)).unsqueeze(-1)
    target = torch.zeros_like(out.logits).scatter_(-1, labels.clamp(min=0).unsqueeze(-1), 1.0)
    logits = share.to(out.logits) * ERRORS[loss](out.logits, target)
    halt = q_weight * (marked.correct.to(out.q_halt) - out.q_halt.sigmoid())
    onward = torch.zeros_like(halt) if q_continue is None else q_weight * (q_continue - out.q_continue.sigmoid())
    return Output(logits, halt, onward)


def softmax_error(logits: Tensor, target: Tensor) -> Tensor:
    return target - wide(logits).softmax(-1).to(logits)


def stablemax_error(logits: Tensor, target: Tensor) -> Tensor:
    """s′(x) (target/s − 1/Σs), with s of `losses.stable`, whose slope s′ is s² below zero and one above."""
    x = widest(logits)
    s = stable(x)
    slope = torch.where(x < 0, s.square(), 1.0)
    return (slope * (target / s - 1 / s.sum(-1, keepdim=True))).to(logits)


ERRORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"softmax": softmax_error, "stablemax": stablemax_error}


def through_head(weight: Tensor, z: Tensor, e: Tensor) -> tuple[Tensor, Gradient]:
    """The errors at z that errors e of an answer's logits become, zero at the puzzle's own position, and the gradient
    of the head that reads it: error times rate, averaged over the batch."""
    front = z.shape[1] - e.shape[1]
    fresh = torch.zeros_like(z)
    fresh[:, front:] = e @ weight
    return fresh, (weight, -e.flatten(0, 1).mT @ z[:, front:].flatten(0, 1) / len(z))


def head_errors(model: HRM, z_H: Tensor, e: Output) -> tuple[Tensor, list[Gradient]]:
    """The fresh errors at z_H, and the gradients of both heads."""
    q, e_q = model.q_head, torch.stack([e.q_halt, e.q_continue], -1).to(z_H)
    fresh, answer = through_head(model.output_head.weight, z_H, e.logits)
    fresh[:, 0] += e_q @ q.weight
    return fresh, [answer, (q.weight, -e_q.mT @ z_H[:, 0] / len(z_H)), (q.bias, -e_q.mean(0))]


def embedding_gradients(model: HRM, x: Tensor, puzzle: Tensor, e: Tensor) -> list[Gradient]:
    """Of the embeddings, from the errors at x̃: each symbol's row takes what arrives where the symbol stands."""
    c, batch = model.config, len(x)
    e = -math.sqrt(c.d) / batch * e
    found: list[Gradient] = []
    if c.positions != "rope":
        e = math.sqrt(0.5) * e
        found.append((model.position_embedding.weight, e.sum(0)))
    if c.puzzles:
        if puzzle.is_floating_point():
            found.append((puzzle, e[:, 0]))
        e = e[:, 1:]
    symbols = torch.zeros(*x.shape, c.vocabulary, dtype=e.dtype, device=e.device).scatter_(-1, x.unsqueeze(-1), 1.0)
    return [*found, (model.embedding.weight, symbols.flatten(0, 1).mT @ e.flatten(0, 1))]
