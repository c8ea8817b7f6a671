"""What a Hierarchical Reasoning Model does while it thinks (Figs. 3, 7, 8 of its paper).

    python -m bench.hrm_dynamics                               trains a model on 4 × 4 Sudoku first
    python -m bench.hrm_dynamics --run runs/sudoku/<folder>    with the weights of that run, or of one of bench.maze

Forward residuals of L and H, step by step, beside those of a recurrent and of a deep feed-forward network with as many
parameters, trained alike; their trajectories in two principal components; participation ratios, with the untrained
model as control; the spectral radius of the step map; answers after ever more segments. And a page to watch the model
at work: steps.html.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.kit.benchmark import Benchmark, main
from bench.kit.figures import plt
from bench.kit.folder import Run
from bench.kit.tables import Table
from bench.puzzles import controls, pages, reasoning, trained
from bench.puzzles.trained import Subject, Trained
from hrm import act
from hrm.act import Shown
from hrm.controls import narrowed, width_for
from hrm.credit import Ahead, Local, side
from hrm.gradients import spectral_radius
from hrm.layers import Block
from hrm.model import HRM, Carry
from hrm.tasks.task import Grids, Task
from hrm.train import evaluate


@dataclass
class Dynamics(Trained):
    """What is looked at.

    Args:
        puzzles: test puzzles, for residuals and dimensions.
        segments: of the trajectories.
        most: segments up to which answers are counted.
        larger: mazes of each larger size that are answered, too, by a model of convolutions.
        depth: blocks of the feed-forward network; its width makes the number of parameters the same.
        watched: test puzzles on the page.
    """

    puzzles: int = 200
    segments: int = 4
    most: int = 64
    larger: int = 200
    depth: int = 16
    watched: int = 4


# -- trajectories ------------------------------------------------------------------------------------------------------


def symbols(task: Task, grids: Grids, device: str) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(grids.x.astype(np.int64)).to(device), torch.from_numpy(grids.puzzle).to(device)


@torch.no_grad()
def trajectory(model: HRM, task: Task, grids: Grids, segments: int, device: str) -> tuple[Tensor, Tensor, list[int]]:
    """z_L and z_H after each step of some segments, with the beginning in front: [1 + steps, puzzles, length, d]; and
    the steps, counted from 1, at which H was updated."""
    x = model.embed(*symbols(task, grids, device))
    carry = model.initial(len(x))
    L, H, updates = [model.L.read(carry.L)], [model.H.read(carry.H)], []
    for step in range(segments * model.config.steps):
        due = model.is_due(step)
        carry = model.step(carry, x, due)
        L.append(model.L.read(carry.L))
        H.append(model.H.read(carry.H))
        if due:
            updates.append(step + 1)
    return torch.stack(L), torch.stack(H), updates


@torch.no_grad()
def through_blocks(model: HRM, task: Task, grids: Grids, device: str) -> Tensor:
    """What flows from block to block in one call of L: [1 + blocks, puzzles, length, d]."""
    out: list[Tensor] = []
    hooks = []
    for block in (m for m in model.L.modules() if isinstance(m, Block)):
        hooks.append(block.register_forward_hook(lambda m, a, o: out.extend([a[0], o] if not out else [o])))
    x = model.embed(*symbols(task, grids, device))
    model.step(model.initial(len(x)), x, True)
    for hook in hooks:
        hook.remove()
    return torch.stack(out)


def residuals(z: Tensor) -> list[float]:
    """‖z^i − z^(i−1)‖ / √(length · d), the mean over puzzles: z [1 + steps, puzzles, length, d] → [steps]."""
    moved = (z[1:] - z[:-1]).double().square().mean((-1, -2)).sqrt()
    return moved.mean(-1).tolist()


def participation_ratio(z: Tensor) -> float:
    """(Σ λ)² / Σ λ² over the eigenvalues λ of the covariance of states z [samples, d]: the number of dimensions they
    fill evenly."""
    covariance = torch.cov(z.double().T)
    return (covariance.trace().square() / covariance.square().sum()).item()


def principal(z: Tensor, components: int = 2) -> list[list[float]]:
    """The trajectory of one puzzle in its first principal components: z [steps, length, d] → [steps, components]."""
    states = z.double().flatten(1)
    states = states - states.mean(0)
    u, s, _ = torch.linalg.svd(states, full_matrices=False)
    return (u[:, :components] * s[:components]).tolist()


# -- controls ----------------------------------------------------------------------------------------------------------


def control(o: Dynamics, subject: Subject, layers: int, d: int, steps: int, segments: int) -> HRM:
    """A recurrent or feed-forward network that learns the subject's task alike."""
    base, options = subject.model("init").config, subject.options
    config = base if d == base.d else narrowed(base, d)
    return controls.learned(
        config, layers, steps, segments, subject.task, options.training, o.seed, o.device, options.compile
    )


