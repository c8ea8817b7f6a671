"""Gradient strategies in float64, against autograd through the paper's loop, finite differences and each other."""

import numpy as np
import pytest
import torch
from test_model import symbols, tiny
from torch.utils._pytree import tree_flatten

from hrm import gradients
from hrm.gradients import Implicit, LastSteps, Neumann, strategy


def grads(model, loss):
    found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, model.parameters())]


def loss_of(model, carry):
    out = model.read_out(carry)
    weights = torch.linspace(-1, 1, out.logits.numel(), dtype=torch.float64).reshape(out.logits.shape)
    return (out.logits.softmax(-1) * weights).sum() + 0.1 * out.q_halt.sum()


def found_by(how, model, x, carry=None):
    new, report = how(model, carry or model.initial(len(x)), model.embed(x))
    return grads(model, loss_of(model, new)), report


def off(a, b):
    """Relative distance of two gradients."""
    return (sum((p - q).square().sum() for p, q in zip(a, b)) / sum(q.square().sum() for q in b)).sqrt().item()


def contraction(**changes):
    """Weak blocks: what remains of a step is the norm of a sum, which contracts."""
    model = tiny(**changes)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "blocks" in name:
                p.mul_(0.5)
    return model


def test_bptt_is_autograd_through_the_whole_loop():
    model = tiny(H_cycles=2, L_cycles=3)
    x = symbols(model)
    L, H = (model.initial(3).L, model.initial(3).H)
    embedded = model.embed(x)
    for _ in range(2):
        for _ in range(3):
            L = model.L.blocks(L + H + embedded)
        H = model.H.blocks(H + L)
    expected = grads(model, loss_of(model, type(model.initial(3))(L, H)))
    assert off(found_by(strategy("bptt"), model, x)[0], expected) < 1e-12
    assert off(found_by(LastSteps(6), model, x)[0], expected) < 1e-12
    assert off(found_by(LastSteps(600), model, x)[0], expected) < 1e-12
    assert off(found_by(LastSteps(5), model, x)[0], expected) > 1e-3
    assert off(found_by(strategy("one_step"), model, x)[0], expected) > 1e-2


def test_bptt_against_finite_differences():
    model = tiny(H_cycles=2, L_cycles=2)
    x, h = symbols(model), 1e-5
    exact, _ = found_by(strategy("bptt"), model, x)
    for p, g in zip(model.parameters(), exact):
        i = int(g.abs().argmax())
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                p.view(-1)[i] += sign * h
                carry, _ = strategy("bptt")(model, model.initial(3), model.embed(x))
                values.append(loss_of(model, carry).item())
                p.view(-1)[i] -= sign * h
        assert g.view(-1)[i].item() == pytest.approx((values[0] - values[1]) / (2 * h), rel=1e-6)


def test_last_cycle_is_last_steps_of_its_length():
    model = tiny(H_cycles=2, L_cycles=3)
    x = symbols(model)
    assert off(found_by(strategy("last_cycle"), model, x)[0], found_by(LastSteps(3), model, x)[0]) < 1e-12


@pytest.mark.parametrize("how", [Neumann(1), Neumann(1, 1.0)])
def test_one_term_is_the_one_step_gradient(how):
    """Eq. 2 is Eq. 1 with the first term of the series."""
    model = tiny(H_cycles=2, L_cycles=2)
    x = symbols(model)
    assert off(found_by(how, model, x)[0], found_by(strategy("one_step"), model, x)[0]) < 1e-12


@pytest.mark.parametrize("damping", [1.0, 0.5])
def test_terms_of_the_series(damping):
    """λ Σ_{j<k} ((1 − λ) I + λ Jᵀ)ʲ v for a matrix that is written down, with the residual of what was cut off."""
    rng = np.random.default_rng(0)
    J, v = rng.normal(size=(5, 5)) / 4, rng.normal(size=5)
    M = (1 - damping) * np.eye(5) + damping * J.T
    for k in (1, 2, 5):
        expected = damping * sum(np.linalg.matrix_power(M, j) @ v for j in range(k))
        (w,), report = Neumann(k, damping).solve(lambda w: [w[0] @ torch.from_numpy(J)], [torch.from_numpy(v[None])])
        np.testing.assert_allclose(w[0], expected, atol=1e-12)
        left = v - (np.eye(5) - J.T) @ expected
        assert report.residual == pytest.approx(np.linalg.norm(left) / np.linalg.norm(v))


def test_each_row_s_own_system():
    """Against numpy: rows of one batch with systems of their own, of unequal size, one of zeros, one that is solved at
    once; and an honest report where the products do not suffice: that of the worst row."""
    rng = np.random.default_rng(0)
    J = rng.normal(size=(4, 12, 12)) / 2
    J[2] = 0
    v = rng.normal(size=(4, 12)) * np.array([1, 1e-6, 1, 0])[:, None]

    def products(w):
        return [torch.einsum("bji,bj->bi", torch.from_numpy(J), w[0])]

    (w,), report = Implicit(1e-12, 30).solve(products, [torch.from_numpy(v)])
    expected = np.stack([np.linalg.solve(np.eye(12) - j.T, b) for j, b in zip(J, v)])
    np.testing.assert_allclose(w, expected, rtol=1e-8, atol=1e-15)
    assert report.residual < 1e-11
    (w,), report = Implicit(1e-12, 6).solve(products, [torch.from_numpy(v)])
    left = v - np.einsum("bij,bj->bi", np.eye(12) - J.transpose(0, 2, 1), w.numpy())
    worst = (np.linalg.norm(left[:3], axis=1) / np.linalg.norm(v[:3], axis=1)).max()
    assert report.residual == pytest.approx(worst)
    assert worst > 1e-3
    broken = torch.full((1, 12), torch.nan, dtype=torch.float64)
    assert torch.equal(Implicit().solve(products, [broken])[0][0].isnan(), broken.isnan())


