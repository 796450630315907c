"""Tests of the benchmarks, and every benchmark once."""
