"""Tests of the parts that draw cases, judge them, run the properties and report."""
