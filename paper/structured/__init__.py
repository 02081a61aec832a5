"""Structured codes on MNIST: levels and a masked prior, by length, sparsity and protocol."""