def accuracy(o: Dynamics, subject: Subject, model: HRM, segments: int) -> list[float]:
    task, training = subject.task, subject.options.training
    return evaluate(model, task, task.test, training.halting, segments)["curve"][task.measure]


# -- parts -------------------------------------------------------------------------------------------------------------


def residuals_of(o: Dynamics, subject: Subject) -> dict[str, Any]:
    """Residuals and trajectories of the model and both controls."""
    task, grids = subject.task, subject.task.test[: o.puzzles]
    model = subject.model("last")
    c, training = model.config, subject.options.training
    most = training.halting.halt_max_steps
    again = control(o, subject, c.H_layers + c.L_layers, c.d, c.steps, most)
    deep = control(o, subject, o.depth, width_for(model.n_parameters(), o.depth, c), 1, 1)
    L, H, at = trajectory(model, task, grids, o.segments, o.device)
    moving = {"L": L, "H": H}
    moving["recurrent"], _, _ = trajectory(again, task, grids, o.segments, o.device)
    moving["feed-forward"] = through_blocks(deep, task, grids, o.device)
    models = {"HRM": (model, o.segments), "recurrent": (again, o.segments), "feed-forward": (deep, 1)}
    return {
        "updates": at,
        "parameters": {name: m.n_parameters() for name, (m, _) in models.items()},
        "accuracy": {name: accuracy(o, subject, *m)[-1] for name, m in models.items()},
        "residual": {name: residuals(z) for name, z in moving.items()},
        "principal": {name: principal(z[:, 0]) for name, z in moving.items()},
    }


def dimensions(o: Dynamics, subject: Subject) -> dict[str, Any]:
    """Participation ratios of z_L and z_H over all steps of more and more puzzles, and the spectral radius of the step
    map after each segment; trained, and untrained as control."""
    out: dict[str, Any] = {}
    task = subject.task
    numbers = sorted({min(n, o.puzzles, len(task.test)) for n in (5, 10, 20, 50, 100, 200, o.puzzles)})
    for name, when in (("trained", "last"), ("untrained", "init")):
        model = subject.model(when)
        L, H, _ = trajectory(model, task, task.test[: o.puzzles], o.segments, o.device)
        ratio = {m: [participation_ratio(z[1:, :n].flatten(0, 2)) for n in numbers] for m, z in (("L", L), ("H", H))}
        model = model.double()
        grids = task.test[:8]
        x = model.embed(*symbols(task, grids, o.device)).detach()
        carry, radii = model.initial(len(grids)), []
        with torch.no_grad():
            for _ in range(o.segments):
                for step in range(model.config.steps):
                    carry = model.step(carry, x, model.is_due(step))
                radii.append(spectral_radius(model, Carry(*carry), x))
        out[name] = {"ratio": ratio, "radius": radii}
    return {"puzzles": numbers, **out}


def more_segments(o: Dynamics, subject: Subject) -> dict[str, Any]:
    """Answers after up to `most` segments, by difficulty; the model was trained with fewer. Besides, what is harder:
    Sudoku with as many blanks as leave one solution, larger mazes."""
    answers, task, model = (
        dataclasses.replace(subject.options, segments=o.most, restarts=1, by_faults=False, views=1),
        subject.task,
        subject.model("last"),
    )
    found = reasoning.answer(answers, task, model)
    for label, other, own, grids in subject.benchmark.beyond(subject.options, task, model, o.larger):
        answered = reasoning.answer(answers, other, own, grids)
        if other is task:
            found["by_difficulty"] += [{**b, "label": label.format(b["label"])} for b in answered["by_difficulty"]]
        else:
            curve = answered["curve"][task.measure]
            found["by_difficulty"].append({"label": label, "puzzles": len(grids), "curve": curve})
    return found


@torch.no_grad()
def thoughts(o: Dynamics, subject: Subject) -> dict[str, Any]:
    """What the model would answer at every step, f_O(f_H(z_H, z_L)), with its confidence, for the hardest of the test
    puzzles."""
    task = subject.task
    hardest = np.argsort(-task.test.difficulty, kind="stable")[: o.watched]
    grids = task.test[hardest]
    model = subject.model("last")
    x = model.embed(*symbols(task, grids, o.device))
    carry = model.initial(len(grids))
    steps = []
    for step in range(o.segments * model.config.steps):
        due = model.is_due(step)
        carry = model.step(carry, x, due)
        seen = carry if due else Carry(carry.L, model.H(carry.H, model.L.read(carry.L)))
        probability = model.read_out(seen).logits.double().softmax(-1)
        confidence, answer = (t.cpu() for t in probability.max(-1))
        steps.append({"answer": answer.tolist(), "confidence": confidence.numpy().round(3).tolist(), "H": due})
    return {
        "x": grids.x.tolist(), "y": grids.y.tolist(), "difficulty": grids.difficulty.tolist(), "steps": steps,
        "at_work": at_work(o, subject, model, grids),
    }  # fmt: skip


