"""Looking at networks from outside: how gradients agree, spectra, receptive fields, the state-space view."""

from gle.analysis import alignment, receptive_fields, spectra, state_space

__all__ = ["alignment", "receptive_fields", "spectra", "state_space"]
