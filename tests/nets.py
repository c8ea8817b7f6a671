"""Small networks and signals that several tests share."""

import torch

import gle

DT = 0.2
TAUS = {"tau_m": [0.6, 1.2, 1.2, 0.9], "tau_r": [0.2, 0.2, 1.2, 0.5]}


def mixed_network(
    ensemble=(), seed=3, dtype=torch.float64, device="cpu", phi="tanh", feedback="transpose", taus=TAUS, **kw
):
    """2 → 4 → 4 → 4 → 4 → 3 with mixed time constants."""
    common = {"dtype": dtype, "ensemble": ensemble, "device": device, **kw}

    def synapse():
        return gle.Linear(feedback)

    return gle.Network(
        [
            gle.Layer(2, 4, phi="linear", synapse=synapse(), **taus, **common),
            gle.Layer(4, 4, phi=phi, depth=3, synapse=synapse(), **taus, **common),
            gle.Layer(4, 3, phi="linear", tau_m=1.0, tau_r=1.0, synapse=synapse(), **common),
        ],
        seed,
    )


def signals(steps=40, batch=5, seed=0, dtype=torch.float64, members=()):
    """Noise in, one class per sample."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(steps, *members, batch, 2, generator=g, dtype=torch.float64).to(dtype)
    y = torch.nn.functional.one_hot(torch.randint(3, (*members, batch), generator=g), 3).to(dtype)
    return x, y.expand(steps, *y.shape)


def single(tau_m, tau_r, weight=1.0, phi="linear", bias=0.0):
    """One neuron in float64."""
    net = gle.Network([gle.Layer(1, 1, tau_m=tau_m, tau_r=tau_r, phi=phi, dtype=torch.float64)])
    with torch.no_grad():
        net.layers[0].W.fill_(weight)
        net.layers[0].b.fill_(bias)
    return net


def flat(theta, fields=("W", "b", "tau_m", "tau_r")):
    """All tensors of a tuple of Thetas, in order."""
    return [getattr(p, f) for p in theta for f in fields if getattr(p, f) is not None]
