"""Transformations that are no fault of some ops, each with the reason."""

EQUIVALENT: dict[str, str] = {}
