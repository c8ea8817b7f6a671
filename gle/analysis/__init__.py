"""Looking at networks from outside: how gradients agree, spectra, receptive fields, the state-space view."""