@torch.no_grad()
def at_work(o: Dynamics, subject: Subject, model: HRM, grids: Grids) -> dict[str, Any]:
    """How far z_L and z_H move in each step, and the errors that would reach them with the target at the output, while
    weights stand still: root mean squares over the features of a position, as shares of the largest one, [steps,
    puzzles, cells]."""
    training = subject.options.training
    front = int(bool(model.config.puzzles))
    errors: dict[str, list[Tensor | None]] = {"e_L": [], "e_H": []}

    def watch(e_L: Tensor | None, e_H: Tensor | None) -> None:
        errors["e_L"].append(e_L)
        errors["e_H"].append(e_H)

    credit = Local(
        side(model.L), side(model.H), Ahead(model).forward, training.loss, 0.0, training.halting, training.epsilon,
        training.gain, plasticity="segment", watch=watch,
    )  # fmt: skip
    x, puzzle = symbols(subject.task, grids, o.device)
    y = torch.from_numpy(grids.y.astype(np.int64)).to(o.device)
    slots = act.begun(model, credit.at_rest(model, len(x)), x, y, puzzle)
    for _ in range(o.segments):
        learned = credit(model, slots, Shown(x, y), puzzle, lambda share: None)
        slots = slots._replace(carry=learned.carry, errors=learned.errors)
    for p in model.parameters():
        p.grad = None
    L, H, _ = trajectory(model, subject.task, grids, o.segments, o.device)
    still = torch.zeros_like(L[0])
    maps = {"z_L": L.diff(dim=0), "z_H": H.diff(dim=0)}
    maps |= {name: torch.stack([still if e is None else e for e in each]) for name, each in errors.items()}
    found: dict[str, Any] = {}
    for name, each in maps.items():
        size = each[:, :, front:].double().square().mean(-1).sqrt().cpu().numpy()
        found[name] = {"largest": float(size.max()), "share": (size / max(size.max(), 1e-300)).round(4).tolist()}
    return found


# -- the run -----------------------------------------------------------------------------------------------------------


def check(o: Dynamics) -> None:
    """Raises ValueError with the value and what it must be."""
    trained.check(o)
    for name in ("puzzles", "segments", "most", "larger", "depth", "watched"):
        if getattr(o, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(o, name)}")


def tiny(o: Dynamics) -> Dynamics:
    return dataclasses.replace(o, puzzles=6, segments=2, most=4, larger=4, depth=2, watched=2, steps=6)


def run(o: Dynamics, run: Run) -> dict[str, Any]:
    subject = Subject(o, run)

    def part(name: str, compute: Callable[[Dynamics, Subject], Any]) -> Any:
        return run.part(name, partial(compute, o, subject))

    task = subject.task
    return {
        "task": task.name,
        "measure": task.measure,
        "grid": {"height": task.height, "width": task.width, "symbols": list(task.symbols), "blank": task.blank},
        "trained_segments": subject.options.training.halting.halt_max_steps,
        "residuals": part("residuals", residuals_of),
        "dimensions": part("dimensions", dimensions),
        "more_segments": part("more_segments", more_segments),
        "thoughts": part("thoughts", thoughts),
    }


