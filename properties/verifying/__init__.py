"""Verifying one function in the process and the test of its author: `verify` and `parametrize`."""

from gradspec.properties.verifying.parametrize import parametrize
from gradspec.properties.verifying.report import Report
from gradspec.properties.verifying.verify import verify

__all__ = ["Report", "parametrize", "verify"]
