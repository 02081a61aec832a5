"""Bounds of discrete latents: Table I of the paper."""
