"""What a network does to signals: its spectra, its state-space form, its receptive fields."""
