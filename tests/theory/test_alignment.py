"""Measures of agreement on vectors whose answer is known, and their refusal to compare nothing."""

import math

import pytest
import torch
from nets import mixed_network

import gle
from gle.analysis import alignment


def test_known_angles():
    a = torch.tensor([[3.0, 0.0, 0.0], [1.0, 1.0, 0.0]], dtype=torch.float64)
    b = torch.tensor([[1.0, 0.0, 0.0], [-2.0, 0.0, 0.0]], dtype=torch.float64)
    cosine, signs, ratio = alignment.compare(a, b)
    torch.testing.assert_close(cosine, torch.tensor([1.0, -1 / math.sqrt(2)], dtype=torch.float64))
    torch.testing.assert_close(signs, torch.tensor([1.0, 1 / 3], dtype=torch.float64))
    torch.testing.assert_close(ratio, torch.tensor([3.0, math.sqrt(2) / 2], dtype=torch.float64))


def test_huge_and_tiny_gradients():
    """Prevents: an overflow or underflow of the product of norms."""
    a = torch.tensor([1e-160, 2e-160], dtype=torch.float64)
    torch.testing.assert_close(alignment.compare(a, a * 1e300).cosine, torch.tensor(1.0, dtype=torch.float64))


def test_groups_and_members():
    net = mixed_network(ensemble=(2,))
    grads = tuple(gle.Theta(W=torch.randn_like(p.W), b=torch.randn_like(p.b)) for p in net.theta())
    doubled = tuple(gle.Theta(W=-2 * g.W, b=2 * g.b) for g in grads)
    found = alignment.gradients(net, doubled, grads)
    assert found.keys() == {(l, kind) for l in range(net.depth) for kind in ("W", "b")}
    for (_, kind), (cosine, signs, ratio) in found.items():
        assert cosine.shape == (2,)
        torch.testing.assert_close(cosine, torch.full_like(cosine, -1.0 if kind == "W" else 1.0))
        torch.testing.assert_close(signs, torch.full_like(signs, 0.0 if kind == "W" else 1.0))
        torch.testing.assert_close(ratio, torch.full_like(ratio, 2.0))
    assert (alignment.whole(net, grads, grads).cosine > 1 - 1e-12).all()


def test_nothing_is_not_compared():
    """Prevents: a comparison that succeeds because there was nothing in it."""
    net = mixed_network()
    grads = tuple(gle.Theta(W=torch.ones_like(p.W)) for p in net.theta())
    zero = tuple(gle.Theta(W=torch.zeros_like(p.W)) for p in net.theta())
    with pytest.raises(ValueError, match="W in layer 0: the reference is zero"):
        alignment.gradients(net, grads, zero)
    with pytest.raises(ValueError, match="empty"):
        alignment.compare(torch.zeros(3, 0), torch.zeros(3, 0))
    with pytest.raises(ValueError, match="empty"):
        alignment.compare(torch.zeros(0, 3), torch.zeros(0, 3))
    late = torch.ones(4, 1, 2, 3)
    late[2] = 0
    with pytest.raises(ValueError, match=r"error signal: the first is zero or not finite at \(2, 0\)"):
        alignment.over_time(late, torch.ones(4, 1, 2, 3))
    with pytest.raises(ValueError, match="no gradients of b"):
        alignment.groups(net, grads, ["b"])
    with pytest.raises(ValueError, match="different groups"):
        alignment.gradients(net, grads, tuple(gle.Theta(b=p.b) for p in net.theta()))
    with pytest.raises(ValueError, match="not finite"):
        alignment.compare(torch.tensor([float("nan"), 1.0]), torch.ones(2))
