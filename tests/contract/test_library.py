"""The toolkit within a program of somebody else's: copies, PyTorch's modes and dtypes, flags, and other ways of giving
the same thing."""

import contextlib
import copy
import importlib.metadata
import io
import pickle

import numpy as np
import pytest
import torch
from nets import DT, flat, mixed_network, signals

import gle
from gle import neurons, rules
from gle import plasticity as pl
from gle.integrators import Euler

ALL = ("W", "b", "tau_m", "tau_r")


def saved_and_loaded(item):
    file = io.BytesIO()
    torch.save(item, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x)), saved_and_loaded],
    ids=["deep", "pickle", "torch"],
)


def simulation(net=None, optimizer="sgd", lr=0.1, learn=("W", "b"), **kw):
    net = mixed_network() if net is None else net
    plasticity = gle.Plasticity(optimizer, lr=lr, learn=learn, **{k: kw.pop(k) for k in ("every", "traces") if k in kw})
    return gle.Simulation(net, dt=DT, plasticity=plasticity, **kw)


def handed(net, optimizer=torch.optim.Adam, learn=("W", "b"), **kw):
    return simulation(net, gle.TorchOptimizer(optimizer(net.parameters(), lr=0.01)), learn=learn, **kw)


def same(a, b):
    for p, q in zip(flat(a), flat(b), strict=True):
        assert torch.equal(p, q)


# -- copies ------------------------------------------------------------------------------------------------------------


@COPIES
@pytest.mark.parametrize("phi", neurons.ACTIVATIONS)
def test_networks_are_copied(phi, copied):
    """Prevents: a network that only `state_dict` can save, and one that comes back with another activation."""
    net = mixed_network(phi=phi, feedback="fixed_random")
    made = copied(net)
    same(made.theta(), net.theta())
    assert [layer.phi.name for layer in made.layers] == ["linear", phi, "linear"]
    x, _ = signals(6)
    assert torch.equal(*(gle.Simulation(n, dt=DT).predict(x)[0] for n in (net, made)))
    assert made.layers[0].W is not net.layers[0].W


@COPIES
def test_layers_and_plasticities_are_copied(copied):
    """Prevents: parts that cannot be sent to another process, where a network can."""
    net = mixed_network(errors="instantaneous")
    plasticity = gle.Plasticity("adam", {"W": 0.01, "b": np.float64(0.02)}, traces=(0.4, 1.2), centred=3.0)
    sims = [
        gle.Simulation(gle.Network(layers, 3), dt=DT, plasticity=p)
        for layers, p in ((list(net.layers), plasticity), ([copied(layer) for layer in net.layers], copied(plasticity)))
    ]
    for sim in sims:
        sim.run(*signals(6))
    same(sims[0].carry.theta, sims[1].carry.theta)
    assert (sims[0].carry.theta[0].W - mixed_network().layers[0].W).abs().max() > 1e-3


@COPIES
@pytest.mark.parametrize("compile", [False, True])
def test_a_copy_has_settings_of_its_own(copied, compile, monkeypatch):
    """Prevents: a copy whose step is the original's, and learns with the original's β."""
    monkeypatch.setenv("GLE_COMPILER", "eager")
    x, y = signals(12)
    sim = simulation(compile=compile, every=2, traces=(0.4, 1.2))
    sim.run(x, y)
    still, alike = copied(sim), copied(sim)
    still.dynamics = still.dynamics._replace(beta=0.0)
    still.reset()
    before = [p.clone() for p in flat(sim.carry.theta)]
    still.run(x, y)
    for p, q in zip(flat(still.carry.theta), before, strict=True):
        assert torch.equal(p, q)
    for p, q in zip(flat(sim.carry.theta), before, strict=True):
        assert torch.equal(p, q)
    for s in (sim, alike):
        s.run(x, y)
    same(alike.carry.theta, sim.carry.theta)
    assert (sim.carry.theta[0].W - before[0]).abs().max() > 1e-3


@COPIES
def test_a_copy_has_an_optimiser_of_its_own(copied):
    """Prevents: a copy's torch.optim optimiser that moves the original's parameters, or nobody's."""
    x, y = signals(8)
    sim = handed(mixed_network())
    sim.run(x, y)
    made = copied(sim)
    before = [p.detach().clone() for p in flat(sim.network.theta())]
    made.run(x, y)
    for p, q in zip(flat(sim.network.theta()), before, strict=True):
        assert torch.equal(p, q)
    sim.run(x, y)
    same(made.network.theta(), sim.network.theta())
    assert (sim.network.layers[0].W - before[0]).abs().max() > 1e-3


