"""Tests of the backends: the interface, loading, NumPy, PyTorch and the example of the README."""
