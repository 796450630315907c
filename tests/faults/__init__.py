"""Faults on purpose: wrong implementations of every op, and the measure of how many of them the properties find.

    python -m tests.faults --help

A fault is one op done wrong in one way, on NumPy. Most are made by transformations that fit any op (the gradient is
negated, the last column is dropped, the cotangent is read in the order of memory); the rest are written for one op, some
after bugs that libraries once had. Each is tried as a user's backend would be, by the same properties with the default
profile's number of examples, until one of them fails.
"""
