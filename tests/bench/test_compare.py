"""The comparison of gradients of a stream, by hand."""

import dataclasses

import pytest
import torch
from torch.utils._pytree import tree_map

from bench import compare
from hrm.losses import LOSSES, losses

SMALL = compare.Compare(task="stream", d=8, layers=1, batch=4, puzzles=(24, 8, 8), probes=3)


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize("name", ["one-step, N·T = 1", "bptt"])
def test_a_row_s_gradient_of_a_stream(name, at_end):
    """The sum over the row's own segments, with what was carried on cut between them; beside it backpropagation through
    all sixteen steps.

    Prevents: rows that are compared with a gradient that they never take.
    """
    o = dataclasses.replace(SMALL, at_end=at_end)
    task = compare.task_of(o)
    trainer = compare.trainer_of(o, task, name, 0)
    model = trainer.model
    steps = model.config.steps
    carry, each = compare.at(o, task, model, 1, trainer.o.halting.halt_max_steps)
    assert steps * len(each) == compare.STREAM
    x, y = (torch.from_numpy(a[:3].astype("int64")) for a in (task.validation.x, task.validation.y))

    def walk(cut):
        model.zero_grad()
        z, total = carry, 0.0
        for step in range(compare.STREAM):
            now, asked = task.shown(x, y, torch.full((3,), step))
            z = model.step(z, model.embed(now), (step + 1) % model.config.L_cycles == 0)
            due = (step + 1) % (steps if cut else model.config.L_cycles) == 0
            if due:
                total = total + losses(model.read_out(z), asked, LOSSES["softmax"], None, 0.0).total
            if cut and due:
                z = tree_map(lambda t: t.detach(), z)
        total.backward()
        return compare.by_module(model)

    own, whole = compare.row_gradient(trainer, carry, each), compare.bptt_gradient(trainer, carry, each)
    for found, expected in ((own, walk(cut=True)), (whole, walk(cut=False))):
        for module in ("L", "H"):
            assert expected[module].norm() > 1e-4
            torch.testing.assert_close(found[module], expected[module], atol=1e-6, rtol=1e-4)
    assert (own["L"] - whole["L"]).norm() > 1e-3 * whole["L"].norm()


def test_other_tasks_are_compared_in_a_segment():
    o = dataclasses.replace(SMALL, task="4x4")
    task = compare.task_of(o)
    trainer = compare.trainer_of(o, task, "bptt", 0)
    found = compare.looked_at(o, task, trainer, {})
    assert found["first"]["L"]["cosine"] > 0.5
    assert not task.bit_by_bit


def test_only_streams_have_an_end():
    assert compare.task_of(SMALL).name == "sudoku 4x4, clue by clue"
    with pytest.raises(ValueError, match="at_end is for task = 'stream', not for '4x4'"):
        compare.check(compare.Compare(at_end=True))