# -- PyTorch's modes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "where"),
    [
        *((n, "all") for n in rules.RULES),
        *((n, w) for n in ("bptt", "rtrl", "uoro") for w in ("rule", "data", "simulation")),
    ],
)
def test_rules_in_inference_mode(name, where):
    """Prevents: gradients of zero, without a word, where autograd follows nothing."""
    x, y = signals(8, batch=3)

    def credit(*here):
        def mode(part):
            return torch.inference_mode() if part in here or "all" in here else contextlib.nullcontext()

        with mode("simulation"):
            net = gle.Network(
                [
                    gle.Layer(2, 3, tau_m=1.2, tau_r=0.4, ensemble=(2,), dtype=torch.float64),
                    gle.Layer(3, 3, tau_m=0.8, tau_r=0.8, phi="linear", ensemble=(2,), dtype=torch.float64),
                ]
            )
            sim = simulation(net, learn=ALL, beta=torch.tensor([0.5, 1.0]))
        with mode("data"):
            data = x.clone(), y.clone()
        with mode("rule"):
            found = rules.assign(rules.rule(name), sim, *data)
            last = rules.learn(rules.rule(name), sim, *data, stretch=4)
        after = rules.learn(rules.rule(name), sim, *data, stretch=4, memory=last.memory)
        return found.grads, after.grads, sim.carry.theta

    for here, reference in zip(credit(where), credit(), strict=True):
        same(here, reference)
    assert min(g.abs().max() for g in flat(reference)) > 1e-4


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_torch_optim_in_inference_mode(mode):
    """Prevents: an optimiser whose memory is of no use any more once inference mode is left."""
    x, y = signals(8)
    sims = handed(mixed_network()), handed(mixed_network())
    for sim, here in zip(sims, (mode, contextlib.nullcontext)):
        with here():
            sim.run(x, y)
        sim.run(x, y)
    same(sims[0].network.theta(), sims[1].network.theta())
    assert (sims[0].network.layers[0].W - mixed_network().layers[0].W).abs().max() > 1e-3


