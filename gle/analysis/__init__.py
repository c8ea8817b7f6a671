"""Looking at networks from outside: how gradients agree, spectra, receptive fields, state-space view."""
