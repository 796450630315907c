"""Benchmarks of the kernels beside this file: forward and backward, at three sizes, beside the spec and torch."""

from gradspec.timing.asv import OpBenchmark


class Silu(OpBenchmark):
    op, backend, against = "silu", "benchmarks.my_kernels:backend", ("torch",)
