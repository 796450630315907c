"""Tests of the CuPy backend and its kernels, without a GPU: on what `tests.stand_ins` has."""
