"""What keeps a recurrent model steady (damping, noise on its way, many beginnings), and puzzles shown bit by bit."""

import numpy as np
import pytest
import torch
from test_train import Increment

from hrm import act, controls
from hrm.act import Halting, Shown
from hrm.credit import side
from hrm.gradients import strategy
from hrm.model import HRM, Config
from hrm.tasks.arriving import Arriving
from hrm.tasks.task import IGNORE, Grids, Task
from hrm.train import Trainer, Training, evaluate

SIZES = {"vocabulary": 5, "length": 6, "columns": 3, "d": 16, "heads": 2, "H_layers": 1, "L_layers": 1, "multiple": 8}
BOTH = pytest.mark.parametrize("modules", ["blocks", "gle"])


def trainer(modules="blocks", task=None, gradient=None, seed=0, training=None, **sizes):
    torch.manual_seed(seed)
    model = HRM(Config(**{**SIZES, "mixer": "mlp", **sizes}, modules=modules))
    gradient = gradient or ("local" if modules == "gle" else "one_step")
    o = Training(**{"batch": 8, "steps": 100, "warmup": 3, "halting": Halting(4), "gradient": gradient,
                    **(training or {})})  # fmt: skip
    return Trainer(model, task or Increment(), o, seed)


# -- damping -----------------------------------------------------------------------------------------------------------


@BOTH
def test_a_damped_step_goes_a_share_of_its_way(modules):
    whole, damped = (trainer(modules, damping=d).model for d in (1.0, 0.6))
    carry = whole.initial(3)
    x = whole.embed(torch.randint(0, 5, (3, 6), generator=torch.Generator().manual_seed(0)))
    with torch.no_grad():
        for _ in range(4):
            full, part = whole.step(carry, x, True), damped.step(carry, x, False)
            z, at = whole.L.read(full.L), whole.L.read(carry.L)
            torch.testing.assert_close(damped.L.read(part.L), at + 0.6 * (z - at))
            carry = full


def test_local_errors_of_a_damped_module():
    """Those of what it computes: autograd's gradient with the share taken out of each module's own weights.

    Prevents: a damped module that learns by another rule than one that leaks as much.
    """
    found = {}
    for modules in ("blocks", "gle"):
        own = {"target": "end", "plasticity": "segment"}
        t = trainer(modules, gradient="local", damping=0.5, training=own)
        t.step()
        found[modules] = {n: p.grad for n, p in t.model.named_parameters() if p.grad is not None}
    both = found["blocks"].keys() & found["gle"].keys()
    assert both >= {"embedding.weight", "output_head.weight", "q_head.weight"}
    for name in both:
        torch.testing.assert_close(found["blocks"][name], found["gle"][name], atol=1e-6, rtol=1e-3)
    for module in ("L.", "H."):
        a, b = (torch.cat([g.flatten() for n, g in f.items() if n.startswith(module)]) for f in found.values())
        torch.testing.assert_close(a.norm(), b.norm(), atol=0, rtol=1e-4)
    t = trainer(damping=0.5)
    t.step()
    for name, p in t.model.named_parameters():
        if name.startswith("H."):
            torch.testing.assert_close(0.5 * found["blocks"][name], p.grad, atol=1e-6, rtol=1e-3)


# -- random beginnings and noise ---------------------------------------------------------------------------------------


@BOTH
def test_every_puzzle_begins_elsewhere(modules):
    """Normal numbers of variance one, drawn anew with each puzzle; in evaluation always the same, whatever the batch.

    Prevents: answers that depend on who else is asked.
    """
    t = trainer(modules, z0="random", d=64, training={"batch": 64, "halting": Halting(1, learned=False)})
    first = t.refill(t.slots).carry
    t.step()
    second = t.refill(t.slots).carry
    for a, b in ((first.L, second.L), (first.L, first.H)):
        a, b = t.model.L.read(a), t.model.L.read(b)
        assert float(a.std()) == pytest.approx(1, abs=0.02)
        assert abs(float((a * b).mean())) < 0.03
        assert abs(float((a[0] * a[1]).mean())) < 0.3
    alone, many = (t.model.L.read(t.model.initial(n).L) for n in (1, 5))
    assert torch.equal(many, alone.expand(5, -1, -1))


