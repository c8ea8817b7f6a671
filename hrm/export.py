"""Trained models for other programs: one segment as an ONNX file.

hrm.export.to_onnx("segment.onnx", hrm.load("….pt"))
"""

from __future__ import annotations

import importlib
import os
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import keystr, tree_flatten, tree_flatten_with_path, tree_unflatten

from hrm.gradients import run
from hrm.model import HRM
from hrm.weights import Reasoner


class _Segment(nn.Module):
    """Carry in, carry and answers out, as a function of tensors alone."""

    def __init__(self, model: HRM):
        super().__init__()
        self.model = model
        with torch.no_grad():
            found, self.structure = tree_flatten_with_path(model.initial(1))
        self.names = [f"carry{keystr(key)}" for key, _ in found]
        self.first = [t.detach().clone() for _, t in found]

    def forward(self, start: Tensor, x: Tensor, carry: list[Tensor], puzzle: Tensor | None = None) -> Any:
        """start: [batch], which rows begin with their first segment, whatever their carry."""
        begun = [
            torch.where(start.view(-1, *(1,) * (b.ndim - 1)), a, b) for a, b in zip(self.first, carry, strict=True)
        ]
        model = self.model
        after = run(model, tree_unflatten(begun, self.structure), model.embed(x, puzzle), 0, model.config.steps)
        return *model.read_out(after), tree_flatten(after)[0]


def to_onnx(path: Path | str, model: HRM | Reasoner) -> None:
    """Writes one segment, in float32, whole or not at all, as an ONNX file, for a batch of any size.

    model: an `HRM`, or what `hrm.load` gives. Inputs: start [batch], true where a puzzle begins; x [batch, length], its
    symbols; the carry, one tensor for each of its parts; and, for a model with puzzle identities, puzzle [batch].
    Outputs: logits [batch, length, vocabulary], q_halt and q_continue [batch] (logits), and the carry after, each
    called next_….

    Raises ValueError for another kind of model; ImportError without the packages onnx and onnxscript (the extra
    "onnx"); OSError where the file cannot be written.
    """
    for name in ("onnx", "onnxscript"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ImportError(f"this needs the package {name}: pip install 'gle-toolkit[onnx]'") from error
    model = model.model if isinstance(model, Reasoner) else model
    if not isinstance(model, HRM):
        raise ValueError(f"an HRM, or what hrm.load gives, can be written, not a {type(model).__name__}")
    segment, training = _Segment(model), model.training
    device = model.output_head.weight.device
    rows = torch.zeros(2, dtype=torch.long, device=device)
    carry = [t.expand(2, *t.shape[1:]).clone() for t in segment.first]
    given: tuple[Any, ...] = (rows > 0, rows.unsqueeze(1).repeat(1, model.config.length), carry)
    batch = {0: torch.export.Dim("batch")}
    shapes: tuple[Any, ...] = (batch, batch, [batch for _ in carry])
    names = ["start", "x", *segment.names]
    if model.config.puzzles:
        given, shapes, names = (*given, rows), (*shapes, batch), [*names, "puzzle"]
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the exporter's own, of what it uses itself
            program = torch.onnx.export(
                segment.eval(), given, dynamo=True, verbose=False, dynamic_shapes=shapes, input_names=names,
                output_names=["logits", "q_halt", "q_continue", *(f"next_{name}" for name in segment.names)],
            )  # fmt: skip
    finally:
        model.train(training)
    assert program is not None
    _write_whole(Path(path), program.model_proto.SerializeToString())


def _write_whole(path: Path, content: bytes) -> None:
    """As gle.files does, of which this package takes nothing."""
    half = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(half, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(half, path)
    except BaseException:
        half.unlink(missing_ok=True)
        raise
