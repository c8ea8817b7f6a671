"""Generalized Latent Equilibrium: networks of representation and error neurons that learn online, with local rules.

Ellenberger, Haider et al., "Backpropagation through space, time and the brain", arXiv 2403.16933. Equation numbers in
this package are those of that paper.
"""

from gle import analysis, costs, engines, errors, export, integrators, neurons, rules, synapses
from gle.graph import Graph, Population, Projection
from gle.network import Layer, Network
from gle.neurons import Activation
from gle.noise import Noise
from gle.plasticity import SGD, Adam, Plasticity, TorchOptimizer
from gle.recording import Record
from gle.saving import load, save
from gle.simulate import Simulation
from gle.state import LayerState, Theta
from gle.synapses import Linear

__version__ = "0.1.0"

__all__ = [
    "SGD",
    "Activation",
    "Adam",
    "Graph",
    "Layer",
    "LayerState",
    "Linear",
    "Network",
    "Noise",
    "Plasticity",
    "Population",
    "Projection",
    "Record",
    "Simulation",
    "Theta",
    "TorchOptimizer",
    "analysis",
    "costs",
    "engines",
    "errors",
    "export",
    "integrators",
    "load",
    "neurons",
    "rules",
    "save",
    "synapses",
]