@BOTH
def test_noise_has_the_size_asked_for(modules):
    """White over steps, puzzles, positions and features, on x̃; none in evaluation, and none of another size."""
    t = trainer(modules, d=64, training={"noise": 0.25, "batch": 64})
    slots = t.refill(t.slots)
    noise = [t._noise(slots), t._noise(slots._replace(segments=slots.segments + 1))]
    assert noise[0].shape == (4, 64, 6, 64)
    for a in noise:
        assert float(a.std()) == pytest.approx(0.25, rel=0.02)
        assert abs(float((a[0] * a[1]).mean())) < 0.002
    assert abs(float((noise[0] * noise[1]).mean())) < 0.002
    seen = []
    embedded = Shown.embedded

    def looked_at(shown, model, puzzle):
        seen.append((embedded(shown, model, puzzle) - model.embed(shown.x, puzzle)).detach())
        return embedded(shown, model, puzzle)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Shown, "embedded", looked_at)
        t.step()
        assert float(torch.stack(seen).std()) == pytest.approx(0.25, rel=0.02)
        seen.clear()
        t.evaluate(t.task.test)
        assert not seen
    same = [evaluate(t.model, t.task, t.task.test, Halting(4))["rows"]["exact"] for _ in range(2)]
    assert np.array_equal(*same)


@pytest.mark.parametrize("gradient", ["one_step", "last 2", "bptt", "neumann 2", "implicit"])
def test_every_strategy_takes_a_way_that_differs_from_step_to_step(gradient):
    """The carry is the one of steps taken by hand, and x̃'s gradient arrives at the steps that the strategy keeps."""
    t = trainer(damping=0.5, H_cycles=2, L_cycles=2)
    torch.manual_seed(0)
    x = torch.randn(4, 3, 6, 16, requires_grad=True)
    carry = t.model.initial(3)
    expected = carry
    for i in range(4):
        expected = t.model.step(expected, x[i], i % 2 == 1)
    new, _ = strategy(gradient)(t.model, carry, x)
    torch.testing.assert_close(new.H, expected.H)
    new.H.square().sum().backward()
    kept = {"bptt": 4, "last 2": 2}.get(gradient, 1)
    assert [bool(g.any()) for g in x.grad] == [False] * (4 - kept) + [True] * kept


# -- bit by bit --------------------------------------------------------------------------------------------------------


class Copy(Task):
    """The answer is the puzzle; cells without a clue are blank (1) in both."""

    def __init__(self, rows=64):
        super().__init__("copy", 2, 3, 5)
        rng = np.random.default_rng(0)
        x = np.where(rng.random((rows, 6)) < 0.6, rng.integers(2, 5, (rows, 6)), 1)
        grids = Grids(x, x)
        self.train, self.validation, self.test = grids[::2], grids[1::4], grids[3::4]


def test_clues_come_and_go():
    task = Arriving(Copy(), clues=2, steps=3, at_end=True)
    x = torch.tensor([[1, 2, 3, 1, 4, 1], [2, 2, 2, 3, 3, 4]])
    seen = [task.shown(x, x, torch.tensor([step, step])) for step in range(12)]
    for step, (now, asked) in enumerate(seen):
        turn = step // 3
        first = [[1, 2, 3, 1, 1, 1], [1, 1, 1, 1, 4, 1]]
        second = [[2, 2, 1, 1, 1, 1], [1, 1, 2, 3, 1, 1], [1, 1, 1, 1, 3, 4]]
        assert now[0].tolist() == (first[turn] if turn < 2 else [1] * 6)
        assert now[1].tolist() == (second[turn] if turn < 3 else [1] * 6)
        assert asked[0].tolist() == (x[0].tolist() if turn >= 1 else [IGNORE] * 6)
        assert asked[1].tolist() == (x[1].tolist() if turn >= 2 else [IGNORE] * 6)
    always = Arriving(Copy(), clues=2, steps=3)
    assert torch.equal(always.shown(x, x, torch.tensor([0, 0]))[1], x)
    # slots differ in how far they are
    now, _ = task.shown(x, x, torch.tensor([3, 0]))
    assert now.tolist() == [[1, 1, 1, 1, 4, 1], [2, 2, 1, 1, 1, 1]]


@BOTH
def test_a_segment_goes_on_where_the_last_one_ended(modules):
    """In training and in evaluation: step i of segment s is step s · N·T + i of the puzzle.

    Prevents: a model that sees the first clues in every segment, or all of them where it is evaluated.
    """
    task = Arriving(Copy(), clues=1, steps=1)
    training = {"halting": Halting(3, learned=False), "batch": 4}
    t = trainer(modules, task, training=training, H_cycles=2, L_cycles=1)
    seen = []
    embed = t.model.embed

    def looked_at(x, puzzle=None):
        if x.ndim == 2:
            seen.append(x.clone())
        return embed(x, puzzle)

    t.model.embed = looked_at
    for segment in range(3):
        t.step()
        assert int((t.slots.segments == segment + 1).sum()) == 4
    x = t.slots.x
    assert len(seen) == 6
    for step, now in enumerate(seen):
        assert torch.equal(now, task.shown(x, x, torch.full((4,), step))[0])
    seen.clear()
    rows = task.test[:5]
    evaluate(t.model, task, rows, t.o.halting, 3)
    x = torch.from_numpy(rows.x)
    shown = [s for s in seen if not torch.equal(s, x)]
    assert len(shown) == 6
    for step, now in enumerate(shown):
        assert torch.equal(now, task.shown(x, x, torch.full((5,), step))[0])


