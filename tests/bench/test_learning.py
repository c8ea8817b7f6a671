"""The trainer library on labelled series that are no digits: two features, three classes, thirty steps."""

import dataclasses

import pytest
import torch

import gle
from bench.data.series import Form, Labelled, Split
from bench.kit.folder import Run
from bench.learning import options as learning
from bench.learning import trainers
from bench.learning.options import Learning, Training
from bench.learning.readouts import READOUTS
from bench.learning.run import learn, learning_curves, merged, share, spread, table
from bench.learning.streams import Streams, sample_order
from bench.learning.trainers import Online
from bench.models.populations import Model

FORM = Form(30, 2, 3)


def split(samples, seed):
    """Points that wander around one of three corners of a triangle."""
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(samples) % 3
    angle = 2.1 * y[:, None] + 0.8 * torch.randn(samples, FORM.steps, generator=g)
    return Split(torch.stack([angle.sin(), angle.cos()], -1), y)


@pytest.fixture(scope="module")
def data():
    return Labelled(split(90, 0), split(30, 1), split(30, 2), 3)


def options(**changes):
    training = Training(epochs=3, batch=10, lr=1e-2, schedule="cosine", staggered=True, balanced=True, fade=1.0)
    model = Model(populations=[(6, 0.6, 0.2), (6, 1.2, 0.2)], hidden_layers=2)
    return Learning(**{"name": "corners", "model": model, "training": training, "seeds": 2, "compile": False} | changes)


def run_in(folder):
    return Run.create(folder, "corners", "a: 1", torch.device("cpu"))


def test_form(data):
    assert data.form == FORM


def test_streams_of_several_features(data):
    """Each sample whole, with all its features, in its stream."""
    streams = Streams(FORM, 1, 3)
    index = torch.tensor([[4, 7, 2]])
    x, y, w = streams.turn(data.train, index)
    assert w is None
    assert x.shape == (30, 1, 3, 2)
    assert y.shape == (30, 1, 3, 3)
    for i, sample in enumerate(index[0]):
        assert torch.equal(x[:, 0, i], data.train.x[sample])
        assert (y[:, 0, i].argmax(-1) == data.train.y[sample]).all()


def test_orders_of_any_number_of_classes(data):
    order = sample_order(data.train.y, True, torch.Generator().manual_seed(0))
    for batch in order.split(9):
        assert data.train.y[batch].bincount(minlength=3).tolist() == [3, 3, 3]


def test_a_network_of_one_s_own_learns(data, tmp_path):
    """Prevents: digits inside the library; a network other than the one that `build` makes; a resumed run that differs.
    Guessing is right for a third."""
    made = []

    def build(o, training, form):
        common = {"ensemble": 2, "errors": training.errors}
        made.append(form)
        return gle.Network(
            [
                gle.Layer(form.features, 20, tau_m=torch.linspace(0.2, 2.0, 20), tau_r=0.2, **common),
                gle.Layer(20, form.classes, tau_m=1.0, tau_r=1.0, phi="linear", ensemble=2),
            ],
            learning.used_seeds(o),
        )

    o = options()
    learning.check(o, FORM, 90)
    whole = learn(o, data, run_in(tmp_path), build)
    assert made == [FORM]
    assert whole["parameters"] == 2 * 20 + 20 + 20 * 3 + 3
    assert min(whole["test"]) > 70
    assert len(whole["curve"]) == 3

    run = run_in(tmp_path)
    keep, saves = run.checkpoint, []

    def stopped(state):
        keep(state)
        saves.append(state)
        if len(saves) == 1:
            raise KeyboardInterrupt

    run.checkpoint = stopped
    with pytest.raises(KeyboardInterrupt):
        learn(o, data, run, build)
    again = learn(o, data, Run.reopen(run.path), build)
    assert {k: v for k, v in again.items() if k != "seconds"} == {k: v for k, v in whole.items() if k != "seconds"}


@pytest.mark.parametrize(
    ("readout", "expected"), [("sum", [1, 0]), ("mean", [0, 1]), ("vote", [0, 1]), ("last", [1, 1])]
)
def test_readouts(readout, expected):
    """By hand: two samples over three steps. A loud step decides the sum, and no other readout."""
    outputs = torch.tensor(
        [
            [[3.0, 0.0], [0.0, 3.0]],
            [[3.0, 0.0], [30.0, 0.0]],
            [[0.0, 30.0], [0.0, 3.0]],
        ]
    )  # [steps, samples, classes]
    assert READOUTS[readout](outputs, torch.ones(1)).argmax(-1).tolist() == expected


def test_evaluation_by_any_readout(data):
    trainer = Online(options(), options().training, FORM)
    found = {name: trainer.evaluate(data.validation, [name])["accuracy"] for name in READOUTS}
    x = data.validation.x.transpose(0, 1)
    outputs = torch.cat([trainer.simulation.predict(part)[0] for part in x.split(30, dim=1)], -2)
    for accuracy in found.values():
        assert len(accuracy) == 2
        assert all(0 <= a <= 100 for a in accuracy)
    assert outputs.shape == (30, 2, 30, 3)
    assert len({tuple(a) for a in found.values()}) > 1


