"""Networks that more than one command trains, and the baselines beside them."""
