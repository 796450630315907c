"""Tests of `tests.faults`, which measures how many planted faults the properties find."""
