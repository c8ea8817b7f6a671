# %% [markdown]
# # Watch a network think
#
# **What happens inside a reasoning model between the puzzle and the answer?**
#
# A small Hierarchical Reasoning Model learns a puzzle in which cells hang on each other: a ring of six cells, of which
# one is given; each next cell is one more than the last, modulo five. We then look at its answer, and at its two
# states, after every step.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

import hrm

_ = torch.manual_seed(0)


class Ring(hrm.Task):
    """Symbols 0 … 4 are numbers, 5 is a blank."""

    blank = 5

    def __init__(self):
        super().__init__("ring", height=1, width=6, vocabulary=6)
        first, place = np.divmod(np.random.default_rng(0).permutation(np.tile(np.arange(30), 10)), 6)
        y = (first[:, None] + np.arange(6)) % 5
        x = np.full_like(y, 5)
        rows = np.arange(len(y))
        x[rows, place] = y[rows, place]
        self.train, self.validation, self.test = (hrm.Grids(x[i::3], y[i::3]) for i in range(3))


# %% [markdown]
# All thirty puzzles occur in training: this notebook is about looking, not about generalising. L and H are networks of
# representation and error neurons (`modules="gle"`), and learn by the errors that they send back themselves.

# %%
task = Ring()
config = hrm.Config(
    vocabulary=6, length=6, columns=6, d=24, heads=2, H_layers=1, L_layers=1, multiple=24, mixer="mlp", modules="gle"
)
halting = hrm.Halting(halt_max_steps=2)
training = hrm.Training(batch=24, steps=60, lr=1e-2, warmup=5, gradient="local", halting=halting)
trainer = hrm.Trainer(hrm.HRM(config), task, training)
right = []
trainer.fit(callback=lambda trainer, row: right.append(row["cells"]))
assert np.mean(right[-5:]) > 0.8

# %% [markdown]
# ## Step by step
#
# A segment is four updates of L and two of H. We take them one by one, on one puzzle, and read the answer after each.

# %%
model, puzzle = trainer.evaluated, torch.as_tensor(task.test.x[:1])
answers, sure, moved = [], [], {"z_L": [], "z_H": []}
with torch.no_grad():
    x, carry = model.embed(puzzle), model.initial(1)
    for step in range(8):
        before = model.L.read(carry.L), model.H.read(carry.H)
        carry = model.step(carry, x, model.is_due(step))
        after = model.L.read(carry.L), model.H.read(carry.H)
        for name, old, new in zip(moved, before, after):
            moved[name].append((new - old).norm(dim=-1)[0])  # of each cell
        chances = model.read_out(carry).logits[0].softmax(-1)
        answers.append(chances.argmax(-1))
        sure.append(chances.amax(-1))

figure, axes = plt.subplots(1, 3, figsize=(9, 2.8))
axes[0].imshow(torch.stack(sure), cmap="Blues", vmin=0, vmax=1)
for step, answer in enumerate(answers):
    for cell, symbol in enumerate(answer.tolist()):
        wrong = symbol != task.test.y[0, cell]
        axes[0].text(cell, step, symbol, ha="center", va="center", color="red" if wrong else "black")
axes[0].set(title="answer (red: wrong), and how sure", xlabel="cell", ylabel="step")
for ax, (name, sizes) in zip(axes[1:], moved.items()):
    ax.imshow(torch.stack(sizes), cmap="viridis")
    ax.set(title=f"how far {name} moved", xlabel="cell")
plt.show()
assert (answers[-1].numpy() == task.test.y[0]).mean() > 0.6

# %% [markdown]
# H moves in every second step only: that is its slowness. L moves whenever H has moved, and comes to rest in between.
#
# ## As weights on disk
#
# The same model as a user has it: one file, one call.

# %%
file = Path(tempfile.mkdtemp()) / "ring.pt"
trainer.save(file)
answer = hrm.load(file).solve(task.test.x[0].reshape(1, 6), segments=4)
print(answer)
print(answer.steps[:, 0])

# %% [markdown]
# A trained model of 6 × 6 Sudoku is looked at in the same way, with residuals, dimensions and more segments, in
# [HRM](../hrm.md#what-it-does-while-it-thinks).
