"""What `Simulation.state_dict` gives and `load_state_dict` takes: snapshots, compared first, then loaded whole or not
at all."""

import copy
import io

import pytest
import torch
from nets import DT, mixed_network, signals

import gle

ALL = ("W", "b", "tau_m", "tau_r")


def simulation(optimizer="adam", learn=ALL, net=None, **settings):
    plasticity = gle.Plasticity(optimizer, lr=0.01, learn=learn, **settings)
    return gle.Simulation(net or mixed_network(), dt=DT, cost="cross_entropy", plasticity=plasticity)


def handed(optimizer=torch.optim.Adam, groups=lambda net: net.parameters(), learn=ALL, **options):
    net = mixed_network()
    return simulation(gle.TorchOptimizer(optimizer(groups(net), **{"lr": 0.01, **options})), learn, net)


MAKERS = {
    "adam": lambda: simulation(traces=(0.4, 1.2), centred=3.0),
    "eligibility traces": lambda: simulation(traces="own", learn=("W", "b"), centred=3.0),
    "momentum, every fourth step": lambda: simulation(gle.SGD(0.9), every=4),
    "torch": handed,
}


def leaves(item, name=""):
    """(name, value) of everything in a nested structure of dicts and lists."""
    if isinstance(item, dict):
        return [leaf for k, v in item.items() for leaf in leaves(v, f"{name}.{k}")]
    if isinstance(item, (list, tuple)):
        return [leaf for i, v in enumerate(item) for leaf in leaves(v, f"{name}.{i}")]
    return [(name, item)]


def equal(a, b):
    def alike(p, q):
        return torch.equal(p, q) if isinstance(p, torch.Tensor) else p == q

    return len(leaves(a)) == len(leaves(b)) and all(
        m == n and alike(p, q) for (m, p), (n, q) in zip(leaves(a), leaves(b), strict=True)
    )


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_snapshot(make):
    """Prevents: a saved state that goes on learning, or one that two simulations learn in."""
    x, y = signals(10)
    sim = make()
    sim.run(x, y)
    saved = sim.state_dict()
    kept = copy.deepcopy(saved)
    sim.run(x, y)
    assert not equal(sim.state_dict(), kept)
    assert equal(saved, kept)
    again = [make() for _ in range(2)]
    for s in again:  # both from the same saved state
        s.load_state_dict(saved)
        s.run(x, y)
        assert equal(s.state_dict(), sim.state_dict())
        assert equal(saved, kept)
    before = sim.state_dict()
    for _, value in leaves(saved):
        if isinstance(value, torch.Tensor):
            value.zero_()
    for s in (sim, *again):
        assert equal(s.state_dict(), before)
    file = io.BytesIO()
    torch.save(before, file)
    file.seek(0)
    assert equal(torch.load(file, weights_only=True), before)


FROZEN = mixed_network()
FROZEN.layers[1].requires_grad_(False)


@pytest.mark.parametrize(
    ("there", "here", "message"),
    [
        (simulation, lambda: simulation("sgd"), "saved by a plasticity with optimizer = Adam, this one has SGD"),
        (lambda: simulation("sgd"), simulation, "with optimizer = SGD, this one has Adam"),
        (lambda: simulation("sgd"), lambda: simulation(gle.SGD(0.9)), "with slots = 0, this one has 1"),
        (lambda: simulation("sgd"), handed, r"optimizer = SGD, this one has torch\.optim\.Adam"),
        (
            lambda: handed(torch.optim.SGD),
            lambda: simulation("sgd"),
            r"optimizer = torch\.optim\.SGD, this one has SGD",
        ),
        (lambda: handed(torch.optim.SGD), handed, r"= torch\.optim\.SGD, this one has torch\.optim\.Adam"),
        (handed, lambda: handed(torch.optim.AdamW), r"= torch\.optim\.Adam, this one has torch\.optim\.AdamW"),
        (handed, lambda: handed(groups=lambda net: list(net.parameters())[::-1]), "held = .*, this one has"),
        (handed, lambda: handed(groups=lambda net: [{"params": [p]} for p in net.parameters()]), "held = "),
        (simulation, lambda: simulation(learn=("W", "b")), "learned = .*tau_m.*, this one has"),
        (simulation, lambda: simulation(net=copy.deepcopy(FROZEN)), "learned = "),
        (simulation, lambda: simulation(every=4), "updates = at every step, this one has rarer"),
        (simulation, lambda: simulation(traces=(1.0, 1.0)), "traces = False, this one has True"),
        (simulation, lambda: simulation(centred=3.0), "centred = False, this one has True"),
        (
            lambda: gle.Simulation(mixed_network(), dt=DT),
            simulation,
            r"carry\.learning of the saved state does not fit",
        ),
        (simulation, lambda: simulation(net=mixed_network(dtype=torch.float32)), "which .*float32 cannot hold"),
    ],
)
def test_another_plasticity(there, here, message):
    """Prevents: moments that are lost, or a failure at the next step, where another optimiser goes on; and a refusal
    that leaves half of the state behind."""
    x, y = signals(6)
    first, second = there(), here()
    first.run(x, y)
    second.run(x, y)
    before = second.state_dict()
    with pytest.raises(ValueError, match=message) as raised:
        second.load_state_dict(first.state_dict())
    assert "\n" not in str(raised.value)
    assert equal(second.state_dict(), before)
    untouched = here()
    untouched.run(x, y)
    for s in (second, untouched):
        s.run(x, y)
    assert equal(second.state_dict(), untouched.state_dict())


