"""Tests of the backends: the interface, loading, NumPy, PyTorch, CuPy and the example of the README."""
