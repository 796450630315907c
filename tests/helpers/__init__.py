"""Helpers for tests of several folders: backends with planted rules, runs of pytest as a user starts them."""