def test_a_stream_is_of_its_task():
    """Prevents: puzzles that are drawn, judged or shown otherwise than those they are."""

    class Named(Copy):
        symbols, measure, blank, puzzles = "ab.de", "first", 2, 3

        def draw(self, row, rng):
            return self.train.x[row], self.train.y[row], 2

        def scores(self, grids, answers):
            return {"exact": np.zeros(len(grids), bool), "first": answers[:, 0] == grids.y[:, 0]}

    task = Arriving(Named(), clues=2, steps=1)
    x = torch.from_numpy(task.train.x[:1])
    given = task.shown(x, x, torch.zeros(1, dtype=torch.long))[0][0]
    assert int((given != 2).sum()) == 2
    assert task.draw(3, None)[2] == 2
    assert (task.measure, task.puzzles, task.show(np.array([0, 1, 2, 3, 4, 0]))) == ("first", 3, ["ab.", "dea"])
    assert task.scores(task.test, task.test.y)["first"].all()


def test_where_nothing_is_asked_nothing_is_right():
    """Prevents: a log that tells of success before there was a question."""
    t = trainer(task=Arriving(Copy(), 1, 1, at_end=True), training={"halting": Halting(12, learned=False)}, H_cycles=1,
                L_cycles=1)  # fmt: skip
    assert t.step()["exact"] == 0


def test_what_has_gone_can_be_remembered():
    """Backpropagation through all steps learns to copy clues that are no longer there; the last step alone, with the
    same labels, hardly does.

    Prevents: labels, or clues, that leak into steps where they do not belong.
    """
    task = Arriving(Copy(1000), clues=3, steps=1, at_end=True)
    training = {"halting": Halting(1, learned=False), "lr": 3e-3, "batch": 32, "steps": 200, "weight_decay": 0.0}
    sizes = {"H_cycles": 3, "L_cycles": 1, "positions": "learned", "d": 32}
    found = {}
    for gradient in ("bptt", "one_step"):
        t = trainer(task=task, gradient=gradient, training=training, **sizes)
        t.fit()
        found[gradient] = t.evaluate(task.test)["curve"]["exact"][-1]
    assert found["bptt"] > 0.85
    assert found["one_step"] < 0.6


def test_controls_of_any_model():
    """A recurrent network beside a model of neurons has none of their options.

    Prevents: a look at a trained model that ends where its controls are made.
    """
    config = Config(**SIZES, modules="gle", tau_H=2.0, inner_tau=2.0, mixer="mlp", damping=0.5, z0="random")
    model = controls.recurrent(config, 2, 3)
    assert model.config.modules == "blocks"
    assert Trainer(model, Increment(), Training(batch=4, gradient="local", halting=Halting(2))).step()["loss"] > 0


def test_shared_blocks_are_damped_alike():
    model = trainer(damping=0.25, shared=True).model
    assert side(model.H).share == side(model.L).share == 0.25


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_what_is_refused(tmp_path):
    for sizes, message in (
        ({"damping": 0.0}, r"damping must lie in \(0, 1\], got 0"),
        ({"damping": float("nan")}, r"damping must lie in \(0, 1\], got nan"),
        ({"z0": "some"}, "unknown z0 'some'; choose one of fixed, random"),
    ):
        with pytest.raises(ValueError, match=message):
            trainer(**sizes)
    with pytest.raises(ValueError, match="noise must be ≥ 0, got -1"):
        trainer(training={"noise": -1.0})
    own = trainer().model.L
    with pytest.raises(ValueError, match=r"damping = 0\.5 is for the model's own modules"):
        HRM(Config(**SIZES, damping=0.5), L=own)
    with pytest.raises(ValueError, match="needs modules that can `begin` anywhere"):
        HRM(Config(**SIZES, z0="random"), L=torch.nn.Identity())
    with pytest.raises(ValueError, match="clues and steps must be at least 1, got 0 and 2"):
        Arriving(Copy(), clues=0)
    task = Arriving(Copy())
    assert Arriving(Copy()).bit_by_bit
    assert not Copy().bit_by_bit
    with pytest.raises(ValueError, match="shown bit by bit, and nothing can halt before it is whole"):
        trainer(task=task)
    with pytest.raises(ValueError, match="nothing can halt before it is whole: set until_right = false"):
        trainer(task=task, training={"halting": Halting(2, learned=False), "until_right": True})
    t = trainer(task=task, training={"halting": Halting(2, learned=False)})
    with pytest.raises(ValueError, match="shown bit by bit, which a file of weights does not know"):
        t.save(tmp_path / "no.pt")
    assert not list(tmp_path.iterdir())
    assert act.shown_in(Increment(), own.z0, own.z0, own.z0, 3) == Shown(own.z0, own.z0)
