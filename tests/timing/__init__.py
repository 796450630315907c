"""Tests of what times an op."""
