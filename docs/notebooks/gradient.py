# %% [markdown]
# # How good is the gradient?
#
# **GLE's errors never look at the future. How close to the exact gradient are they, and on what does it hang?**
#
# The exact gradient of a stretch is that of backpropagation through time (BPTT). Every rule of the toolkit answers the
# same question, "which gradient?", for the same simulated network, so that they can be compared one by
# one.

# %%
import matplotlib.pyplot as plt
import torch

import gle
from gle import rules
from gle.analysis import alignment

_ = torch.manual_seed(0)


# %% [markdown]
# A network of two hidden layers with τm = 1 sees tones around a frequency ω and predicts them a little ahead.


# %%
def simulation(tau_r, integrator="euler"):
    hidden = [gle.Layer(n, 12, tau_m=1.0, tau_r=tau_r, dtype=torch.float64) for n in (1, 12)]
    net = gle.Network([*hidden, gle.Layer(12, 1, tau_m=0.1, tau_r=0.1, phi="linear", dtype=torch.float64)])
    return gle.Simulation(net, dt=0.1, integrator=integrator)


def tones(omega, batch=8, steps=130):
    t = 0.1 * torch.arange(steps, dtype=torch.float64)[:, None]
    parts = (torch.sin(omega * k * t + 6.28 * torch.rand(batch, dtype=torch.float64)) for k in (0.6, 1.0, 1.7))
    return sum(parts).unsqueeze(-1)


def cosines(sim, omega):
    """Of the bottom layer's weights: GLE's, errors in sync, eligibility traces with transposed weights."""
    x = tones(omega)
    exact, *others = (
        rules.assign(rule, sim, x[:-8], x[8:], learn="W").grads
        for rule in (rules.BPTT(), rules.GLE(), rules.Instantaneous(), rules.RFLO(feedback="transpose"))
    )
    assert exact[0].W.norm() > 0  # a cosine with nothing would say nothing
    return [alignment.gradients(sim.network, own, exact)[0, "W"].cosine.item() for own in others]


# %% [markdown]
# ## Over frequency
#
# With a strong memory (τm/τr = 5), and with a weak one (1.5).

# %%
speeds = [0.1, 0.4, 1.6]
instant = gle.integrators.Euler("instant")
strong, weak = ([cosines(simulation(tau_r, instant), omega) for omega in speeds] for tau_r in (0.2, 1 / 1.5))
assert strong[0][0] > 0.9

figure, axes = plt.subplots(1, 2, figsize=(7, 2.4), sharey=True)
for ax, found, title in zip(axes, (strong, weak), ("τm/τr = 5", "τm/τr = 1.5")):
    ax.plot(speeds, found, "o-", label=["GLE", "errors in sync", "traces, transposed weights"])
    ax.axhline(0, color="gray", linewidth=0.5)
    ax.set(xscale="log", xlabel="ω τm", title=title)
axes[0].set_ylabel("cosine, bottom layer")
axes[0].legend(fontsize=7)
plt.show()

# %% [markdown]
# One small network is an anecdote: the [map](../analyses.md#where-gles-gradient-can-be-trusted) has five seeds and more
# of everything. What can be seen already: all rules are right for slow signals.
#
# ## Errors over time
#
# The exact error of the bottom layer beside GLE's, for slow and for fast signals. GLE's has the right phase; its fast
# parts are too large.

# %%
sim = simulation(0.2, instant)
figure, axes = plt.subplots(1, 2, figsize=(7, 2.2))
for ax, omega in zip(axes, (0.3, 3.0)):
    x = tones(omega, batch=1)
    for rule, style in ((rules.Adjoint(matched=True), "gray"), (rules.GLE(), "C0")):
        errors = rules.assign(rule, sim, x[:-8], x[8:]).errors[0][:, 0, 0]
        ax.plot(errors / errors[40:120].std(), color=style, label=type(rule).__name__)
    ax.set(title=f"ωτm = {omega}", xlabel="step", ylim=(-4, 4))
axes[0].legend(fontsize=7)
plt.show()

# %% [markdown]
# Measure it for your own network and series: [How good is the gradient?](../guide/gradients.md)
