"""Tests of the benchmarks, and one run of every benchmark."""
