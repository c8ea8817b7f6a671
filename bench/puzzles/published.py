"""The published HRM: its sizes and rates (`reasoner`), and its training step as the published code is reported to take
it (`Published`), which `bench.hrm_speed` times ours against.

One forward pass in which batches go on or begin, the look ahead for the Q-head, losses, backward, AdamATan2. It works
on the parameters of an `hrm.HRM`, with formulas of its own, and nothing of it is there for speed but what is reported
of that code, too: q, k, v in one product, gate and up in one product, PyTorch's attention, torch.compile over all of
the forward pass, and an optimiser that moves many tensors in one call.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hrm.act import Halting
from hrm.layers import Attention, Block, SwiGLU
from hrm.model import HRM, Blocks, Config
from hrm.optim import AdamATan2
from hrm.tasks.task import IGNORE, Task
from hrm.train import Compile, Trainer, Training

LR, WEIGHT_DECAY = 1e-4, 0.1


def reasoner(
    config: Config, task: Task, batch: int, device: str, gradient: str = "one_step", compile: Compile | None = None
) -> Trainer:
    """Ours, with the published training."""
    training = Training(
        batch=batch, steps=10**6, lr=LR, weight_decay=WEIGHT_DECAY, warmup=2000, final=1.0, gradient=gradient,
        loss="stablemax", optimizer="adam_atan2", bf16=device != "cpu", halting=Halting(),
    )  # fmt: skip
    torch.manual_seed(0)
    return Trainer(HRM(config).to(device), task, training, compile=compile)


class State(NamedTuple):
    """Of all slots, between two steps."""

    z_H: Tensor  # [slots, length, d]
    z_L: Tensor
    steps: Tensor  # [slots]
    halted: Tensor
    x: Tensor  # [slots, length]
    y: Tensor


def rms_norm(x: Tensor) -> Tensor:
    wide = x.to(torch.float32)
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-5)).to(x.dtype)


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [slots, length, heads, size]."""
    wide = x.to(cos.dtype)
    first, second = wide[..., : x.shape[-1] // 2], wide[..., x.shape[-1] // 2 :]
    turned = torch.cat((-second, first), -1)
    return (wide * cos.unsqueeze(-2) + turned * sin.unsqueeze(-2)).to(x.dtype)


def attention(a: Attention, x: Tensor) -> Tensor:
    slots, length, d = x.shape
    qkv = F.linear(x, a.qkv.weight).view(slots, length, 3 * a.heads, d // a.heads)
    q, k, v = qkv[:, :, : a.heads], qkv[:, :, a.heads : 2 * a.heads], qkv[:, :, 2 * a.heads :]
    q, k = rotated(q, a.cos, a.sin), rotated(k, a.cos, a.sin)
    y = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
    return F.linear(y.transpose(1, 2).reshape(slots, length, d), a.out.weight)


def swiglu(m: SwiGLU, x: Tensor) -> Tensor:
    gate, up = F.linear(x, m.gate_up.weight).chunk(2, -1)
    return F.linear(F.silu(gate) * up, m.down.weight)


def module(blocks: Blocks, z: Tensor, injection: Tensor) -> Tensor:
    z = z + injection
    for block in blocks.blocks:
        assert isinstance(block, Block)
        assert isinstance(block.mixer, Attention)
        z = rms_norm(z + attention(block.mixer, z))
        z = rms_norm(z + swiglu(block.mlp, z))
    return z


def segment(model: HRM, z_H: Tensor, z_L: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """z_H, z_L, logits [slots, length, vocabulary] and Q values [slots, 2]."""
    c = model.config
    embedded = model.embedding(x) * c.d**0.5
    with torch.no_grad():
        for high in range(c.H_cycles):
            for low in range(c.L_cycles):
                if not (high == c.H_cycles - 1 and low == c.L_cycles - 1):
                    z_L = module(model.L, z_L, z_H + embedded)
            if high != c.H_cycles - 1:
                z_H = module(model.H, z_H, z_L)
    z_L = module(model.L, z_L, z_H + embedded)
    z_H = module(model.H, z_H, z_L)
    q = model.q_head(z_H[:, 0]).to(torch.float32)
    return z_H.detach(), z_L.detach(), F.linear(z_H, model.output_head.weight), q


def stablemax_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """[slots, length], nothing where nothing is asked."""
    wide = logits.to(torch.float64)
    s = torch.where(wide < 0, 1 / (1 - wide + 1e-30), wide + 1)
    log_p = torch.log(s / s.sum(-1, keepdim=True))
    asked = labels != IGNORE
    right = log_p.gather(-1, torch.where(asked, labels, 0).long().unsqueeze(-1)).squeeze(-1)
    return -torch.where(asked, right, 0)


class Published:
    """model: with attention, without puzzle identities. bf16: compute in bfloat16, as published. compile: what makes
    the forward pass fast, None for eager."""

    def __init__(
        self,
        model: HRM,
        slots: int,
        halting: Halting,
        lr: float,
        weight_decay: float,
        bf16: bool = False,
        compile: Compile | None = None,
    ):
        self.model, self.halting, self.bf16 = model, halting, bf16
        self.optimizer = AdamATan2(model.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=weight_decay)
        shape = (slots, model.config.length)
        z = model.output_head.weight.new_zeros(*shape, model.config.d)
        grid = torch.zeros(shape, dtype=torch.long, device=z.device)
        self.state = State(z, z, grid[:, 0], grid[:, 0] == 0, grid, grid)
        self.forward = compile(self._forward, z.device) if compile else self._forward

    def step(self, x: Tensor, y: Tensor) -> float:
        """x, y [slots, length]: for the slots that have halted. Returns the loss."""
        least = torch.randint(2, self.halting.halt_max_steps + 1, (len(x),), device=x.device)
        least = least * (torch.rand(len(x), device=x.device) < self.halting.exploration)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            self.state, loss = self.forward(self.state, x, y, least)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()

    def _forward(self, old: State, x: Tensor, y: Tensor, least: Tensor) -> tuple[State, Tensor]:
        model, most = self.model, self.halting.halt_max_steps
        begin = old.halted[:, None, None]
        z_H = torch.where(begin, model.H.z0, old.z_H)
        z_L = torch.where(begin, model.L.z0, old.z_L)
        x, y = torch.where(begin[..., 0], x, old.x), torch.where(begin[..., 0], y, old.y)
        z_H, z_L, logits, q = segment(model, z_H, z_L, x)
        steps = torch.where(old.halted, 0, old.steps) + 1
        with torch.no_grad():
            last = steps >= most
            halted = last | ((q[:, 0] > q[:, 1]) & (steps >= least))
            ahead = segment(model, z_H, z_L, x)[-1]
            target = torch.sigmoid(torch.where(last, ahead[:, 0], torch.maximum(ahead[:, 0], ahead[:, 1])))
            asked = y != IGNORE
            right = ((logits.argmax(-1) == y) & asked).sum(-1) == asked.sum(-1)
        cells = stablemax_cross_entropy(logits, y) / asked.sum(-1, keepdim=True).clamp(min=1)
        values = F.binary_cross_entropy_with_logits(q[:, 0], right.to(q.dtype))
        values = values + F.binary_cross_entropy_with_logits(q[:, 1], target)
        loss = cells.sum() / len(x) + 0.5 * values
        return State(z_H, z_L, steps, halted, x, y), loss
