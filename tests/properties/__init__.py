"""Tests of what draws cases, judges them, runs the properties and reports."""
