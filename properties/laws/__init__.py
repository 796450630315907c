"""The laws that a backend must obey, one question per file.

A law is a function of a backend and a case that returns a judgement. It knows neither pytest nor Hypothesis:
the properties (`properties/test_*.py`) draw cases for it, and the script that reproduces a failure calls it
directly. Each module ends its docstring with "Does not see: ...", which says what its law cannot notice on
the cases that its property draws, and declares as `SEVERITY` what a violation of it does to a user
(`judging.severity`).
"""
