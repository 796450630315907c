"""Tests of the CuPy backend and its kernels without a GPU, on the stand-ins of `tests.stand_ins`."""
