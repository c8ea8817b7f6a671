# %% [markdown]
# # GLE in ten minutes
#
# **What is Generalized Latent Equilibrium, and what does a network that learns by it look like from inside?**
#
# Backpropagation through time gets its credit by running the network backwards over what it has stored. A brain, and a
# chip, cannot. GLE's answer: neurons that look back in time have partners, *error neurons*, that look ahead by as much,
# so that credit and activity meet at the right moment while both run forwards.

# %%
import matplotlib.pyplot as plt
import torch

import gle

_ = torch.manual_seed(0)

# %% [markdown]
# ## One neuron
#
# A membrane with the time constant τm follows its input slowly. The rate looks ahead by τr. With τr = τm both cancel.

# %%
t = torch.arange(0, 20, 0.05)
x = (torch.sin(t) > 0).float().reshape(-1, 1, 1)  # [time, batch, features]
layer = gle.Layer(1, 3, tau_m=1.0, tau_r=torch.tensor([0.1, 0.5, 1.0]), phi="linear", bias=False)
net = gle.Network([layer])
with torch.no_grad():
    layer.W.fill_(1.0)
r, _ = gle.Simulation(net, dt=0.05).predict(x)

figure, axes = plt.subplots(figsize=(7, 2.2))
axes.plot(t, x[:, 0, 0], color="lightgray", label="input")
axes.plot(t, r[:, 0], label=["τr = 0.1: lags", "τr = 0.5", "τr = 1: instantaneous"])
axes.set_xlabel("time / τm")
axes.legend(loc="right", fontsize=7)
plt.show()

# %% [markdown]
# ## A network that learns while it runs
#
# Two layers of neurons with several memories, and an output. At every step errors come down, and every synapse changes
# by error times rate. The task: say what the input was one time unit ago, although no neuron remembers it as such.

# %%
signal = torch.randn(40, 8, 1).repeat_interleave(15, 0)  # eight streams, a new value every 1.5 time units
signal = torch.nn.functional.avg_pool1d(signal.permute(1, 2, 0), 9, 1, 4).permute(2, 0, 1)  # smoothed
target = torch.roll(signal, 10, 0)

net = gle.Network(
    [
        gle.Layer(1, 40, tau_m=torch.linspace(0.2, 1.5, 40), tau_r=0.2),
        gle.Layer(40, 40, tau_m=torch.linspace(0.2, 1.5, 40), tau_r=0.2),
        gle.Layer(40, 1, tau_m=0.1, tau_r=0.1, phi="linear"),
    ]
)
sim = gle.Simulation(net, dt=0.1, plasticity=gle.Plasticity("adam", lr=2e-3))
record = gle.Record("loss", every=5)
for _ in range(2):
    sim.run(signal, target, record=record)
loss = record["loss"].mean(-1)
assert loss[-40:].mean() < 0.5 * loss[:40].mean()

# %%
outputs, _ = sim.predict(signal)
figure, (left, right) = plt.subplots(1, 2, figsize=(7, 2.2))
left.semilogy(loss.unfold(0, 10, 10).mean(-1))
left.set(xlabel="5 time units each", ylabel="loss")
right.plot(signal[100:300, 0, 0], color="lightgray", label="input")
right.plot(target[100:300, 0, 0], color="gray", label="one time unit ago")
right.plot(outputs[100:300, 0, 0], label="output")
right.legend(fontsize=7)
plt.show()

# %% [markdown]
# ## What a synapse saw
#
# Rates and errors of the bottom layer are all that its synapses needed: their product, neuron by neuron, is ΔW.

# %%
inside = gle.Record("r", "e", layers=0)
sim.run(signal[:150], target[:150], record=inside)
figure, (left, right) = plt.subplots(1, 2, figsize=(7, 2.2))
left.plot(inside["r"][0][:, 0, ::8])
left.set(title="rates", xlabel="step")
right.plot(inside["e"][0][:, 0, ::8])
right.set(title="errors", xlabel="step")
plt.show()

# %% [markdown]
# Next: [series of your own](../guide/series.md), [how good is the gradient](gradient.py), and
# [when not to use it](../limits.md).
