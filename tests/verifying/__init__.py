"""Tests of `gradspec.verify` and `gradspec.parametrize`."""