# -- half precision ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("own", "theirs"),
    [
        (pl.Adam(), lambda p: torch.optim.Adam(p, lr=0.01)),
        (pl.Adam(weight_decay=0.1), lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1)),
        (pl.SGD(0.9), lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9)),
    ],
    ids=["adam", "adamw", "momentum"],
)
def test_optimisers_in_half_precision(own, theirs, dtype):
    """Prevents: NaN from an ε that is zero, a count of updates that stops at 256, moments that stand still."""
    net = mixed_network(dtype=dtype)
    plasticity = gle.Plasticity(own, lr=0.01)
    learning, theta = plasticity.init(net), net.theta()
    reference = [torch.nn.Parameter(p.detach().float()) for p in flat(theta, ("W", "b"))]
    optimizer = theirs(reference)
    g = torch.Generator().manual_seed(0)
    for step in range(270):
        scale = 10.0 ** (-step / 100)  # down to where squares vanish in float16
        grads = tuple(
            gle.Theta(**{k: (torch.randn(getattr(p, k).shape, generator=g) * scale).to(dtype) for k in ("W", "b")})
            for p in theta
        )
        with torch.no_grad():
            theta, learning = plasticity.apply(net, theta, learning, grads, DT)
        for p, grad in zip(reference, flat(grads), strict=True):
            p.grad = grad.float()
        optimizer.step()
        for p, q in zip(reference, flat(theta, ("W", "b")), strict=True):
            assert q.dtype == dtype
            torch.testing.assert_close(q.float(), p.detach(), rtol=2 * torch.finfo(dtype).eps, atol=1e-6)
            p.data = q.detach().float()  # both go on from the rounded value
    assert learning.step == 270
    assert (theta[0].W - net.layers[0].W).abs().max() > 0.05


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("settings", [{}, {"every": 4}, {"traces": (0.4, 4.0), "centred": 50.0}])
def test_learning_in_half_precision(settings, dtype):
    """Prevents: NaN after one step; synaptic filters, means or gradients that wait which do not fit the dtype."""
    x, y = signals(60)
    sims = []
    for d in (dtype, torch.float32):
        net = mixed_network(dtype=d)
        sims.append(gle.Simulation(net, dt=DT, plasticity=gle.Plasticity(lr=0.01, **settings), cost="cross_entropy"))
        sims[-1].run(x, y)
    moves = [
        torch.cat(
            [
                (p.float() - q.detach().float()).flatten()
                for p, q in zip(flat(s.carry.theta), flat(mixed_network(dtype=d).theta()))
            ]
        )
        for s, d in zip(sims, (dtype, torch.float32))
    ]
    assert {p.dtype for p in flat(sims[0].carry.theta)} == {dtype}
    assert torch.cosine_similarity(*moves, dim=0) > 0.9
    assert moves[0].norm() == pytest.approx(moves[1].norm().item(), rel=0.2)
    for p, q in zip(sims[0].carry.learning.means, sims[1].carry.learning.means, strict=True):
        torch.testing.assert_close(p, q, atol=0.02, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_means_reach_what_they_follow(dtype):
    """Prevents: a running mean that stops on the way, where a step is less than its precision."""
    net = gle.Network([gle.Layer(1, 1, tau_m=1.0, tau_r=1.0, dtype=dtype)])
    sim = gle.Simulation(net, dt=0.1, plasticity=gle.Plasticity("sgd", lr=0.0, traces=(0.0, 10.0), centred=20.0))
    x = torch.ones(1500, 1, 1, dtype=dtype)
    sim.run(x, x)
    assert sim.carry.learning.traces[0].pre.item() == pytest.approx(1.0, abs=1e-3)
    assert sim.carry.learning.means[0].item() == pytest.approx(1.0, abs=0.01)


# -- freezing ----------------------------------------------------------------------------------------------------------


def learned_by(kind, net):
    """What moves: (layer, kind of parameter) of all that did, in a run of the simulation or by a rule."""
    x, y = signals(8)
    start = [p.detach().clone() for p in flat(net.theta())]
    names = [(i, k) for i in range(len(net.layers)) for k in ALL]
    if kind == "torch":
        sim = handed(net, lambda p, lr: torch.optim.AdamW(p, lr=lr, weight_decay=0.5), learn=ALL)
    else:
        sim = simulation(net, learn=ALL, **({"every": 4} if kind == "every" else {}))
    if kind in rules.RULES:
        rules.learn(rules.rule(kind), sim, x, y, stretch=8)
    else:
        sim.run(x, y)
    return {n for n, p, q in zip(names, start, flat(sim.carry.theta), strict=True) if not torch.equal(p, q)}


@pytest.mark.parametrize("kind", ["own", "every", "torch", *rules.RULES])
def test_frozen_by_their_flag(kind):
    """Prevents: `requires_grad_(False)` that PyTorch users take for granted and nobody heeds."""
    taus = {"tau_m": [0.6, 1.2, 1.2, 0.9], "tau_r": [0.4, 0.5, 1.2, 0.5]}
    everything = {(i, k) for i in range(3) for k in ALL}
    assert learned_by(kind, mixed_network(taus=taus)) == everything
    net = mixed_network(taus=taus)
    net.layers[1].requires_grad_(False)
    net.layers[2].b.requires_grad_(False)
    assert learned_by(kind, net) == everything - {(1, "W"), (1, "b"), (2, "b")}
    assert net.n_parameters() == 2 * 4 + 4 + 4 * 3


def test_frozen_where_the_bias_was_to_follow():
    """Prevents: centring that moves a frozen bias."""
    net = mixed_network()
    net.layers[1].b.requires_grad_(False)
    with pytest.raises(ValueError, match=r"b of layers\.1 is frozen: freeze its W, too"):
        gle.Simulation(net, dt=DT, plasticity=gle.Plasticity(centred=9.0))
    net.layers[1].W.requires_grad_(False)
    sim = gle.Simulation(net, dt=DT, plasticity=gle.Plasticity("sgd", lr=0.1, centred=9.0))
    sim.run(*signals(8))
    assert torch.equal(sim.carry.theta[1].b, mixed_network().layers[1].b)
    assert (sim.carry.theta[0].W - mixed_network().layers[0].W).abs().max() > 1e-3


def test_bounds_leave_frozen_time_constants():
    """Prevents: time constants of a frozen layer that torch.optim's path moves into the bounds."""
    net = mixed_network()
    net.layers[1].plastic = False
    optimizer = gle.TorchOptimizer(torch.optim.SGD(net.parameters(), lr=0.0))
    plasticity = gle.Plasticity(optimizer, learn=("W", "tau_m"), tau_bounds=(None, 1.0))
    net.layers[0].tau_m.data.clamp_(max=1.0)
    gle.Simulation(net, dt=DT, plasticity=plasticity).run(*signals(4))
    assert net.layers[1].tau_m.max() == 1.2


# -- a network that changes behind its simulation's back ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda net: net.float(), r"now torch\.float32 on cpu, .* torch\.float64 on cpu: make the Simulation after"),
        (lambda net: net.half(), "make the Simulation after moving the network"),
        (lambda net: net.layers[0].b.requires_grad_(False), r"W of layers\.0 learns now, W, b did"),
        (lambda net: setattr(net.layers[2], "plastic", False), r"nothing of layers\.2 learns now"),
        (
            lambda net: net.load_state_dict(mixed_network(seed=8).state_dict()),
            r"take_parameters\(\) takes the new ones",
        ),
        (lambda net: net.load_state_dict(mixed_network(seed=8).state_dict(), assign=True), "were changed"),
        (lambda net: net.initialize(5), "were changed"),
    ],
)
def test_changed_behind_the_simulation(change, message):
    """Prevents: parameters that are loaded, moved or frozen, and a simulation that goes on with what it had."""
    x, y = signals(4)
    sim = simulation()
    sim.run(x, y)
    before = sim.carry
    change(sim.network)
    learning = (lambda: sim.run(x, y), lambda: rules.assign(rules.GLE(), sim, x, y))
    for call in learning if "learns" in message else (*learning, lambda: sim.predict(x)):
        with pytest.raises(ValueError, match=message):
            call()
    if "learns" in message:
        sim.predict(x)
    assert sim.carry is before
    assert sim.step == 4