def damaged(make, path, value):
    """A saved state with something else at the end of a path; without it where the value is None."""
    sim = make()
    sim.run(*signals(6))
    saved = sim.state_dict()
    part = saved
    for k in path[:-1]:
        part = part[k]
    if value is None:
        del part[path[-1]]
    else:
        part[path[-1]] = value
    return saved


@pytest.mark.parametrize(
    ("make", "path", "value", "message"),
    [
        (
            handed,
            ["optimizer"],
            None,
            "another optimizer, one of gle.plasticity; this simulation has one of torch.optim",
        ),
        (handed, ["optimizer"], {}, r"none of this simulation's torch\.optim\.Adam"),
        (handed, ["optimizer", "state"], None, r"none of this simulation's torch\.optim\.Adam"),
        (handed, ["optimizer", "state"], {0: 7}, r"none of this simulation's torch\.optim\.Adam"),
        (handed, ["optimizer", "param_groups"], [], r"none of this simulation's torch\.optim\.Adam"),
        (handed, ["optimizer", "param_groups", 0, "betas"], None, None),
        (handed, ["carry", "theta", "2", "W"], torch.zeros(3), r"carry\.theta\.2\.W was saved with shape \(3,\)"),
        (simulation, ["carry", "theta", "2", "W"], 3.0, r"carry\.theta\.2\.W of the saved state is no tensor"),
        (
            simulation,
            ["carry", "learning", "slots", "1", "2", "W"],
            None,
            r"slots\.1\.2 of the saved state does not fit",
        ),
        (simulation, ["carry", "state", "0", "u"], torch.zeros(1), "saved with shape"),
        (simulation, ["carry"], {}, "does not fit"),
        (simulation, ["carry"], 3, "does not fit"),
        (simulation, ["carry", "theta", "0", "tau_m"], torch.full((1, 4), 0.1), "tau_m = 0.1 in layer 0 is below dt"),
        (simulation, ["step"], "3", "must count"),
        (simulation, ["batch"], -1, "must count"),
    ],
)
def test_damaged_states(make, path, value, message):
    """Prevents: a crash that is no answer, and a simulation that took half of a state before it was refused."""
    x, y = signals(6)
    sim = make()
    sim.run(x[:3], y[:3])
    before = sim.state_dict()
    saved = damaged(make, path, value)
    if message is None:  # an option of the optimiser that an older version had not
        sim.load_state_dict(saved)
        return
    with pytest.raises(ValueError, match=message) as raised:
        sim.load_state_dict(saved)
    assert "\n" not in str(raised.value)
    assert equal(sim.state_dict(), before)
    sim.run(x, y)


def test_states_without_a_description():
    """States of before: taken where they fit; torch.optim's are compared by their options."""
    x, y = signals(6)
    for make, other in ((simulation, lambda: simulation("sgd")), (handed, lambda: handed(torch.optim.SGD))):
        first, second = make(), make()
        first.run(x, y)
        saved = first.state_dict()
        del saved["plasticity"]
        second.load_state_dict(saved)
        for s in (first, second):
            s.run(x, y)
        assert equal(first.state_dict(), second.state_dict())
        with pytest.raises(ValueError, match=r"does not fit this simulation|other options"):
            other().load_state_dict(saved)


def test_half_precision_s_memory_of_before():
    """Prevents: optimiser memory in half precision that goes on so; it is taken and widened."""
    net = mixed_network(dtype=torch.bfloat16)
    sim = simulation(net=net, learn=("W", "b"))
    sim.run(*signals(6))
    saved = sim.state_dict()
    saved["carry"]["learning"]["slots"]["0"]["0"]["W"] = saved["carry"]["learning"]["slots"]["0"]["0"]["W"].bfloat16()
    sim.load_state_dict(saved)
    assert sim.carry.learning.slots[0][0].W.dtype == torch.float32
