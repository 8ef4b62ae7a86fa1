"""The rain example's demo: one command that plays the whole loop on a cluster."""
