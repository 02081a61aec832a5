"""Counting digits: Table III of the paper."""
