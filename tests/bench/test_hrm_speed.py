"""What is timed as published learns what ours does."""

import copy

import torch

from bench.puzzles.published import LR, WEIGHT_DECAY, Published
from hrm.act import Halting
from hrm.model import HRM, Config
from hrm.tasks.sudoku import Sudoku, generate
from hrm.train import Trainer, Training


def test_the_published_step_is_ours():
    """Twelve updates from the same weights on one puzzle: losses and weights. Prevents: a comparison with a step that
    leaves something out, the look ahead, say, or the slots that begin anew."""
    (train, *others), slots = generate(4, 8, (1, 1, 1), 0, "digits"), 3
    task = Sudoku(4, train, *others, "none", 0.0)
    config = Config(vocabulary=6, length=16, columns=4, d=16, heads=2, H_layers=1, L_layers=2, multiple=16)
    halting = Halting(halt_max_steps=5, exploration=0.0)
    torch.manual_seed(0)
    model = HRM(config)
    with torch.no_grad():
        model.q_head.weight.normal_()
        model.q_head.bias.copy_(torch.tensor([-2.0, 2.0]))
    published = Published(copy.deepcopy(model), slots, halting, LR, WEIGHT_DECAY, compile=None)
    training = Training(
        batch=slots, steps=100, lr=LR, warmup=1, final=1.0, weight_decay=WEIGHT_DECAY, loss="stablemax", halting=halting
    )
    trainer = Trainer(model, task, training)
    x, y = (torch.from_numpy(g).long().expand(slots, -1) for g in (train.x, train.y))
    ended = 0
    for _ in range(12):
        torch.testing.assert_close(published.step(x, y), trainer.step()["loss"], atol=1e-5, rtol=0)
        ended += int(published.state.halted.sum())
        assert (published.state.halted == trainer.slots.done).all()
    for p, q in zip(published.model.parameters(), trainer.model.parameters()):
        torch.testing.assert_close(p, q, atol=1e-5, rtol=0)
    assert 3 <= ended < 36  # slots began anew, and not each time
    assert max((p - q).abs().max() for p, q in zip(trainer.model.parameters(), HRM(config).parameters())) > 0.01