def test_parameters_are_taken():
    x, y = signals(4)
    sim, other = simulation(), mixed_network(seed=8)
    sim.run(x, y)
    sim.network.load_state_dict(other.state_dict())
    sim.take_parameters()
    same(sim.carry.theta, other.theta())
    assert torch.equal(sim.predict(x)[0], gle.Simulation(other, dt=DT).predict(x)[0])
    for _ in range(2):  # what it hands over itself is no change behind its back
        sim.run(x, y)
    assert (sim.network.layers[0].W - other.layers[0].W).abs().max() > 1e-3
    before = sim.carry
    with torch.no_grad():
        sim.network.layers[0].tau_m.fill_(DT / 2)
    with pytest.raises(ValueError, match=r"tau_m = 0\.1 in layer 0 is below dt"):
        sim.take_parameters()
    sim.network.float()
    with pytest.raises(ValueError, match="after moving the network"):
        sim.take_parameters()
    assert sim.carry is before


def test_parameters_shared_with_torch_optim():
    """Prevents: a refusal where the simulation does see what was loaded; silence where it does not."""
    x, y = signals(4)
    sim = handed(mixed_network())
    sim.run(x, y)
    sim.network.load_state_dict(mixed_network(seed=8).state_dict())
    assert torch.equal(sim.predict(x)[0], gle.Simulation(mixed_network(seed=8), dt=DT).predict(x)[0])
    sim.network.load_state_dict(mixed_network(seed=9).state_dict(), assign=True)
    for call in (lambda: sim.run(x, y), lambda: sim.load_state_dict(sim.state_dict())):
        with pytest.raises(ValueError, match="were changed"):
            call()
    with pytest.raises(ValueError, match=r"does not hold W of layers\.0"):
        sim.take_parameters()


def test_a_state_that_is_loaded_stands_for_the_parameters():
    """Prevents: a refusal, or the network's parameters, where a simulation has just been given its own."""
    x, y = signals(4)
    sim, other = simulation(), simulation(mixed_network(seed=8))
    sim.network.initialize(5)
    sim.load_state_dict(other.state_dict())
    for s in (sim, other):
        s.run(x, y)
    same(sim.carry.theta, other.carry.theta)