def revival(residual: Sequence[float], updates: Sequence[int]) -> float:
    """How many times larger the residual of L is in the step after an update of H than in the step of it: the mean."""
    pairs = [(residual[u - 1], residual[u]) for u in updates if u < len(residual)]
    return math.exp(np.mean([math.log(after / before) for before, after in pairs])) if pairs else math.nan


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Models and their residuals; dimensions; segments."""
    r, d, accuracy = result["residuals"], result["dimensions"], f"test {result['measure']} %"
    Rows = list[tuple[str, ...]]
    models: Rows = [("model", "parameters", accuracy, "residual, first step", "least", "last step")]
    for name in r["parameters"]:
        steps = r["residual"]["L" if name == "HRM" else name]
        found = (f"{v:.3f}" for v in (steps[0], min(steps), steps[-1]))
        label = "HRM (L)" if name == "HRM" else name
        models.append((label, str(r["parameters"][name]), f"{100 * r['accuracy'][name]:.1f}", *found))
    n = d["puzzles"][-1]
    ratios: Rows = [(f"participation ratio, {n} puzzles", "z_L", "z_H", "z_H / z_L", "spectral radius, last segment")]
    for name in ("trained", "untrained"):
        low, high = (d[name]["ratio"][m][-1] for m in ("L", "H"))
        ratios.append((name, f"{low:.1f}", f"{high:.1f}", f"{high / low:.2f}", f"{d[name]['radius'][-1]:.2f}"))
    by = result["more_segments"]["by_difficulty"]
    counts = [m for m in (1, 2, 4, 8, 16, 32, 64) if m <= len(by[0]["curve"])]
    segments: Rows = [("difficulty", "puzzles", *(f"{m} segments" for m in counts))]
    segments += [(b["label"], str(b["puzzles"]), *(f"{100 * b['curve'][m - 1]:.1f}" for m in counts)) for b in by]
    return [Table(rows) for rows in (models, ratios, segments)]


def draw(result: Mapping[str, Any]) -> plt.Figure:
    """Residuals and trajectories of three networks, dimensions, segments."""
    r, d = result["residuals"], result["dimensions"]
    figure = plt.figure(figsize=(12, 9.5), layout="constrained")
    grid = figure.add_gridspec(3, 6)
    axes = np.array([[figure.add_subplot(grid[i, 2 * j : 2 * j + 2]) for j in range(3)] for i in range(2)])
    for column, (title, shown) in enumerate(
        {"HRM": ("L", "H"), "recurrent network": ("recurrent",), "feed-forward network": ("feed-forward",)}.items()
    ):
        top, middle = axes[0, column], axes[1, column]
        for i, name in enumerate(shown):
            steps = np.arange(1, len(r["residual"][name]) + 1)
            moved = np.array(r["residual"][name])
            if name == "H":  # between its updates it stands still
                steps, moved = np.array(r["updates"]), moved[np.array(r["updates"]) - 1]
            top.plot(steps, moved, f"C{i}.-", label=name)
            points = np.array(r["principal"][name])
            middle.plot(points[:, 0], points[:, 1], f"C{i}-", linewidth=0.7)
            order = np.arange(len(points))  # in colour: later is brighter
            middle.scatter(*points.T, c=order, cmap="viridis", s=14, marker="os"[i], zorder=2, label=name)
        if title == "HRM":
            for u in r["updates"]:
                top.axvline(u + 0.5, color="0.85", linewidth=0.8)
            middle.legend(fontsize=7)
        top.set(title=title, xlabel="block" if column == 2 else "step", ylabel="forward residual", ylim=(0, None))
        top.legend(fontsize=7)
        middle.set(xlabel="first principal component", ylabel="second")
    a, b = (figure.add_subplot(grid[2, 3 * j : 3 * j + 3]) for j in range(2))
    for name, style in (("trained", "-"), ("untrained", ":")):
        for i, module in enumerate("LH"):
            a.plot(d["puzzles"], d[name]["ratio"][module], f"C{i}{style}", label=f"z_{module}, {name}")
    a.set(xlabel="puzzles", ylabel="participation ratio", xscale="log", ylim=(0, None))
    a.legend(fontsize=7)
    for i, bucket in enumerate(result["more_segments"]["by_difficulty"]):
        curve = 100 * np.array(bucket["curve"])
        b.plot(np.arange(1, len(curve) + 1), curve, f"C{i}-", label=f"difficulty {bucket['label']}")
    b.axvline(result["trained_segments"], color="0.6", linestyle=":", linewidth=0.8)
    b.set(xlabel="segments at test (dotted: most in training)", ylabel=f"{result['measure']} / %", xscale="log")
    b.legend(fontsize=7)
    return figure


def page(result: Mapping[str, Any]) -> str:
    """The thoughts as a page that needs nothing besides itself; for tasks that fill in what a puzzle leaves open."""
    found = result["thoughts"]
    data = {
        **found,
        **result["grid"],
        "perSegment": len(found["steps"]) // result["options"]["segments"],
    }
    size = 42 if result["grid"]["width"] <= 9 else 24
    return pages.page("steps.html", result["task"], data, SIZE=str(size), FONT=str(size * 2 // 5))


benchmark = Benchmark(
    name="hrm_dynamics",
    summary="what a Hierarchical Reasoning Model does while it thinks",
    Options=Dynamics,
    check=check,
    tiny=tiny,
    run=run,
    tables=tables,
    draw=lambda result: {"hrm_dynamics.png": draw(result), "steps.html": page(result)},
)

if __name__ == "__main__":
    main(benchmark)
