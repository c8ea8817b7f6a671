"""The Euler step against a literal transcription, layer by layer and neuron array by neuron array, in plain NumPy."""

import numpy as np
import pytest
from nets import DT, mixed_network, signals

import gle
from bench.error_timing import Late


def transcription(net, xs, targets, *, beta, gamma, eta, learn_tau=False):
    """Algorithm 1 with the conventions of the published runs: every right-hand side of the previous step, the soma
    with the new error, r from the old u; SGD after every step. What a layer sends down it computes beside its error,
    before its weights change. Cross-entropy with linear outputs."""
    phi = {"linear": lambda u: u, "tanh": np.tanh}
    slope = {"linear": lambda u: np.ones_like(u), "tanh": lambda u: 1 / np.cosh(u) ** 2}
    W, b, tau_m, tau_r, names = [], [], [], [], []
    for i, d in net.places():
        p = net.layers[i].theta()
        names.append(net.layers[i].phi.name)
        for store, t in zip((W, b, tau_m, tau_r), p[:4]):
            store.append(t[d].detach().numpy().copy())
    L, batch = len(W), xs.shape[1]
    u = [np.zeros((batch, len(x))) for x in b]
    v, r, e, hat = ([x.copy() for x in u] for _ in range(4))
    sent = [np.zeros((batch, w.shape[1])) for w in W]
    for x, y in zip(xs, targets):
        inst = []
        for l in range(L):
            if l == L - 1:
                p = np.exp(r[l]) / np.exp(r[l]).sum(1, keepdims=True)
                inst.append(beta * slope[names[l]](hat[l]) * (y - p))
            else:
                inst.append(slope[names[l]](hat[l]) * sent[l + 1])
        below = [x, *r[:-1]]
        new_r, new_e, new_hat, new_u, new_v, updates = [], [], [], [], [], []
        for l in range(L):
            dv = (inst[l] - v[l]) / tau_r[l]
            error = v[l] + tau_m[l] * dv
            du = (below[l] @ W[l].T + b[l] + gamma * error - u[l]) / tau_m[l]
            new_e.append(error)
            new_hat.append(u[l] + tau_r[l] * du)
            new_r.append(phi[names[l]](new_hat[l]))
            new_u.append(u[l] + DT * du)
            new_v.append(v[l] + DT * dv)
            updates.append((error.T @ below[l] / batch, error.mean(0), -(error * du).mean(0), (inst[l] * du).mean(0)))
        u, v, r, e, hat = new_u, new_v, new_r, new_e, new_hat
        sent = [e[l] @ W[l] if l else np.zeros_like(sent[l]) for l in range(L)]
        for l, (dW, db, dm, dr) in enumerate(updates):
            W[l] += eta * dW
            b[l] += eta * db
            if learn_tau:
                tau_m[l] = np.maximum(tau_m[l] + eta * dm, DT)
                tau_r[l] = np.maximum(tau_r[l] + eta * dr, DT)
    return {"W": W, "b": b, "tau_m": tau_m, "tau_r": tau_r, "u": u, "v": v, "r": r, "e": e, "sent": sent}


@pytest.mark.parametrize("learn_tau", [False, True])
@pytest.mark.parametrize("gamma", [0.0, 0.3])
def test_euler_equals_transcription(gamma, learn_tau):
    """Prevents: new u in place of old, exchanged time constants, wrong delays, errors that come down through weights
    which have already learned from them, a missing φ′ or a wrong sign, all of which still learn a little."""
    net = mixed_network()
    xs, ys = signals(60)
    expected = transcription(net, xs.numpy(), ys.numpy(), beta=0.7, gamma=gamma, eta=0.02, learn_tau=learn_tau)
    learn = ("W", "b", "tau_m", "tau_r") if learn_tau else ("W", "b")
    start = [p.W.detach().clone() for p in net.theta()]
    sim = gle.Simulation(
        net, dt=DT, cost="cross_entropy", beta=0.7, gamma=gamma, plasticity=gle.Plasticity("sgd", lr=0.02, learn=learn)
    )
    sim.run(xs, ys)
    assert max((p.W - q).abs().max() for p, q in zip(sim.carry.theta, start)) > 1e-3
    for l, (i, d) in enumerate(net.places()):
        for name in ("u", "v", "r", "e", "sent"):
            got = getattr(sim.carry.state[i], name)[d]
            np.testing.assert_allclose(got, expected[name][l], rtol=0, atol=1e-12, err_msg=f"{name} of layer {l}")
        for name in ("W", "b", "tau_m", "tau_r"):
            got = getattr(sim.carry.theta[i], name)[d].detach()
            np.testing.assert_allclose(got, expected[name][l], rtol=0, atol=1e-12, err_msg=f"{name} of layer {l}")


def test_push_of_an_error_that_comes_late():
    """What an error adds to itself when it comes down through weights that have just learned from it: for gradient
    descent and one sample η |e|² r, along the presynaptic rates (the closed form that bench.error_timing starts from).

    Prevents: a study of the push that measures something else.
    """
    net = mixed_network()
    xs, ys = signals(20, batch=1)
    sim = gle.Simulation(net, dt=DT, cost="cross_entropy", plasticity=gle.Plasticity("sgd", lr=0.02))
    sim.run(xs[:-1], ys[:-1])
    before = sim.carry.state
    sim.run(xs[-1:], ys[-1:])
    theta, after, *_ = sim.carry
    below = net.presynaptic(xs[-1], [s.r for s in before])
    for i in (1, 2):
        push = net.sent(i, theta[i], after[i].e) - after[i].sent
        expected = 0.02 * after[i].e.square().sum(-1, keepdim=True) * below[i]
        assert expected.abs().max() > 1e-6
        np.testing.assert_allclose(push.detach(), expected.detach(), rtol=1e-9, atol=1e-15)
    # read late, the same state gives other errors; with weights that rest it does not
    late, _ = Late().step(net, theta, after, (xs[0],), (ys[0],), sim.dynamics)
    sent, _ = sim.integrator.step(net, theta, after, (xs[0],), (ys[0],), sim.dynamics)
    assert (late[0].e - sent[0].e).abs().max() > 1e-6
    again, _ = Late().step(net, theta, late, (xs[1],), (ys[1],), sim.dynamics)
    rested, _ = sim.integrator.step(net, theta, late, (xs[1],), (ys[1],), sim.dynamics)
    np.testing.assert_allclose(again[0].e.detach(), rested[0].e.detach(), rtol=0, atol=1e-15)
