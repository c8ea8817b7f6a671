"""Peak memory of computations whose need is known."""

import torch

from bench.kit.memory import peak_bytes

KIB = 1024


def made(kib):
    return torch.zeros(kib * KIB // 8, dtype=torch.float64)


def test_the_peak_is_what_lives_at_once():
    """Prevents: counting all that was ever allocated, or what is left at the end."""

    def f():
        kept = made(64)
        for _ in range(10):
            made(256)
        return kept.sum()

    assert abs(peak_bytes(f) - 320 * KIB) < 2 * KIB


def test_what_existed_before_does_not_count():
    before = made(512)
    assert abs(peak_bytes(lambda: before + 1) - 512 * KIB) < 2 * KIB


def test_graphs_count():
    """What autograd keeps for the backward pass grows with the length of the chain."""

    def f(n):
        x = made(8).requires_grad_()
        y = x
        for _ in range(n):
            y = torch.tanh(y)
        y.sum().backward()

    assert 9 < (peak_bytes(lambda: f(100)) - peak_bytes(lambda: f(50))) / (50 * 8 * KIB) * 10 < 11