def test_shares_are_joined_in_order():
    o = options(seeds=5)
    shares = [share(o, w, 2) for w in range(2)]
    assert [s.seed_list for s in shares] == [o.seed_list[:2], o.seed_list[2:5]]
    rows = [
        {"name": "a", "parameters": 1, "online": True, "seeds": s.seed_list, "validation": [1.0] * s.seeds,
         "test": [2.0] * s.seeds, "epochs": n, "curve": [[float(i)] * s.seeds for i in range(n)], "seconds": n}
        for n, s in zip((2, 3), shares)
    ]  # fmt: skip
    joined = merged(rows)
    assert joined["seeds"] == o.seed_list[:5]
    assert joined["epochs"] == joined["seconds"] == 3
    assert joined["curve"] == [[0.0] * 5, [1.0] * 5, [1.0, 1.0, 2.0, 2.0, 2.0]]  # the first share keeps its last row


def test_labels_do_not_overlap():
    places = spread([50.0, 99.0, 99.5, 98.0], 4.0)
    assert min(abs(a - b) for i, a in enumerate(places) for b in places[:i]) >= 4.0
    assert max(places) <= 101
    assert places[0] == 50.0


def test_table_and_curves_in_the_papers_order():
    def row(name):
        return {"name": name, "parameters": 1, "online": True, "epochs": 2, "seeds": [1], "validation": [5.0],
                "test": [6.0], "curve": [[1.0], [5.0]]}  # fmt: skip

    published = {"b": (50.0, 1.0), "a": (60.0, 2.0)}
    results = [row("other"), row("a_tuned"), row("a"), row("b")]
    rows = table(results, published).rows
    assert [r[0] for r in rows[1:]] == ["b", "a", "a_tuned", "other"]
    assert [r[-1] for r in rows[1:]] == ["50.0 ± 1.0", "60.0 ± 2.0", "60.0 ± 2.0", "–"]
    figure = learning_curves(results, published, "title")
    assert [t.get_text().split("  ")[0] for t in figure.axes[0].texts] == ["b", "a", "a_tuned", "other"]
    figure.clear()


def stages_of(second, **changes):
    """A stage by GLE's errors, then one by instantaneous errors and eligibility traces, or as `second` says."""
    first = Training(epochs=1, batch=10, lr=1e-2, schedule="cosine", propagation="instant", centred=20.0)
    second = dataclasses.replace(first, **{"errors": "instantaneous", "traces": "own", "epochs": 2, **second})
    model = Model(populations=[(3, 0.6, 0.2), (3, 1.2, 0.2)], hidden_layers=2)
    common = {"compile": False, "block": 1, "dtype": "float64", "model": model}
    return Learning(name="corners", training=first, consolidation=second, **(common | changes))


def trained(o, data, run):
    found = []
    learn(o, data, run, then=lambda trainer, _: found.append(trainer.network) or {})
    return found[0]


def same(one, other):
    return all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters()))


@pytest.fixture(scope="module")
def few():
    return Labelled(split(30, 0), split(10, 1), split(10, 2), 3)


@pytest.fixture(scope="module")
def blended(few, tmp_path_factory):
    """A network that nothing has interrupted."""
    return trained(stages_of({}), few, run_in(tmp_path_factory.mktemp("blended")))


def test_stages_that_differ_in_errors_and_traces_compile_once(few, tmp_path, monkeypatch):
    """Prevents: a change of stage that takes as long as the first step did."""
    monkeypatch.setenv("GLE_COMPILER", "eager")
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    trained(
        stages_of({}, compile=True, model=Model(populations=[(2, 0.6, 0.2)], hidden_layers=1)), few, run_in(tmp_path)
    )
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_a_stage_learns_by_its_own_errors_and_traces(few, blended, tmp_path, monkeypatch):
    """By a step that it shares with another stage, what it would by one of its own."""
    assert repr(blended.layers[0].errors) == "Blended(share=0)"
    other = trained(stages_of({"errors": "prospective", "traces": None}), few, run_in(tmp_path))
    assert repr(other.layers[0].errors) == "Prospective()"
    monkeypatch.setattr(trainers, "credit", lambda o, t: trainers.Credit(t.errors, t.traces, 1.0))
    apart = trained(stages_of({}), few, run_in(tmp_path))
    assert repr(apart.layers[0].errors) == "Instantaneous()"
    for p, q in zip(blended.parameters(), apart.parameters()):
        torch.testing.assert_close(p, q, atol=1e-9, rtol=0)
    assert max((p - q).abs().max() for p, q in zip(other.parameters(), apart.parameters())) > 1e-3


@pytest.mark.parametrize("epoch", [1, 2])
def test_blended_stages_are_gone_on_with(epoch, few, blended, tmp_path, monkeypatch):
    """After an end in the first or the second of them."""
    checkpoint = Run.checkpoint

    def last(self, state):
        checkpoint(self, state)
        if state["epoch"] == epoch:
            raise KeyboardInterrupt

    run = run_in(tmp_path)
    monkeypatch.setattr(Run, "checkpoint", last)
    with pytest.raises(KeyboardInterrupt):
        learn(stages_of({}), few, run)
    monkeypatch.setattr(Run, "checkpoint", checkpoint)
    resumed = trained(stages_of({}), few, Run.reopen(run.path))
    assert same(resumed, blended)


@pytest.mark.parametrize(
    "second",
    [
        {"every": 2},
        {"rule": "bptt", "traces": None, "centred": None},
        {"propagation": "delayed"},
        {"traces": [(0.4, 0)]},
    ],
    ids=lambda s: next(iter(s)),
)
def test_stages_that_differ_in_more_are_left_as_they_are(second):
    o = stages_of(second)
    for stage in learning.stages(o):
        assert trainers.credit(o, stage) == (stage.errors, stage.traces, 1.0)