def test_implicit_is_bptt_of_a_converged_run():
    """At a fixed point that the steps contract to, Eq. 1 and the whole history say the same."""
    model = contraction(H_cycles=250, L_cycles=2)
    x = symbols(model)
    exact, _ = found_by(strategy("bptt"), model, x)
    implicit, report = found_by(Implicit(1e-12), model, x)
    assert off(implicit, exact) < 1e-6
    assert report.residual < 1e-10
    assert report.products > 3
    assert off(found_by(strategy("one_step"), model, x)[0], exact) > 1e-2


def settled(model, x):
    carry = model.initial(len(x))
    with torch.no_grad():
        for _ in range(20):
            carry = gradients.run(model, carry, model.embed(x), 0, model.config.steps)
    return carry


@pytest.mark.parametrize("damping", [1.0, 0.5])
def test_series_converges_at_the_rate_of_the_spectral_radius(damping):
    model = contraction(H_cycles=4, L_cycles=1)
    x = symbols(model, 1)
    carry = settled(model, x)
    implicit, _ = found_by(Implicit(1e-13), model, x, carry)
    ks = np.arange(20, 60, 4)
    errors = [off(found_by(Neumann(int(k), damping), model, x, carry)[0], implicit) for k in ks]
    slope = np.exp(np.polyfit(ks, np.log(errors), 1)[0])
    J = jacobian(model, carry, x)
    eigenvalues = np.linalg.eigvals((1 - damping) * np.eye(len(J)) + damping * J)
    assert slope == pytest.approx(abs(eigenvalues).max(), rel=0.03)
    assert errors[-1] < 0.15 * errors[0]


def jacobian(model, carry, x):
    """Of the step map, column by column, by torch.func."""
    leaves, _ = tree_flatten(carry)
    sizes = [t.numel() for t in leaves]

    def step(flat):
        parts = [p.reshape(t.shape) for p, t in zip(flat.split(sizes), leaves)]
        new = model.step(type(carry)(*parts), model.embed(x), True)
        return torch.cat([t.flatten() for t in tree_flatten(new)[0]])

    flat = torch.cat([t.detach().flatten() for t in leaves])
    return torch.autograd.functional.jacobian(step, flat).numpy()


def test_spectral_radius():
    model = contraction(H_cycles=4, L_cycles=1)
    x = symbols(model, 1)
    carry = settled(model, x)
    exact = abs(np.linalg.eigvals(jacobian(model, carry, x))).max()
    assert gradients.spectral_radius(model, carry, model.embed(x)) == pytest.approx(exact, rel=1e-3)
    assert 0.1 < exact < 1


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("everything", [False, True], ids=["at the call", "at the data, too"])
def test_spectral_radius_in_its_caller_s_mode(mode, everything):
    """Prevents: an error about flags of tensors, or a radius of zero, where autograd follows nothing."""
    model = contraction(H_cycles=4, L_cycles=1)
    x = symbols(model, 1)
    carry = settled(model, x)
    expected = gradients.spectral_radius(model, carry, model.embed(x))
    with mode():
        if everything:
            carry = settled(model, x)
        assert gradients.spectral_radius(model, carry, model.embed(x)) == pytest.approx(expected, rel=1e-6)
    assert gradients.spectral_radius(model, carry, model.embed(x)) == pytest.approx(expected, rel=1e-6)
    assert expected > 0.1


@pytest.mark.parametrize("name", gradients.STRATEGIES)
def test_strategies_after_inference_mode(name):
    """Prevents: gradients of zero from a carry or a call in inference mode: they are right, or refused in one line."""
    model = contraction(H_cycles=2, L_cycles=2)
    x = symbols(model)
    with torch.inference_mode():
        carry, _ = strategy(name)(model, model.initial(3), model.embed(x))
        with pytest.raises(RuntimeError, match="does not require grad"):
            loss_of(model, carry).backward()
    ordinary = type(carry)(*(t.clone() for t in carry))
    expected, _ = found_by(strategy(name), model, x, ordinary)
    here, _ = found_by(strategy(name), model, x, carry)
    assert off(here, expected) < 1e-12
    assert max(g.abs().max() for g in expected) > 1e-6


def test_report_tells_when_the_solver_gave_up():
    model = contraction(H_cycles=2, L_cycles=2)
    _, report = found_by(Implicit(1e-12, products=2), model, symbols(model))
    assert report.residual > 1e-6
    _, report = found_by(Neumann(2), model, symbols(model))
    assert report.residual > 1e-3


def test_without_gradients_nothing_is_kept():
    model = tiny()
    x = symbols(model)
    with torch.no_grad():
        for name in ("bptt", "implicit", "neumann"):
            carry, _ = strategy(name)(model, model.initial(3), model.embed(x))
            assert not carry.H.requires_grad


def test_only_the_last_steps_hold_a_graph():
    """Prevents: a one-step gradient whose memory grows with N·T. Counted: tensors that autograd saves."""

    def saved(name, cycles):
        model, counts = tiny(H_cycles=cycles, L_cycles=2), []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: counts.append(t.numel()) or t, lambda t: t):
            carry, _ = strategy(name)(model, model.initial(3), model.embed(symbols(model)))
            loss_of(model, carry)
        return sum(counts)

    assert saved("one_step", 2) == saved("one_step", 16)
    assert saved("bptt", 16) > 7 * saved("bptt", 2)