# -- activations of one's own ------------------------------------------------------------------------------------------

ELU = neurons.Activation("elu", torch.nn.functional.elu, lambda r: torch.where(r > 0, torch.ones_like(r), r + 1))


@pytest.mark.parametrize("phi", neurons.ACTIVATIONS)
def test_activations_are_what_errors_take_them_for(phi):
    """Against autograd, at voltages between the kinks."""
    u = torch.linspace(-4.03, 4.01, 50, dtype=torch.float64, requires_grad=True)
    r = neurons.activation(phi).phi(u)
    (slope,) = torch.autograd.grad(r.sum(), u)
    torch.testing.assert_close(neurons.activation(phi).slope(r.detach()), slope, atol=1e-7, rtol=1e-7)


@pytest.mark.parametrize(
    ("phi", "slope", "message"),
    [
        (torch.nn.functional.silu, torch.sigmoid, r"'mine': slope\(r\) is .* φ falls there"),  # swish
        (torch.tanh, lambda r: 1 - r, "give φ′ as a function of r"),
        (torch.tanh, lambda u: 1 - torch.tanh(u) ** 2, "give φ′ as a function of r"),
        (torch.log, lambda r: torch.exp(-r), "slope"),  # NaN below zero
    ],
)
def test_activations_whose_slope_is_another(phi, slope, message):
    """Prevents: errors that are silently those of another network, with cosines of 0.9 to the gradient."""
    mine = neurons.Activation("mine", phi, slope)
    with pytest.raises(ValueError, match=message):
        gle.Layer(2, 3, tau_m=1.0, tau_r=1.0, phi=mine)


def test_an_activation_without_a_name_in_the_list():
    """Instantaneous neurons' errors give autograd's gradient; it is copied with the network."""
    settings = {"tau_m": 1.0, "tau_r": 1.0, "dtype": torch.float64}
    net = gle.Network([gle.Layer(2, 3, phi=ELU, **settings), gle.Layer(3, 3, phi="linear", **settings)], 1)
    x, y = signals(6)
    sim = gle.Simulation(net, dt=DT, integrator=Euler("instant"))
    found, exact = (rules.assign(rule, sim, x, y).grads for rule in (rules.GLE(), rules.BPTT()))
    for p, q in zip(flat(found, ("W", "b")), flat(exact, ("W", "b")), strict=True):
        torch.testing.assert_close(p, q)
        assert q.abs().max() > 1e-3
    assert torch.equal(*(gle.Simulation(n, dt=DT).predict(x)[0] for n in (net, copy.deepcopy(net))))
    with pytest.raises(ValueError, match="phi must be the name of an activation"):
        gle.Layer(2, 3, tau_m=1.0, tau_r=1.0, phi=torch.tanh)


# -- other ways of giving the same -------------------------------------------------------------------------------------


def test_seeds():
    """Prevents: seeds that only a list can hold; fractions that are cut off."""
    for seeds in (np.array([4, 9, 2]), torch.tensor([4, 9, 2]), [np.int64(4), 9, 2], (4, 9, 2)):
        net = gle.Network([gle.Layer(2, 3, tau_m=1.0, tau_r=1.0, ensemble=(3,))], seeds)
        for i, s in enumerate((4, 9, 2)):
            assert torch.equal(
                net.layers[0].W[:, i], gle.Network([gle.Layer(2, 3, tau_m=1.0, tau_r=1.0)], s).layers[0].W
            )
    for seed in (np.int64(4), torch.tensor(4)):
        net = gle.Network([gle.Layer(2, 3, tau_m=1.0, tau_r=1.0)], seed)
        assert torch.equal(net.layers[0].W, gle.Network([gle.Layer(2, 3, tau_m=1.0, tau_r=1.0)], 4).layers[0].W)
    for seeds in (1.5, [1.5], torch.tensor([1.0]), np.array([1.0]), "1"):
        with pytest.raises(ValueError, match="whole numbers"):
            gle.Network([gle.Layer(2, 3, tau_m=1.0, tau_r=1.0)], seeds)


