"""gradspec verifies and benchmarks the gradients of array libraries."""

__version__ = "0.1.0"
