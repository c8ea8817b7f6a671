"""Recurrent and feed-forward networks (`hrm.controls`) that learn a task as a reasoning model does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from gle.compiling import compiled
from hrm import controls
from hrm.model import HRM, Config
from hrm.tasks.task import Task
from hrm.train import Trainer, Training


def learned(
    config: Config, layers: int, rounds: int, segments: int, task: Task, training: Training, seed: int, device: str,
    compile: bool, callback: Callable[[Trainer, dict[str, float]], None] | None = None,
) -> HRM:  # fmt: skip
    """A network of `layers` blocks, run so many rounds in each of so many segments; one segment of one round: a
    feed-forward network. It learns this task alone, without what a curriculum has before it. callback: after each step,
    as of `Trainer.fit`."""
    halting = dataclasses.replace(
        training.halting, halt_max_steps=segments, learned=training.halting.learned and segments > 1
    )
    # errors that go round are for modules which add what they get to z, as these do not
    training = dataclasses.replace(training, halting=halting, epsilon=0.0, control="none")
    model = controls.recurrent(config, layers, rounds, seed).to(device)
    trainer = Trainer(model, task, training, seed, compiled if compile else None)
    trainer.fit(callback=callback)
    return trainer.evaluated