def test_optimisers_and_synapses_as_they_come():
    """One of torch.optim itself; a synapse's name. Prevents: an AttributeError far from the argument."""
    x, y = signals(6)
    nets = [mixed_network() for _ in range(2)]
    ways = (lambda o: o, gle.TorchOptimizer)
    sims = [simulation(n, way(torch.optim.SGD(n.parameters(), lr=0.1))) for n, way in zip(nets, ways)]
    for sim in sims:
        sim.run(x, y)
    same(nets[0].theta(), nets[1].theta())
    assert (nets[0].layers[0].W - mixed_network().layers[0].W).abs().max() > 1e-3
    for given in (torch.optim.SGD, gle.Adam, 3, None):
        with pytest.raises(ValueError, match=r"optimizer must be one of sgd, adam, an object like gle\.Adam"):
            gle.Plasticity(given)
    made = [gle.Layer(2, 3, tau_m=1.0, tau_r=1.0, synapse=s) for s in ("linear", gle.Linear())]
    assert {type(layer.synapse) for layer in made} == {gle.Linear}
    for given in ("dense", gle.Linear, 3):
        with pytest.raises(ValueError, match="synapse must be one of linear"):
            gle.Layer(2, 3, tau_m=1.0, tau_r=1.0, synapse=given)


def test_one_kind_by_its_name():
    """Prevents: a name that is read letter by letter."""
    assert gle.Plasticity(learn="tau_m").learn == ("tau_m",)
    with pytest.raises(ValueError, match="learn must name some of W, b"):
        gle.Plasticity(learn="Wb")


def test_arrays_and_numbers():
    """Prevents: digits that are lost where a function gives plain numbers, and input that only a tensor can be."""
    net = gle.Network([gle.Layer(1, 1, tau_m=1.0, tau_r=0.5, dtype=torch.float64)])

    def ran(make):
        sim = simulation(copy.deepcopy(net))
        sim.run(lambda t: make(np.sin(t)), lambda t: make(np.cos(t)), steps=20)
        return sim.carry.theta

    reference = ran(lambda v: torch.tensor([[v]], dtype=torch.float64))
    for make in (float, np.float64, np.asarray, lambda v: np.array([[v]]), lambda v: [[v]]):
        same(ran(make), reference)
    assert (reference[0].W - net.layers[0].W).abs().max() > 1e-3
    x, _ = signals(5)
    sim = simulation()
    for a, b in zip(flat(sim.predict(x.numpy())[1], ("u", "r")), flat(sim.predict(x)[1], ("u", "r")), strict=True):
        assert torch.equal(a, b)


def test_record_of_one_run():
    """Prevents: two runs in one Record, whose steps go back and forth."""
    x, y = signals(8)
    record = gle.Record("r")
    sim = simulation()
    sim.run(x, y, record=record)
    sim.run(x, y, record=record)
    assert record.steps == list(range(1, 17))
    other = simulation()
    with pytest.raises(ValueError, match="holds step 16 of another run, this one is at 0"):
        other.run(x, y, record=record)
    assert not other.carry.state


def test_names_of_the_package():
    """Prevents: a version that the installed package does not have, and names that are promised only."""
    assert gle.__version__ == importlib.metadata.version("gle-toolkit")
    assert all(hasattr(gle, name) for name in gle.__all__)
    assert gle.analysis.alignment.compare


def test_objects_show_what_they_are():
    """Prevents: <gle.simulate.Simulation object at 0x…>."""
    net = gle.Network([gle.Layer(1, 3, tau_m=torch.linspace(0.2, 2.0, 3), tau_r=0.2, depth=1, ensemble=(2,))], [0, 1])
    sim = gle.Simulation(net, dt=0.1, plasticity=gle.Plasticity("adam", lr=1e-3, every=4))
    text = repr(sim)
    for part in ("1 → 3", "tau_m=0.2 … 2", "phi=tanh", "ensemble=(2,)", "dt=0.1", "Euler(propagation='delayed')",
                 "MeanSquaredError()", "Adam(betas=(0.9, 0.999)", "every=4", "step=0"):  # fmt: skip
        assert part in text, part
    assert repr(gle.Record("r", every=2)) == "Record(what=('r',), layers=None, every=2) of 0 steps"
    assert repr(gle.Linear("transpose")) == "Linear(feedback='transpose')"
    assert repr(gle.Plasticity(torch.optim.SGD(net.parameters(), lr=0.1)).optimizer) == "TorchOptimizer(SGD)"
