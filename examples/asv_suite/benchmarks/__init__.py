"""Benchmarks of the kernel beside this file: forward and backward, beside the spec and torch."""

from gradspec.timing.asv import OpBenchmark


class Silu(OpBenchmark):
    op, backend, against = "silu", "benchmarks.my_kernels:backend", ("torch",)
