"""The laws that a backend must obey, one file a question.

A law is a function of a backend and a case that returns a judgement. It knows neither pytest nor Hypothesis: the
properties beside this package find cases for it, and the script that reproduces a failure calls it directly.
"""
