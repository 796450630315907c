"""Verifying one function in the process and test of its author: `gradspec.verify`, `gradspec.parametrize`."""
