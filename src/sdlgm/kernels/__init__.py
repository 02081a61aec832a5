"""Triton kernels for a GPU: what takes many operations of torch and little arithmetic.

torch's operations remain the reference. They compute on the CPU, in double precision, and where
rows are very long; the kernels compute the same elsewhere, and tests compare the two.
"""
