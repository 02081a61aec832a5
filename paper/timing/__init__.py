"""Seconds per training step."""
