"""Verifying one function in the process and the test of its author: `verify` and `parametrize`."""

from gradspec.properties.verifying.each_law import parametrize
from gradspec.properties.verifying.one_function import verify
from gradspec.properties.verifying.report import Report

__all__ = ["Report", "parametrize", "verify"]
