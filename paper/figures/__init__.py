"""Reconstructions and a map of the codes: figures 3 and 4 of the paper."""
